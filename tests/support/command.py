# SPDX-License-Identifier: Apache-2.0
"""Driving a runtime through its command line, the way an engine does."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.bundle import Bundle
from support.report import Json, parse_lines

TIMEOUT = float(os.environ.get("OCIRUN_TEST_TIMEOUT", "60"))
# crun refuses a hybrid cgroup tree, so it sees the v1 hierarchies only.
CRUN = (
    "unshare", "-m", "sh", "-c",
    'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"', "crun",
)  # fmt: skip
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def find_runtime(peer: str | None) -> tuple[str, ...] | None:
    """Return the command of the peer, or of ocirun; None when it is not installed."""
    if peer == "crun":
        return CRUN if shutil.which("crun") else None
    if peer is not None:
        return (peer,) if shutil.which(peer) else None
    if named := os.environ.get("OCIRUN"):
        return tuple(named.split())
    beside = Path(sys.executable).parent / "ocirun"
    if beside.exists():
        return (str(beside),)
    found = shutil.which("ocirun")
    return (found,) if found else None


class Result:
    """A finished command: `rc`, `stdout` (bytes), `stderr` (text), and the probe's lines."""

    def __init__(self, argv: Sequence[str], rc: int, stdout: bytes, stderr: str) -> None:
        self.argv = list(argv)
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr
        self.lines = parse_lines(stdout)

    def __repr__(self) -> str:
        return f"rc={self.rc} stdout={self.stdout[:2000]!r} stderr={self.stderr[:2000]!r}"

    def all(self, verb: str) -> list[Json]:
        """Return the lines that a verb of the probe printed."""
        return [line for line in self.lines if line.get("verb") == verb]

    def one(self, verb: str) -> Json:
        """Return the only line of a verb."""
        found = self.all(verb)
        assert len(found) == 1, f"{len(found)} lines of {verb}: {self!r}"
        return found[0]

    @property
    def report(self) -> Json:
        """Return the first report."""
        reports = self.all("report")
        assert reports, f"no report: {self!r}"
        return reports[0]

    @property
    def files(self) -> dict[str, Json]:
        """Return what stat and lstat printed, by path."""
        return {
            entry["path"]: entry
            for line in self.lines
            if line.get("verb") in ("stat", "lstat")
            for entry in line["files"]
        }

    @property
    def reads(self) -> dict[str, Any]:
        """Return what "read" printed, by path: the data, or the error's name as ("EPERM",)."""
        return {line["path"]: line["data"] if "data" in line else (line["errno"],) for line in self.all("read")}

    def outcomes(self, verb: str) -> dict[str, str]:
        """Return path -> "ok" or the error's name for verbs like open, write and mknod."""
        return {line["path"]: line.get("errno", "ok") for line in self.all(verb)}

    def ok(self) -> Result:
        """Fail unless the exit status is 0."""
        assert self.rc == 0, repr(self)
        return self

    def refused(self, *words: str) -> Result:
        """Fail unless the command failed with a message (no traceback) that has all the words."""
        assert self.rc != 0, f"succeeded: {self!r}"
        assert self.stderr.strip(), f"failed silently: {self!r}"
        assert "Traceback" not in self.stderr, repr(self)
        for word in words:
            if "crun" in self.argv and word == "does not exist":
                word = "No such file"  # crun's way to say it
            assert word.lower() in self.stderr.lower(), f"{word!r} is not in {self.stderr!r}"
        return self


class CreateFailed(AssertionError):
    """`create` failed; `result` says how."""

    def __init__(self, result: Result) -> None:
        super().__init__(repr(result))
        self.result = result


class Container:
    """A container made by `create`; its stdout is a pipe that this object reads."""

    def __init__(self, runtime: RuntimeCommand, bundle: Bundle, stdout: int, stderr: Path) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.id = bundle.id
        self._stdout = stdout
        self._stderr = stderr
        self._buffer = b""
        self.pid = int(runtime.state(self.id)["pid"])
        self._pidfd = os.pidfd_open(self.pid)
        self._code = -1

    def close(self) -> None:
        """Close this object's descriptors."""
        for fd in (self._stdout, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._stdout = self._pidfd = -1

    def start(self) -> Container:
        """`start`, which must succeed."""
        self.runtime.call("start", self.id).ok()
        return self

    def status(self) -> str:
        """Return the status that `state` prints."""
        return str(self.runtime.state(self.id)["status"])

    def kill(self, number: int | str = signal.SIGKILL, *options: str) -> Result:
        """`kill` with a signal; the result is not checked."""
        return self.runtime.call("kill", *options, self.id, str(int(number)) if isinstance(number, int) else number)

    def delete(self, *options: str) -> Result:
        """`delete`; the result is not checked."""
        return self.runtime.call("delete", *options, self.id)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the init process and return its exit status, 128+N for signals, -1 if unknown."""
        ready, _, _ = select.select([self._pidfd], [], [], timeout)
        assert ready, f"process {self.pid} of {self.id} does not end"
        self.reap()
        return self._code

    def reap(self) -> None:
        """Reap the init process if it has ended and is our child; `wait` still returns its exit status."""
        try:
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG) if self._pidfd >= 0 else None
        except ChildProcessError:
            return
        if info is not None:
            self._code = info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status

    def line(self, timeout: float = TIMEOUT) -> Json:
        """Return the next JSON line that the probe prints."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._stdout], [], [], left)[0]
            assert ready, f"no line within {timeout} s; so far {self._buffer!r}; {self.errors()}"
            chunk = os.read(self._stdout, 65536)
            assert chunk, f"end of output; so far {self._buffer!r}; stderr: {self.errors()}"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        (parsed,) = parse_lines(line + b"\n")
        return parsed

    def rest(self, timeout: float = TIMEOUT) -> bytes:
        """Return all output up to the end."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._stdout], [], [], left)[0]
            assert ready, f"output does not end; so far {self._buffer!r}"
            chunk = os.read(self._stdout, 65536)
            if not chunk:
                data, self._buffer = self._buffer, b""
                return data
            self._buffer += chunk

    def errors(self) -> str:
        """Return what was written to the container's stderr so far."""
        return self._stderr.read_text(errors="surrogateescape")

    def finish(self) -> Result:
        """`start`, wait for the end, `delete`; return the exit status and output as a Result."""
        self.start()
        output = self.rest()
        code = self.wait()
        self.delete().ok()
        return Result(["create/start"], code, output, self.errors())


class RuntimeCommand:
    """One runtime with a state root of its own; `cleanup` removes whatever tests left."""

    def __init__(self, name: str, argv: Sequence[str], workdir: Path) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.workdir = workdir
        self.root = workdir / "state"
        self.wrapper: tuple[str, ...] = ()
        self._containers: list[Container] = []
        self._ids: list[str] = []

    def under(self, *wrapper: str) -> RuntimeCommand:
        """Return the same runtime started through `wrapper` (Compat, faultk); shares the state root."""
        other = RuntimeCommand(self.name, self.argv, self.workdir)
        other.wrapper = wrapper
        other._containers = self._containers
        other._ids = self._ids
        return other

    def command(self, *words: str, options: Sequence[str] = ()) -> list[str]:
        """Return the whole command line."""
        return [*self.wrapper, *self.argv, "--root", str(self.root), *options, *words]

    def call(
        self,
        *words: str,
        options: Sequence[str] = (),
        stdin: bytes | int = subprocess.DEVNULL,
        timeout: float = TIMEOUT,
        env: dict[str, str] | None = None,
        cwd: Path | str | None = None,
        pass_fds: Sequence[int] = (),
        close_fds: bool = True,
        before_exec: Callable[[], object] | None = None,
        orphans: bool = False,
    ) -> Result:
        """Run one command to its end.  `options` are global options, `env` is added to a clean one.

        As conmon and the shims do, the test process reaps the containers that `delete` kills, and with `orphans`
        whatever ends meanwhile.
        """
        argv = self.command(*words, options=options)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
                stdout=out,
                stderr=err,
                env=ENVIRONMENT | (env or {}),
                cwd=cwd,
                pass_fds=pass_fds,
                close_fds=close_fds,
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509  (a test's own single-threaded process)
            )
            try:
                if isinstance(stdin, bytes):
                    process.communicate(stdin, timeout=timeout)
                elif orphans:
                    wait_for(process, timeout, lambda: reap(process.pid))
                else:
                    wait_for(process, timeout, self._reap_containers if "delete" in words[:1] else None)
            except subprocess.TimeoutExpired:
                end(process)
                err.seek(0)
                raise AssertionError(f"hung for {timeout} s: {argv}: {err.read()!r}") from None
            except BaseException:
                end(process)
                raise
            out.seek(0)
            err.seek(0)
            return Result(argv, process.returncode, out.read(), err.read().decode(errors="surrogateescape"))

    # -- verbs -----------------------------------------------------------------------------------

    def run(self, bundle: Bundle, *words: str, **keywords: Any) -> Result:
        """`run` the bundle in the foreground, to its end."""
        bundle.write()
        self._ids.append(bundle.id)
        return self.call("run", "--bundle", str(bundle.path), *words, bundle.id, **keywords)

    def report(self, bundle: Bundle, *words: str, **keywords: Any) -> Json:
        """`run` a bundle that must succeed; return its report."""
        return self.run(bundle, *words, **keywords).ok().report

    def try_create(self, bundle: Bundle, *words: str, stdin: Any = None, stdout: Any = None, **keywords: Any) -> Result:
        """`create`, with its output going to a file; the result is not checked."""
        bundle.write()
        self._ids.append(bundle.id)
        if stdin is not None:
            keywords["stdin"] = stdin
        return self.call("create", "--bundle", str(bundle.path), *words, bundle.id, **keywords)

    def create(
        self,
        bundle: Bundle,
        *words: str,
        options: Sequence[str] = (),
        stdin: int = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        close_fds: bool = True,
        before_exec: Callable[[], object] | None = None,
        verb: str = "create",
    ) -> Container:
        """`create` or `restore`, which must succeed; the container's stdout is a pipe to the returned object."""
        bundle.write()
        self._ids.append(bundle.id)
        reader, writer = os.pipe()
        errors = self.workdir / f"{bundle.id}.stderr"
        argv = self.command(verb, "--bundle", str(bundle.path), *words, bundle.id, options=options)
        try:
            with errors.open("wb") as err:
                process = subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=writer,
                    stderr=err,
                    env=ENVIRONMENT | (env or {}),
                    pass_fds=pass_fds,
                    close_fds=close_fds,
                    start_new_session=True,
                    preexec_fn=before_exec,  # noqa: PLW1509
                )
            os.close(writer)
            writer = -1
            try:
                code = wait_for(process, TIMEOUT)
            except BaseException:
                end(process)
                raise
            if code != 0:
                raise CreateFailed(Result(argv, code, b"", errors.read_text(errors="surrogateescape")))
            container = Container(self, bundle, reader, errors)
        except BaseException:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
            raise
        self._containers.append(container)
        return container

    def state(self, container_id: str) -> Json:
        """`state`, which must succeed, parsed."""
        document: Json = json.loads(self.call("state", container_id).ok().stdout)
        return document

    def remember(self, container_id: str) -> None:
        """Clean up a container that the test makes by other means."""
        self._ids.append(container_id)

    def _reap_containers(self) -> None:
        for container in self._containers:
            container.reap()

    def cleanup(self) -> None:
        """Remove every container that was made, by force, and reap what became our child."""
        for container_id in self._ids:
            reap()  # a pid namespace does not end before all that was executed in it is reaped
            if (self.root / container_id).exists():
                result = self.call("delete", "--force", container_id, orphans=True)
                if result.rc != 0:
                    print(result)  # should the test fail by what is left, this says why it is
        for container in self._containers:
            container.close()
        self._containers.clear()
        self._ids.clear()
        reap()


@contextmanager
def started(words: Sequence[str], **keywords: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a group of its own; afterwards it has ended, by itself or killed with its group."""
    process = subprocess.Popen(words, start_new_session=True, **keywords)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads its group, with the group, and wait for it: a failed test leaves none to the next one."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def reap(but: int = 0) -> None:
    """Reap the orphans that this subreaper inherited; at the latest when it comes to the process `but` it stops."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None or info.si_pid == but:
                return
            os.waitid(os.P_PID, info.si_pid, os.WEXITED)
        except ChildProcessError:
            return


def wait_for(process: subprocess.Popen[Any], timeout: float, meanwhile: Callable[[], None] | None = None) -> int:
    """Wait for a process, and do something now and then meanwhile.  `Popen.wait` with a timeout sleeps up to 50 ms longer.

    Raises subprocess.TimeoutExpired.
    """
    deadline = time.monotonic() + timeout
    with os.fdopen(os.pidfd_open(process.pid)) as pidfd:
        while not select.select([pidfd], [], [], 0.005 if meanwhile else timeout)[0]:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(process.args, timeout)
            if meanwhile:
                meanwhile()
    return process.wait()
