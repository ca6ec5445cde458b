# SPDX-License-Identifier: Apache-2.0
"""The runtime under test, driven through its command line and nothing else."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import machine
from .case import Failed, version

TIMEOUT = float(os.environ.get("CONFORMANCE_TIMEOUT", "60"))
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
Json = dict[str, Any]


def decode(value: Any) -> Any:
    """Each character of the probe's strings stands for one byte: make text of them."""
    if isinstance(value, str):
        return value.encode("latin-1").decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    return value


def parse_lines(output: bytes) -> list[Json]:
    """Return the JSON objects among the lines of the probe's output."""
    found = []
    for line in output.splitlines():
        if line.startswith(b"{"):
            try:
                found.append(decode(json.loads(line)))
            except ValueError:
                continue
    return found


class Done:
    """A command of the runtime that has ended."""

    def __init__(self, argv: Sequence[str], status: int, out: bytes, err: str) -> None:
        self.argv = list(argv)
        self.status = status
        self.out = out
        self.err = err

    @property
    def ok(self) -> bool:
        """Say whether the operation succeeded."""
        return self.status == 0

    def __str__(self) -> str:
        return f"exit status {self.status}; stderr: {self.err.strip()[-600:] or '(nothing)'}"


class Output:
    """What a container's program wrote, and how it ended (128 + N: by signal N; -1: somebody else waited for it)."""

    def __init__(self, status: int, out: bytes) -> None:
        self.status = status
        self.out = out
        self.lines = parse_lines(out)

    def __str__(self) -> str:
        return f"exit status {self.status}, output {self.out[:600]!r}"

    def all(self, verb: str) -> list[Json]:
        """Return what one verb of the probe printed."""
        return [line for line in self.lines if line.get("verb") == verb]

    def one(self, verb: str) -> Json:
        """Return what it printed the only time that it ran."""
        found = self.all(verb)
        if len(found) != 1:
            raise Failed(f"the probe's verb {verb!r} ran once", f"one line of {verb}", str(self))
        return found[0]

    @property
    def report(self) -> Json:
        """Return the probe's report about itself."""
        return self.one("report")

    def outcome(self, verb: str, path: str | None = None) -> str:
        """Return "ok" or the name of the errno."""
        for line in self.all(verb):
            if path in (None, line.get("path"), line.get("call")):
                return str(line.get("errno") or "ok")
        raise Failed(f"the probe tried {verb} {path or ''}", "a line of output", str(self))

    def files(self) -> dict[str, Json]:
        """Return what `stat` and `lstat` said, by path."""
        return {
            entry["path"]: entry for line in self.lines if line["verb"] in ("stat", "lstat") for entry in line["files"]
        }


class Runtime:
    """A runtime's command, with a state root of its own."""

    def __init__(self, command: str, place: Path) -> None:
        self.argv = shlex.split(command)
        self.name = Path(self.argv[0]).name
        self.root = place / "state"
        self._features: Json | bool | None = False

    def call(
        self,
        *words: str,
        stdin: int | None = None,
        stdout: int | None = None,
        cwd: str | Path | None = None,
        timeout: float = TIMEOUT,
        pass_fds: Sequence[int] = (),
        umask: int = -1,
        orphans: bool = False,
    ) -> Done:
        """Run one operation to its end.  Standard input is empty, and never /dev/null: a runtime may chown it.

        With `orphans` every other child that ends meanwhile is reaped, as an engine does; its exit status is lost.
        """
        argv = [*self.argv, "--root", str(self.root), *words]
        empty, writer = os.pipe()
        os.close(writer)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=empty if stdin is None else stdin,
                    stdout=out if stdout is None else stdout,
                    stderr=err,
                    env=ENVIRONMENT,
                    cwd=cwd,
                    pass_fds=pass_fds,
                    umask=umask,
                    start_new_session=True,
                )
                if not ended(process, timeout, orphans):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise Failed(f"{words[0]} comes to an end", f"within {timeout:.0f} s", "it hangs")
                status = process.wait()
            finally:
                os.close(empty)
            out.seek(0)
            err.seek(0)
            return Done(argv, status, out.read(), err.read().decode(errors="replace"))

    def state(self, container_id: str) -> Json:
        """Return the state document of a container that must exist."""
        done = self.call("state", container_id)
        if not done.ok:
            raise Failed("state of a container that exists", "a state document", str(done))
        try:
            document: Json = json.loads(done.out)
        except ValueError:
            raise Failed("state prints JSON", "a JSON document", done.out[:400]) from None
        return document

    def exists(self, container_id: str) -> bool:
        """Say whether the runtime knows the container."""
        return self.call("state", container_id).ok

    def features(self) -> Json | None:
        """Return the features document, None where the runtime has none."""
        if self._features is False:
            done = self.call("features")
            try:
                self._features = json.loads(done.out) if done.ok else None
            except ValueError:
                self._features = None
        assert not isinstance(self._features, bool)
        return self._features

    def versions(self) -> tuple[str, str]:
        """Return what `--version` says first, and the version of the specification that the runtime claims."""
        done = self.call("--version")
        lines = done.out.decode(errors="replace").splitlines() or ["?"]
        spec = next((line.partition(":")[2].strip() for line in lines if line.startswith("spec:")), "1.0")
        if features := self.features():
            spec = str(features.get("ociVersionMax", spec))
        return lines[0], spec

    def spec_version(self) -> tuple[int, ...]:
        """Return the version of the specification that the runtime claims, as numbers."""
        return version(self.versions()[1])


def ended(process: subprocess.Popen[bytes], seconds: float, orphans: bool) -> bool:
    """Say whether a child ends in time.  Popen.wait would find out up to 50 ms later."""
    deadline = time.monotonic() + seconds
    pidfd = os.pidfd_open(process.pid)
    try:
        while not select.select([pidfd], [], [], 0.005 if orphans else seconds)[0]:
            if time.monotonic() >= deadline:
                return False
            if orphans:
                machine.reap(but=process.pid)
    finally:
        os.close(pidfd)
    return True


class Container:
    """A container that `create` made.  Its standard output is a pipe to this object."""

    def __init__(self, runtime: Runtime, container_id: str, pid: int, reader: int) -> None:
        self.runtime = runtime
        self.id = container_id
        self.pid = pid
        self.reader = reader
        self.pidfd = os.pidfd_open(pid)
        self.buffer = b""

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.pidfd)
        if self.reader >= 0:
            os.close(self.reader)

    def start(self) -> Container:
        """Start it; that must succeed."""
        done = self.try_start()
        if not done.ok:
            raise Failed("start succeeds", "exit status 0", str(done))
        return self

    def try_start(self) -> Done:
        """Start it."""
        return self.runtime.call("start", self.id)

    def kill(self, *words: str) -> Done:
        """Send a signal."""
        return self.runtime.call("kill", self.id, *words)

    def delete(self, *words: str) -> Done:
        """Delete it."""
        return self.runtime.call("delete", *words, self.id)

    def state(self) -> Json:
        """Return its state document."""
        return self.runtime.state(self.id)

    @property
    def status(self) -> str:
        """Return its status."""
        return str(self.state().get("status"))

    def wait_status(self, wanted: str, seconds: float = TIMEOUT) -> str:
        """Return the status as soon as it is the wanted one, or what it is in the end."""
        deadline = time.monotonic() + seconds
        while (status := self.status) != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return status

    def alive(self) -> bool:
        """Say whether its process has not ended."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Wait for its process; return the exit status (see Output)."""
        if not select.select([self.pidfd], [], [], seconds)[0]:
            raise Failed("the container's process comes to an end", f"within {seconds:.0f} s", "it runs on")
        try:
            info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            return -1
        if info is None:
            return -1
        return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status

    def read(self, seconds: float, until_line: bool) -> bytes:
        """Read to the end of a line, or to the end of the output."""
        deadline = time.monotonic() + seconds
        while not (until_line and b"\n" in self.buffer):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.reader], [], [], left)[0]:
                raise Failed("the container's program writes", "more output", f"nothing after {self.buffer[:400]!r}")
            chunk = os.read(self.reader, 65536)
            if not chunk:
                if until_line:
                    raise Failed("the container's program writes", "more output", f"the end after {self.buffer[:400]!r}")
                break
            self.buffer += chunk
        if until_line:
            data, _, self.buffer = self.buffer.partition(b"\n")
            return data + b"\n"
        data, self.buffer = self.buffer, b""
        return data

    def line(self, seconds: float = TIMEOUT) -> Json:
        """Return the next line that the probe prints."""
        while True:
            if found := parse_lines(self.read(seconds, until_line=True)):
                return found[0]

    def finish(self) -> Output:
        """Wait for the end and delete the container; return what it wrote."""
        out = self.read(TIMEOUT, until_line=False)
        status = self.wait()
        done = self.delete()
        if not done.ok:  # the runtime may be slower to see the end than its parent
            self.wait_status("stopped")
            done = self.delete()
        if not done.ok:
            raise Failed("delete of a stopped container succeeds", "exit status 0", str(done))
        return Output(status, out)
