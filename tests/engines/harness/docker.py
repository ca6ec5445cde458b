# SPDX-License-Identifier: Apache-2.0
"""The docker daemon and its command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.engine import TIMEOUT, Engine, eventually

RUNTIME = "tested"  # what the runtime under test is called in the daemon's configuration
CLIENT = "/usr/bin/docker"  # of the distribution, as the daemon is
INTERRUPT = Path("/run/interrupt")  # after how many seconds the runtime "interrupted" dies in exec; where it is not: never
INTERRUPTED = """\
#!/bin/sh
case " $* " in
*" exec "*)
	if [ -e {interrupt} ]; then
		{runtime} "$@" <&0 &
		sleep "$(cat {interrupt})"
		kill -KILL $!
		wait $!
		exit
	fi ;;
esac
exec {runtime} "$@"
"""
SETTINGS = {
    "default-runtime": RUNTIME,
    "storage-driver": "overlay2",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "init-path": "/usr/bin/docker-init",
    "experimental": True,  # checkpoints
}


class Docker(Engine):
    """`docker("run", …)` runs the command; `up` and `look` are what scenarios say most."""

    def up(self, *words: str | Path) -> str:
        """Start a container in the background and return its id."""
        return self("run", "-d", *words).ok().text

    def look(self, name: str, template: str) -> str:
        """Return what `inspect` says of a container, an image, a network."""
        return self("inspect", "--format", template, name).ok().text

    def probe(self, *words: str | Path, verb: Sequence[str] = ("report",)) -> Any:
        """Run a container that reports how it was made: *words* are the options of `docker run`."""
        return self("run", "--rm", *words, "busybox", "/probe", *verb).ok().json

    def pid(self, name: str) -> int:
        return int(self.look(name, "{{.State.Pid}}"))

    def gone(self, name: str) -> bool:
        return self("inspect", name).rc != 0

    def clear(self) -> None:
        """Remove all containers, volumes and networks."""
        if containers := self("ps", "--all", "--quiet").ok().lines:
            self("rm", "--force", "--volumes", *containers).ok()
        if volumes := self("volume", "ls", "--quiet").ok().lines:
            self("volume", "rm", "--force", *volumes).ok()
        if networks := self("network", "ls", "--quiet", "--filter", "type=custom").ok().lines:
            self("network", "rm", *networks).ok()


class Daemon:
    """A docker daemon that keeps its data in *directory* and its state in *run*.

    *wrapper* goes before its command: `unshare --net` for a second one, which would take the bridge from the first.
    """

    def __init__(self, directory: Path, run: Path, runtime: str, wrapper: Sequence[str] = (), **settings: Any) -> None:
        self.directory, self.run, self.wrapper = directory, run, wrapper
        directory.mkdir(parents=True, exist_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        commands = directory / "bin"  # BuildKit knows no other name than runc
        self.buildkit = directory / "buildkit"  # what it was called with
        write_command(commands / "runc", f'#!/bin/sh\necho "$*" >>{self.buildkit}\nexec {runtime} "$@"\n')
        write_command(commands / "interrupted", INTERRUPTED.format(runtime=runtime, interrupt=INTERRUPT))
        self.env = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
        runtimes = {
            RUNTIME: {"path": runtime},
            "withargs": {"path": runtime, "runtimeArgs": ["--debug"]},
            "interrupted": {"path": str(commands / "interrupted")},
        }
        self.config = directory / "daemon.json"
        self.config.write_text(json.dumps({**SETTINGS, "runtimes": runtimes, **settings}))
        self.docker = Docker((CLIENT, "--host", f"unix://{run}/docker.sock"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ("--config-file", self.config, "--data-root", self.directory / "root", "--exec-root", self.run)
        words = (*words, "--pidfile", self.run / "docker.pid", "--host", f"unix://{self.run}/docker.sock")
        with open(self.directory / "log", "ab") as log:
            argv = [*self.wrapper, "dockerd", *map(str, words)]
            self.process = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self._answers, f"the daemon does not answer: {self.directory}/log")

    def _answers(self) -> bool:
        assert self.process and self.process.poll() is None, f"dockerd ended: {self.log()[-3000:]}"
        return self.docker("version").rc == 0

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the daemon a signal that ends it, and wait for that."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(TIMEOUT)
        self.process = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.end()


def write_command(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def load(docker: Docker, images: Path, names: Iterable[str]) -> None:
    """Load images of `harness/images.py`."""
    for name in names:
        docker("load", "--input", images / f"{name}.docker.tar").ok()
