# SPDX-License-Identifier: Apache-2.0
"""Measure, compare, write the table.  See benchmarks/README.md for how to read it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from peers import Command, Library, NotMeasuredError
from profile_shape import docker_shape, many_rules
from report import write_report

HERE = Path(__file__).resolve().parent
Times = dict[str, list[int]]
Measure = Callable[[], "int | list[int]"]


class Bench:
    """The programs, bundles and processes of one run.

    State roots are on tmpfs, as /run is on real hosts.  Programs and root filesystems are not, since /dev/shm is
    mounted noexec in some places.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.problems: dict[str, str] = {}
        self.state = Path(tempfile.mkdtemp(prefix="ocirun-bench-", dir="/dev/shm"))
        self.work = Path(tempfile.mkdtemp(prefix="ocirun-bench-"))
        self.servers: list[Command | Library] = []
        self.created: list[tuple[Command, str]] = []
        self.serial = 0
        self.compile()
        self.plain = self.bundle("plain")
        self.seccomp = self.bundle("seccomp", {"seccomp": docker_shape()})
        ocirun = os.environ.get("OCIRUN") or str(Path(sys.executable).parent / "ocirun")
        self.runtimes = {
            "ocirun": self.command(ocirun, "--root", str(self.state / "ocirun")),
            "crun": self.command(which("crun"), "--root", str(self.state / "crun"), hide_unified=True),
            "runc": self.command(which("runc"), "--root", str(self.state / "runc")),
        }
        self.floor = self.command(str(self.work / "floor"))
        # The interpreter itself, not the virtual environment's link to it, which costs a little more to start.
        self.python = self.command(os.path.realpath(sys.executable), "-I", "-S", "-c", "pass")
        self.library = self.library_process("library")

    # --- what is needed ---------------------------------------------------------------------------------------------

    def compile(self) -> None:
        """Build the floor program and the payload."""
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation", "-static"]
        subprocess.run(["cc", *flags, "-o", str(self.work / "floor"), str(HERE / "floor.c")], check=True)
        payload = ["-nostdlib", "-static", "-s", "-o", str(self.work / "true"), str(HERE / "true.c")]
        subprocess.run(["cc", *payload], check=True)

    def bundle(self, name: str, linux: Mapping[str, Any] | None = None, mounts: int = 0) -> str:
        """What `runc spec` writes, without the terminal, running the static `true`."""
        bundle = self.work / name
        rootfs = bundle / "rootfs"
        for directory in ("proc", "dev", "sys", "bin"):
            (rootfs / directory).mkdir(parents=True)
        shutil.copy(self.work / "true", rootfs / "bin/true")
        subprocess.run([which("runc"), "spec"], cwd=bundle, check=True)
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"terminal": False, "args": ["/bin/true"]}
        config["linux"] |= linux or {}
        (bundle / "source").mkdir()
        for index in range(mounts):
            (rootfs / "m" / str(index)).mkdir(parents=True)
            source = str(bundle / "source")
            bind = {"destination": f"/m/{index}", "type": "bind", "source": source, "options": ["bind", "ro"]}
            config["mounts"].append(bind)
        path.write_text(json.dumps(config))
        return str(bundle)

    def command(self, *argv: str, hide_unified: bool = False) -> Command:
        """Start a process that runs and times a command."""
        server = Command(list(argv), self.work / f"stderr{len(self.servers)}", hide_unified=hide_unified)
        self.servers.append(server)
        return server

    def library_process(self, root: str) -> Library:
        """Start a process that uses the library."""
        server = Library(self.state / root)
        self.servers.append(server)
        return server

    def close(self) -> None:
        """Remove everything, also after a failure."""
        for command, container in self.created:
            try:
                command.time("delete", "--force", container)
            except NotMeasuredError as problem:
                print(f"{container}: {problem}", file=sys.stderr)
        for server in self.servers:
            server.close()
        shutil.rmtree(self.state)
        shutil.rmtree(self.work)

    # --- single measures --------------------------------------------------------------------------------------------

    def floor_times(self, count: int, *more: str) -> list[int]:
        """Lives of a container in bare C, in one process."""
        argv = [str(self.work / "floor"), f"{self.plain}/rootfs", "/bin/true", str(count), *more]
        result = subprocess.run(argv, check=False, capture_output=True, text=True)
        if result.returncode != 0:
            raise NotMeasuredError(result.stderr.strip())
        return [int(line) for line in result.stdout.split()]

    def run(self, name: str, bundle: str) -> int:
        """One `NAME run`."""
        return self.runtimes[name].time("run", "--bundle", bundle, self.fresh_id())

    def create(self, name: str, *more: str) -> str:
        """`NAME create`; returns the id of a container that `close` deletes."""
        command, container = self.runtimes[name], self.fresh_id()
        self.created.append((command, container))
        try:
            command.time("create", "--bundle", self.plain, *more, container)
        except NotMeasuredError:
            self.created.pop()
            raise
        return container

    def fresh_id(self) -> str:
        """An id that no container has."""
        self.serial += 1
        return f"bench-{os.getpid()}-{self.serial}"

    def interleaved(self, measures: Mapping[str, Measure], rounds: int | None = None) -> Times:
        """Take every measure in turn, round after round, so that all see the same machine.

        The order is reversed in every other round, so that none is always the one that runs while the kernel is still
        taking the same other one's namespaces apart.  A first round is not counted: it fills caches, and shows what
        does not work.  What fails has no times, and its reason is in `problems`.
        """
        times: Times = {name: [] for name in measures}
        working = list(measures)
        for turn in range((self.rounds if rounds is None else rounds) + 1):
            for name in working[:: -1 if turn % 2 else 1]:
                try:
                    result = measures[name]()
                except NotMeasuredError as problem:
                    self.problems[name] = str(problem)
                    times[name] = []
                    working.remove(name)
                    continue
                if turn:
                    times[name].extend(result if isinstance(result, list) else [result])
        return times


# --- the parts: each answers {label: nanoseconds of every run} -------------------------------------------------------


def lives(bench: Bench, _quick: bool) -> Times:
    """create, start, wait, delete of `/bin/true`, in every way."""
    return bench.interleaved(
        {
            "floor": lambda: bench.floor_times(5),
            "floor, process": lambda: bench.floor.time(f"{bench.plain}/rootfs", "/bin/true", "once"),
            "library": lambda: bench.library.ask("cycle", bench.plain, 5),
            "ocirun run": lambda: bench.run("ocirun", bench.plain),
            "crun run": lambda: bench.run("crun", bench.plain),
            "runc run": lambda: bench.run("runc", bench.plain),
        }
    )


def seccomp(bench: Bench, _quick: bool) -> Times:
    """The same with a seccomp profile of the shape of Docker's default."""
    program = str(bench.work / "filter")

    def floor() -> list[int]:
        if not os.path.exists(program):
            bench.library.ask("filter", bench.seccomp, program)
        return bench.floor_times(5, program)

    return bench.interleaved(
        {
            "floor, seccomp": floor,
            "library, seccomp": lambda: bench.library.ask("cycle", bench.seccomp, 5),
            "ocirun run, seccomp": lambda: bench.run("ocirun", bench.seccomp),
            "crun run, seccomp": lambda: bench.run("crun", bench.seccomp),
            "runc run, seccomp": lambda: bench.run("runc", bench.seccomp),
        }
    )


def rules(bench: Bench, _quick: bool) -> Times:
    """Library create where a seccomp profile of so many rules has to be compiled first."""
    measures: dict[str, Measure] = {}
    for count in (10, 100, 400):
        bundle = bench.bundle(f"rules{count}", {"seccomp": many_rules(count)})
        measures[f"create, {count} rules"] = partial(bench.library.ask, "uncached", bundle, 1)
    return bench.interleaved(measures)


def state(bench: Bench, _quick: bool) -> Times:
    """`state` of a created container, and what starting an interpreter costs."""
    names: dict[str, str] = {}

    def one(name: str) -> int:
        if name not in names:
            names[name] = bench.create(name)
        return bench.runtimes[name].time("state", names[name])

    return bench.interleaved(
        {
            "python3 -I -S -c pass": bench.python.time,
            "ocirun state": lambda: one("ocirun"),
            "crun state": lambda: one("crun"),
            "runc state": lambda: one("runc"),
        }
    )


def crowd(bench: Bench, quick: bool) -> Times:
    """Create with so many created containers present.

    The floor shows how much of it is the kernel's, and a state root of its own how much comes from the state root.
    """
    full, empty = bench.library_process("crowd"), bench.library_process("empty")
    times: Times = {}
    present = 0
    try:
        for size in (0, 100) if quick else (0, 100, 1000):
            present = full.ask("fill", bench.plain, size - present)
            measures: dict[str, Measure] = {
                f"create, {size} present": lambda: full.ask("create", bench.plain, 3),
                f"create, {size} present in another root": lambda: empty.ask("create", bench.plain, 3),
                f"floor, {size} present": lambda: bench.floor_times(3),
            }
            times |= bench.interleaved(measures)
        full.ask("empty")
    except NotMeasuredError as problem:
        bench.problems["create with others present"] = str(problem)
    return times


def caller(bench: Bench, _quick: bool) -> Times:
    """Library create, by the size of the calling process."""
    large = bench.library_process("large")
    try:
        large.ask("weigh", 1024, 16)
    except NotMeasuredError as problem:
        bench.problems["large caller"] = str(problem)
    times = bench.interleaved(
        {
            "create, small caller": lambda: bench.library.ask("create", bench.plain, 3),
            "create, caller of 1 GB and 16 threads": lambda: large.ask("create", bench.plain, 3),
        }
    )
    bench.servers.remove(large)
    large.close()
    return times


def mounts(bench: Bench, quick: bool) -> Times:
    """Library create and `run` of the others, by the number of bind mounts."""
    counts = (0, 10, 100) if quick else (0, 10, 100, 1000)
    bundles = {count: bench.bundle(f"mounts{count}", {}, count) for count in counts}
    by_library: dict[str, Measure] = {}
    by_others: dict[str, Measure] = {}
    for count, bundle in bundles.items():
        by_library[f"create, {count} mounts"] = partial(bench.library.ask, "create", bundle, 1)
        for name in ("crun", "runc"):
            by_others[f"{name} run, {count} mounts"] = partial(bench.run, name, bundle)
    # A thousand mounts take runc a good part of a second.
    return bench.interleaved(by_library) | bench.interleaved(by_others, max(3, bench.rounds // 10))


def memory(bench: Bench, _quick: bool) -> dict[str, int | None]:
    """PSS of a created container's init, in KiB."""
    result: dict[str, int | None] = dict.fromkeys(("ocirun", "crun", "runc"))
    for name in result:
        try:
            if name == "ocirun":
                result[name] = bench.library.ask("pss", bench.plain)["kib"]
                continue
            pid_file = bench.work / f"{name}.pid"
            bench.create(name, "--pid-file", str(pid_file))
        except NotMeasuredError as problem:
            bench.problems[f"memory of {name}"] = str(problem)
            continue
        rollup = Path(f"/proc/{pid_file.read_text().strip()}/smaps_rollup").read_text()
        result[name] = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return result


PARTS: dict[str, Callable[[Bench, bool], Any]] = {
    part.__name__: part for part in (lives, seccomp, rules, state, memory, crowd, caller, mounts)
}


# --- about the machine -----------------------------------------------------------------------------------------------


def which(name: str) -> str:
    """Find a command, also where only root looks."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


def version(name: str) -> str:
    """The first line of what a peer says about itself."""
    shown = subprocess.run([which(name), "--version"], check=True, capture_output=True, text=True)
    return shown.stdout.splitlines()[0].replace(" version", "")


def machine() -> str:
    """The kind of machine: nothing that would tell one from another of its kind."""
    words = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in words if line.startswith("model name")), platform.machine())
    layout = "version 2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "version 1"
    if os.path.ismount("/sys/fs/cgroup/unified"):
        layout = "hybrid"
    kernel = platform.release().split("-")[0]
    python = platform.python_version()
    return f"{model}, {os.cpu_count()} processors, Linux {kernel}, cgroups {layout}, Python {python}"


def commit() -> str:
    """The commit that is measured, or nothing outside a repository."""
    argv = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout.strip()


def interrupted(_number: int, _frame: object) -> None:
    """Leave in order when told to stop, so that no container stays behind."""
    raise KeyboardInterrupt


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure ocirun beside its peers.")
    parser.add_argument("part", nargs="*", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller crowds: under a minute")
    parser.add_argument("--rounds", type=int, help="rounds of each part (default: 60; with --quick: 8)")
    parser.add_argument("--output", type=Path, help="where the report goes (default: results/, if all is measured)")
    options = parser.parse_args()
    if unknown := set(options.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, interrupted)
    rounds = options.rounds or (8 if options.quick else 60)
    started = time.monotonic()
    results: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": [os.getloadavg()[0]],
        "commit": commit(),
        "peers": [version("crun"), version("runc")],
        "rounds": rounds,
        "parts": {},
    }
    bench = Bench(rounds)
    try:
        for name, part in PARTS.items():
            if options.part and name not in options.part:
                continue
            print(f"{time.monotonic() - started:4.0f} s: {name}", file=sys.stderr)
            title = (part.__doc__ or name).splitlines()[0]
            results["parts"][name] = {"title": title, "values": part(bench, options.quick)}
    finally:
        bench.close()
    results["problems"] = bench.problems
    results["load"].append(os.getloadavg()[0])
    directory = options.output or (None if options.part else HERE / "results")
    print(write_report(results, directory))
    print(f"measured in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
