# SPDX-License-Identifier: Apache-2.0
"""Callers of a runtime that behave as the engines do that were recorded."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import Json, parse_lines

PR_SET_PDEATHSIG = 1


class Engine:
    """Calls the command as an engine does, and remembers which files it named."""

    options: Sequence[str] = ()
    env: dict[str, str] = {}
    stray: tuple[int, ...] = ()
    dies_with_parent = False
    #: What comes in on a pipe, or a descriptor; None: /dev/null.
    stdin: bytes | int | None = None

    def __init__(self, runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
        self.runtime = runtime
        self.bundle = bundle.write()
        self.log = workdir / "log.json"
        self.pid_file = workdir / "pid"
        self.output = workdir / "output"
        self.errors = workdir / "errors"
        runtime.remember(bundle.id)

    def call(self, *words: str, expect: int = 0, stdout: Any = subprocess.DEVNULL) -> bytes:
        """Call one command with what the engine leaves open."""
        libc = ctypes.CDLL(None)

        def as_child() -> None:
            if self.dies_with_parent:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                Path("/proc/self/oom_score_adj").write_text("1")
            for number in self.stray:
                pair = socket.socketpair()
                pair[0].setblocking(False)
                os.dup2(pair[0].fileno(), number, inheritable=True)
                pair[0].detach()
                pair[1].detach()

        options = [each.format(log=self.log) for each in self.options]
        with self.errors.open("wb") as err:  # a pipe would not end before the container does
            how: dict[str, Any] = {"input": self.stdin} if isinstance(self.stdin, bytes) else {}
            if not how:
                how["stdin"] = subprocess.DEVNULL if self.stdin is None else self.stdin
            done = subprocess.run(
                self.runtime.command(*words, options=options),
                stdout=stdout, stderr=err, check=False, timeout=60, **how,
                cwd=self.bundle.path, env={"PATH": os.environ["PATH"]} | self.env, preexec_fn=as_child,
                close_fds=False,
            )  # fmt: skip
        assert done.returncode == expect, (words, done, self.errors.read_text())
        return done.stdout or b""

    def create(self, *more: str) -> None:
        """create, with the container's output in a file."""
        with self.output.open("wb") as out:
            self.call(
                "create", "--bundle", str(self.bundle.path), "--pid-file", str(self.pid_file), *more,
                self.bundle.id, stdout=out,
            )  # fmt: skip

    def report(self) -> Json:
        """Return what the probe said about itself."""
        (report,) = [line for line in parse_lines(self.output.read_bytes()) if line["verb"] == "report"]
        return report

    def wait_for_output(self, word: bytes) -> None:
        """Wait until the container has said something."""
        deadline = time.monotonic() + 60
        while word not in self.output.read_bytes():
            assert time.monotonic() < deadline, self.output.read_bytes()
            time.sleep(0.005)

    def last_message(self) -> str:
        """Return what the engine would show: the last error of the log."""
        records = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert all({"level", "msg", "time"} <= record.keys() for record in records)
        return str([record["msg"] for record in records if record["level"] == "error"][-1])


class Shim(Engine):
    """containerd-shim-runc-v2, for docker, ctr and the CRI."""

    options = ("--log", "{log}", "--log-format", "json")
    env = {"GOMAXPROCS": "2"}
    stray = (3, 9)
    dies_with_parent = True


class Conmon(Engine):
    """conmon and podman."""

    options = ("--log-format=json", "--log", "{log}")
    env = {"_OCI_SYNCPIPE": "9", "_OCI_STARTPIPE": "10", "XDG_RUNTIME_DIR": "/run/user/0"}


class Buildah(Engine):
    """buildah, which leaves a dozen pipes open."""

    env = {"XDG_RUNTIME_DIR": "/run/user/0"}
    stray = (3, 4, 8, 9, 10, 11, 12, 13, 14)
