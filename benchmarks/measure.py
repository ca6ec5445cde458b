# SPDX-License-Identifier: Apache-2.0
"""Measure, compare, write the table.  See benchmarks/README.md for how to read it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profile_shape import docker_shape
from report import write_report

HERE = Path(__file__).resolve().parent
Times = dict[str, list[int]]


class Peer:
    """A runtime's command, run and timed by a small server of its own.

    crun 1.8 refuses the hybrid layout of cgroups, so its server lives in a mount namespace without the unified
    hierarchy; the time is taken inside, so entering it costs nothing.
    """

    def __init__(self, command: list[str], *, hide_unified: bool = False) -> None:
        server = [sys.executable, "-c", _SERVER, json.dumps(command)]
        if hide_unified and os.path.ismount("/sys/fs/cgroup/unified"):
            script = 'umount /sys/fs/cgroup/unified && exec "$@"'
            server = ["unshare", "--mount", "sh", "-c", script, "sh", *server]
        self._process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def time(self, *arguments: str) -> int:
        """Run the command with arguments; returns nanoseconds from spawn to exit."""
        return self._ask({"run": arguments})

    def _ask(self, question: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] != 0:
            raise RuntimeError(f"{question}: {answer}")
        return int(answer["ns"])

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


_SERVER = """
import json, os, sys, time
command = json.loads(sys.argv[1])
null = os.open("/dev/null", os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
for line in sys.stdin:
    argv = [*command, *json.loads(line)["run"]]
    before = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    status = os.waitpid(pid, 0)[1]
    print(json.dumps({"ns": time.perf_counter_ns() - before, "status": status}), flush=True)
"""


class Library:
    """A worker.py process."""

    def __init__(self, root: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: object) -> Any:
        """Send a command and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Bench:
    """Everything that is needed in a temporary directory on tmpfs, where state roots are on real hosts."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.directory = Path(tempfile.mkdtemp(prefix="ocirun-bench-", dir="/dev/shm"))
        self.ocirun = os.environ.get("OCIRUN") or str(Path(sys.executable).parent / "ocirun")
        self.floor = str(self.directory / "floor")
        self._compile()
        self.plain = self._bundle("plain", {})
        self.seccomp = self._bundle("seccomp", {"seccomp": docker_shape()})
        self.peers = {
            "ocirun": Peer([self.ocirun, "--root", str(self.directory / "ocirun")]),
            "runc": Peer([_which("runc"), "--root", str(self.directory / "runc")]),
            "crun": Peer([_which("crun"), "--root", str(self.directory / "crun")], hide_unified=True),
        }
        self.python = Peer([sys.executable, "-I", "-S", "-c", "pass"])
        self.library = Library(str(self.directory / "library"))
        self.serial = 0

    def _compile(self) -> None:
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation", "-static"]
        subprocess.run(["cc", *flags, "-o", self.floor, str(HERE / "floor.c")], check=True)
        self.true = str(self.directory / "true")
        subprocess.run(["cc", "-nostdlib", "-static", "-s", "-o", self.true, str(HERE / "true.c")], check=True)

    def _bundle(self, name: str, linux: dict[str, Any], mounts: int = 0) -> str:
        """What `runc spec` writes, without the terminal, running the static `true`."""
        bundle = self.directory / name
        rootfs = bundle / "rootfs"
        for directory in ("proc", "dev", "sys", "bin"):
            (rootfs / directory).mkdir(parents=True)
        shutil.copy(self.true, rootfs / "bin/true")
        subprocess.run([_which("runc"), "spec"], cwd=bundle, check=True)
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"terminal": False, "args": ["/bin/true"]}
        config["linux"] |= linux
        if mounts:
            (bundle / "source").mkdir()
            (rootfs / "m").mkdir()
        for index in range(mounts):
            (rootfs / "m" / str(index)).mkdir()
            source = str(bundle / "source")
            bind = {"destination": f"/m/{index}", "type": "bind", "source": source, "options": ["bind", "ro"]}
            config["mounts"].append(bind)
        path.write_text(json.dumps(config))
        return str(bundle)

    def floor_times(self, count: int) -> list[int]:
        """Run the floor program."""
        rootfs = f"{self.plain}/rootfs"
        result = subprocess.run([self.floor, rootfs, "/bin/true", str(count)], check=True, capture_output=True)
        return [int(line) for line in result.stdout.split()]

    def run(self, name: str, bundle: str) -> int:
        """Time one `NAME run`."""
        self.serial += 1
        return self.peers[name].time("run", "--bundle", bundle, f"bench-{os.getpid()}-{self.serial}")

    def interleaved(self, measure: dict[str, Any]) -> Times:
        """Take every measure in turn, round after round, so that all see the same machine."""
        times: Times = {name: [] for name in measure}
        for _ in range(self.rounds):
            for name, function in measure.items():
                result = function()
                times[name].extend(result if isinstance(result, list) else [result])
        return times

    def lives(self) -> Times:
        """create + start + wait + delete, in every way."""
        return self.interleaved(
            {
                "floor": lambda: self.floor_times(5),
                "library": lambda: self.library.ask("cycle", self.plain, 5),
                "ocirun run": lambda: self.run("ocirun", self.plain),
                "crun run": lambda: self.run("crun", self.plain),
                "runc run": lambda: self.run("runc", self.plain),
            }
        )

    def lives_with_seccomp(self) -> Times:
        """The same with a profile of Docker's shape."""
        return self.interleaved(
            {
                "library": lambda: self.library.ask("cycle", self.seccomp, 5),
                "ocirun run": lambda: self.run("ocirun", self.seccomp),
                "crun run": lambda: self.run("crun", self.seccomp),
                "runc run": lambda: self.run("runc", self.seccomp),
            }
        )

    def state(self) -> Times:
        """`state` of a created container against the interpreter's own start."""
        names = {}
        for name, peer in self.peers.items():
            names[name] = f"state-{name}"
            peer.time("create", "--bundle", self.plain, names[name])
        times = self.interleaved(
            {
                "python3 -I -S -c pass": self.python.time,
                **{
                    f"{name} state": (lambda peer=peer, name=name: peer.time("state", names[name]))
                    for name, peer in self.peers.items()
                },
            }
        )
        for name, peer in self.peers.items():
            peer.time("delete", "--force", names[name])
        return times

    def memory(self) -> dict[str, Any]:
        """PSS of a created container's init, in KiB."""
        result = {"ocirun": self.library.ask("pss", self.plain)["kib"]}
        for name in ("runc", "crun"):
            pid_file = self.directory / f"{name}.pid"
            self.peers[name].time("create", "--bundle", self.plain, "--pid-file", str(pid_file), "pss")
            rollup = Path(f"/proc/{pid_file.read_text()}/smaps_rollup").read_text()
            result[name] = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            self.peers[name].time("delete", "--force", "pss")
        return result

    def crowd(self, sizes: tuple[int, ...]) -> Times:
        """Library create with so many containers present."""
        times: Times = {}
        present = 0
        for size in sizes:
            present = self.library.ask("fill", self.plain, size - present)
            times[str(size)] = self.library.ask("create", self.plain, 5 * self.rounds)
        self.library.ask("empty")
        return times

    def large_caller(self) -> Times:
        """Library create from a small process and from one of 1 GB and 16 threads."""
        large = Library(str(self.directory / "large"))
        large.ask("weigh", 1024, 16)
        times = self.interleaved(
            {
                "small": lambda: self.library.ask("create", self.plain, 3),
                "1 GB, 16 threads": lambda: large.ask("create", self.plain, 3),
            }
        )
        large.close()
        return times

    def mounts(self, counts: tuple[int, ...]) -> Times:
        """Library create with so many bind mounts."""
        return {
            str(count): self.library.ask("create", self._bundle(f"mounts{count}", {}, count), self.rounds)
            for count in counts
        }

    def close(self) -> None:
        """Remove everything."""
        for peer in (*self.peers.values(), self.python):
            peer.close()
        self.library.close()
        shutil.rmtree(self.directory)


def _which(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


def _version(name: str) -> str:
    shown = subprocess.run([_which(name), "--version"], check=True, capture_output=True, text=True)
    return shown.stdout.splitlines()[0]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no crowd of 1,000")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    rounds = 10 if options.quick else options.rounds
    started = time.monotonic()
    bench = Bench(rounds)
    try:
        results = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]},"
            f" Python {platform.python_version()}",
            "peers": [_version("crun"), _version("runc")],
            "rounds": rounds,
            "lives": bench.lives(),
            "seccomp": bench.lives_with_seccomp(),
            "state": bench.state(),
            "memory": bench.memory(),
            "crowd": bench.crowd((0, 100) if options.quick else (0, 100, 1000)),
            "large": bench.large_caller(),
            "mounts": bench.mounts((0, 10, 100) if options.quick else (0, 10, 100, 1000)),
        }
    finally:
        bench.close()
    print(write_report(results, HERE / "results"))
    print(f"measured in {time.monotonic() - started:.0f} s")




if __name__ == "__main__":
    main()
