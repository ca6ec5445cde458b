# SPDX-License-Identifier: Apache-2.0
"""Programs of the host that the runtime runs to their end: hooks, newuidmap.

Each is started through ocirun-init, so it gets what a container gets: no descriptor beyond 0-2, default signals, a
session of its own, and exactly the environment that it is given.
"""

from __future__ import annotations

import os
import select
import time

from ocirun import _native
from ocirun.init.process import kill_child, wait_executed
from ocirun.plan import ops
from ocirun.plan.encode import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OUTPUT_KEPT = 4096
_PIPE_CAPACITY = 65536
_EXECUTE_S = 30.0
_END_S = 30.0


class Finished:
    """How a program ended: `status` as waitpid(2) has it, None where somebody else reaped it (before Linux 6.15).

    `output` is the end of what it wrote to standard output and standard error; `timed_out` that it was killed for it.
    """

    __slots__ = ("output", "status", "timed_out")

    def __init__(self, status: int | None, output: bytes, *, timed_out: bool = False) -> None:
        self.status = status
        self.output = output
        self.timed_out = timed_out

    @property
    def text(self) -> str:
        """The last lines of the output in one."""
        return " | ".join(self.output.decode("utf-8", "replace").strip().splitlines()[-5:])


class ProgramRunner:
    """Runs programs.  `open_init` is `Runtime.open_init`, called for each of them."""

    __slots__ = ("_fallback_directory", "_open_init")

    def __init__(self, open_init: Callable[[], int], fallback_directory: str) -> None:
        self._open_init = open_init
        self._fallback_directory = fallback_directory

    def run(
        self,
        path: str,
        args: Sequence[str],
        env: Sequence[str],
        *,
        directory: str,
        stdin: bytes,
        timeout_s: float | None,
        origin: str,
    ) -> Finished:
        """Run a program to its end, with all that it started in its group where it takes longer than *timeout_s*.

        Errors: OcirunError if it could not be executed.
        """
        output, output_end = os.pipe2(os.O_CLOEXEC)
        ours, theirs = _native.socketpair()
        pidfd = -1
        try:
            operations = [
                ops.setsid(),
                ops.chdir(directory, origin),
                ops.announce(),
                ops.execute(tuple(args), tuple(env), ops.HOOK_UMASK, origin, path),
            ]
            spawned = self._spawn(encode(operations, 1, 1, 0), stdin, output_end, theirs)
            pid, pidfd = spawned.pid, spawned.pidfd
            os.close(output_end)
            os.close(theirs)
            output_end = theirs = -1
            try:
                wait_executed(ours, "", _EXECUTE_S)
                return _wait(pid, pidfd, output, timeout_s)
            except BaseException:
                # Also when we are interrupted: nothing that we started may go on behind us.
                _end(pid, pidfd)
                raise
        finally:
            for fd in (output, output_end, ours, theirs, pidfd):
                if fd >= 0:
                    os.close(fd)

    def _spawn(self, plan_bytes: bytes, stdin_bytes: bytes, output: int, sync: int) -> _native.Spawned:
        plan = _native.plan_file(plan_bytes, self._fallback_directory)
        try:
            # A file, not a pipe: nobody has to write while the program may not read.
            stdin = _native.plan_file(stdin_bytes, self._fallback_directory)
            try:
                os.lseek(stdin, 0, os.SEEK_SET)
                executable = self._open_init()
                try:
                    return _native.spawn(executable, plan, (stdin, output, output), (), (sync,))
                finally:
                    os.close(executable)
            finally:
                os.close(stdin)
        finally:
            os.close(plan)


def _wait(pid: int, pidfd: int, output: int, timeout_s: float | None) -> Finished:
    """Wait for the program to end and drain its output."""
    deadline = time.monotonic() + timeout_s if timeout_s else None
    kept = b""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left))
        if output in ready:
            # More than is kept is read and thrown away: the program must not block on us.
            content = os.read(output, _PIPE_CAPACITY)
            kept = (kept + content)[-_OUTPUT_KEPT:]
            if not content:
                poll.unregister(output)
        if pidfd in ready:
            # What it wrote was in the pipe.  Not until end-of-file, nor until there is no more: a daemon that it left
            # may hold the pipe open, and write for ever.
            return Finished(_native.wait(pidfd, _END_S), kept)
        if left == 0:
            _end(pid, pidfd)
            return Finished(None, kept, timed_out=True)


def _end(pid: int, pidfd: int) -> None:
    """End a program, and all that it started in its group, and reap it."""
    if not kill_child(pid, pidfd):
        return  # reaped: the number may be somebody else's
    _kill_group(pid)
    _native.wait(pidfd, _END_S)


def _kill_group(pid: int) -> None:
    """Kill what the program started as well: it leads a session, so its process group has its pid."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        pass
