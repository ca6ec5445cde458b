# SPDX-License-Identifier: Apache-2.0
"""How long users wait: podman, docker and ctr with each runtime, taking turns, in the sandbox of tests/engines."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import commit, machine, version
from peers import Command, NotMeasuredError
from report import part_rows

HERE = Path(__file__).resolve().parent
ENGINES = HERE.parent / "tests/engines"
RUNTIMES = ("ocirun", "crun", "runc")
PEERS = ("runc", "crun")

Times = dict[str, list[int]]

IMAGE = "docker.io/library/busybox:latest"

#: Of each engine: its options with a runtime, and what is measured as the words after them.
_LIFE = ("run", "--rm", "--network=none")
MEASURES: dict[str, dict[str, tuple[str, ...]]] = {
    "docker": {
        "docker run --rm --network=none": (*_LIFE, "--runtime={runtime}", "busybox", "true"),
        "docker exec": ("exec", "sleeper-{runtime}", "true"),
    },
    "podman": {
        "podman run --rm --network=none": (*_LIFE, "busybox", "true"),
        "podman exec": ("exec", "sleeper-{runtime}", "true"),
    },
    "ctr": {
        "ctr run --rm": ("run", "--rm", "--runc-binary={path}", IMAGE, "bench-{runtime}", "true"),
    },
}


# --- outside ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="benchmarks/engines", description="Measure engines with each runtime.")
    parser.add_argument("engine", nargs="*", help=f"which: {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="where the report goes (default: results/, if all is measured)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.engine) - set(MEASURES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    engines = options.engine or list(MEASURES)
    if options.inside:
        options.inside.write_text(json.dumps(measure_inside(engines, options.rounds)))
        return
    load = [os.getloadavg()[0]]
    found = in_sandbox([*engines, "--rounds", str(options.rounds)])
    load.append(os.getloadavg()[0])
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit() or 'unknown'}. {machine()};"
        f" load {load[0]:.1f} at the start, {load[1]:.1f} at the end."
        f" Beside {' and '.join(map(version, PEERS))}, under {', '.join(found['engines'])}. {options.rounds} rounds."
    )
    text = document(about, found["times"], found["problems"])
    directory = options.output or (None if options.engine else HERE / "results")
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "engines.md").write_text(text, encoding="utf-8")
    print(text)


def in_sandbox(arguments: list[str]) -> dict[str, Any]:
    """Run this file again in the sandbox, and return what it measured.

    Version 1 alone is mounted there: crun 1.8 refuses to work with the unified hierarchy beside it.
    """
    sys.path.insert(0, str(ENGINES))
    images = Path(subprocess.run(
        [sys.executable, "-c", "from runpy import run_path; print(run_path('run')['make_images']())"],
        cwd=ENGINES, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.strip())  # fmt: skip
    work = Path(tempfile.mkdtemp(prefix="ocirun-bench-", dir="/var/tmp"))
    try:
        for name in ("layers", "data", "home"):
            (work / name).mkdir()
        work.chmod(0o755)  # the sandbox hides what ordinary users may not enter
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(work / "home"),
            "LANG": "C.UTF-8",
            "OCIRUN": os.environ["OCIRUN"],
            "IMAGES": str(images),
            "DATA": str(work / "data"),
        }
        inner = [sys.executable, str(HERE / "engines.py"), *arguments, "--inside", str(work / "times")]
        python = [Path(each) for each in {sys.prefix, sys.base_prefix} if not each.startswith("/usr")]
        keep = [work / "layers", HERE.parent, *python, images, work]
        words = [str(ENGINES / "sandbox"), "--legacy", *map(str, keep), "--", *inner]
        subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, check=True)
        found: dict[str, Any] = json.loads((work / "times").read_text())
        return found
    finally:
        shutil.rmtree(work)


def document(about: str, times: Times, problems: dict[str, str]) -> str:
    """Return the page."""
    how = "Ratios of medians of runs that took turns, and of the fastest runs. How to read it: [README](../README.md)."
    lines = ["# Under real engines", "", about, "", how, ""]
    lines += ["| with ocirun / with | runc | of the minima | crun | of the minima |", "|---|---|---|---|---|"]
    for what in (each for measures in MEASURES.values() for each in measures):
        if f"{what}, ocirun" in times:
            cells = [
                _ratio(times[f"{what}, ocirun"], times[f"{what}, {peer}"], statistic)
                for peer in PEERS
                for statistic in (statistics.median, min)
            ]
            lines.append(f"| `{what}` | {' | '.join(cells)} |")
    lines += ["", *part_rows(times), ""]
    if problems:
        lines += ["## Not measured", "", *(f"- {name}: `{problem}`" for name, problem in problems.items()), ""]
    return "\n".join(lines)


def _ratio(ours: list[int], theirs: list[int], statistic: Callable[[list[int]], float]) -> str:
    return f"{statistic(ours) / statistic(theirs):.2f}" if ours and theirs else "not measured"


# --- inside ----------------------------------------------------------------------------------------------------------


def measure_inside(engines: list[str], rounds: int) -> dict[str, Any]:
    """Start the engines, let the runtimes take turns under each, and return all the times."""
    paths = {name: os.environ["OCIRUN"] if name == "ocirun" else f"/usr/sbin/{name}" for name in RUNTIMES}
    paths = {name: path if os.path.exists(path) else str(shutil.which(name)) for name, path in paths.items()}
    data = Path(os.environ["DATA"])
    times: Times = {}
    problems: dict[str, str] = {}
    versions = []
    with ExitStack() as daemons:
        for engine in engines:
            commands = daemons.enter_context(STARTS[engine](data, paths))
            versions.append(run(*VERSIONS[engine]).splitlines()[0].split(",")[0].replace(" version", ""))
            measures = {
                f"{what}, {name}": (Command(commands[name], data / f"log-{engine}-{name}"), words, name)
                for what, words in MEASURES[engine].items()
                for name in RUNTIMES
            }
            for number in range(rounds + 1):
                order = list(measures.items())
                for label, (command, words, name) in order if number % 2 else reversed(order):
                    try:
                        spent = command.time(*(word.format(runtime=name, path=paths[name]) for word in words))
                    except NotMeasuredError as problem:
                        problems[label] = str(problem)
                        continue
                    if number:  # the first fills caches
                        times.setdefault(label, []).append(spent)
                print(f"{engine}: round {number} of {rounds}", file=sys.stderr, flush=True)
            for command, _, _ in measures.values():
                command.close()
    ordered = [f"{what}, {name}" for engine in engines for what in MEASURES[engine] for name in RUNTIMES]
    return {"engines": versions, "times": {label: times.get(label, []) for label in ordered}, "problems": problems}


@contextmanager
def docker(data: Path, paths: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """dockerd with a runtime of each name, and a sleeper with each."""
    words = ["dockerd", "--data-root", data / "docker", "--iptables=false", "--bridge=none"]
    words += ["--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    for name, path in paths.items():
        words += ["--add-runtime", f"{name}={path}"] if name != "runc" else []
    with daemon(data / "dockerd.log", words, lambda: run("docker", "info")):
        run("docker", "load", "-i", f"{os.environ['IMAGES']}/busybox.docker.tar")
        for name in paths:
            options = ("--network=none", f"--runtime={name}", f"--name=sleeper-{name}")
            run("docker", "run", "--detach", *options, "busybox", "sleep", "1d")
        yield {name: [str(shutil.which("docker"))] for name in paths}
        run("docker", "rm", "-f", *(f"sleeper-{name}" for name in paths))


@contextmanager
def podman(data: Path, paths: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """podman with a runtime of each name, as `ocirun setup podman` would have it."""
    conf = data / "containers.conf"
    runtimes = "".join(f'{name} = ["{path}"]\n' for name, path in paths.items())
    conf.write_text(
        '[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = []\n[engine]\n'
        f'runtime_supports_json = ["crun", "runc", "ocirun"]\n[engine.runtimes]\n{runtimes}'
    )
    os.environ["CONTAINERS_CONF"] = str(conf)
    places = ["--root", data / "storage", "--runroot", "/run/storage", "--tmpdir", "/run/libpod"]
    base = [str(shutil.which("podman")), *map(str, places), "--network-config-dir", str(data / "net")]
    base += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    run(*base, "load", "-i", f"{os.environ['IMAGES']}/busybox.docker.tar")
    commands = {name: [*base, "--runtime", name] for name in paths}
    for name, command in commands.items():
        run(*command, "run", "-d", "--network=none", f"--name=sleeper-{name}", "busybox", "sleep", "1d")
    yield commands
    run(*base, "rm", "--all", "--force", "--time", "0")


@contextmanager
def ctr(data: Path, paths: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """containerd, asked by its own client: no CRI service, no network."""
    config = data / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{data}/containerd"\nstate = "/run/bench-containerd"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "/run/bench.sock"\n'
    )
    base = [str(shutil.which("ctr")), "--address", "/run/bench.sock"]
    with daemon(data / "containerd.log", ["containerd", "--config", config], lambda: run(*base, "version")):
        run(*base, "image", "import", f"{os.environ['IMAGES']}/busybox.oci.tar")
        yield dict.fromkeys(paths, base)


VERSIONS = {"docker": ("dockerd", "--version"), "podman": ("podman", "--version"), "ctr": ("ctr", "--version")}
STARTS: dict[str, Callable[[Path, dict[str, str]], Any]] = {"docker": docker, "podman": podman, "ctr": ctr}


@contextmanager
def daemon(log: Path, words: list[Any], ask: Callable[[], object]) -> Iterator[None]:
    """Run a daemon until it answers, and as long as it is needed."""
    with log.open("wb") as file, subprocess.Popen(list(map(str, words)), stdout=file, stderr=file) as process:
        try:
            for _ in range(600):
                try:
                    ask()
                    break
                except subprocess.CalledProcessError:
                    if process.poll() is not None:
                        raise SystemExit(f"{words[0]}: {log.read_text()[-2000:]}") from None
                    time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60)


def run(*words: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(words)}: {done.stderr}", file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, words)
    return done.stdout


if __name__ == "__main__":
    main()
