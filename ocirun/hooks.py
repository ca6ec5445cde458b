# SPDX-License-Identifier: Apache-2.0
"""Hooks of the runtime namespace: prestart, createRuntime, poststart, poststop.

Each is started through ocirun-init, so it gets what a container gets: no descriptor beyond 0-2, default signals, a
session of its own, and exactly the environment that config.json gives it.

Spec: config.md#posix-platform-hooks
"""

from __future__ import annotations

import os
import select
import time

from ocirun import _native
from ocirun.errors import HookError, OcirunError
from ocirun.init.process import describe_status, kill_child, wait_executed
from ocirun.plan import ops
from ocirun.plan.encode import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.spec.model import Hook

_OUTPUT_KEPT = 4096


class HookRunner:
    """Runs hooks for one container.  `open_init` is `Runtime.open_init`, called for each of them."""

    __slots__ = ("_bundle", "_fallback_directory", "_id", "_open_init")

    def __init__(
        self, container_id: str, bundle: str, open_init: Callable[[], int], fallback_directory: str
    ) -> None:
        self._id = container_id
        self._bundle = bundle
        self._open_init = open_init
        self._fallback_directory = fallback_directory

    def run_all(self, hooks: Sequence[Hook], kind: str, state: bytes) -> None:
        """Run hooks in order; the first failure ends it.  Errors: HookError."""
        for index, hook in enumerate(hooks):
            self._run(hook, kind, index, state)

    def run_each(self, hooks: Sequence[Hook], kind: str, state: bytes) -> list[HookError]:
        """Run all hooks in order, whatever they do, and return the failures (poststop: runtime.md step 13)."""
        failures = []
        for index, hook in enumerate(hooks):
            try:
                self._run(hook, kind, index, state)
            except HookError as error:
                failures.append(error)
        return failures

    def _run(self, hook: Hook, kind: str, index: int, state: bytes) -> None:
        output, output_end = os.pipe2(os.O_CLOEXEC)
        ours, theirs = _native.socketpair()
        pidfd = -1
        try:
            pid, pidfd = self._spawn(hook, kind, index, state, output_end, theirs)
            os.close(output_end)
            os.close(theirs)
            output_end = theirs = -1
            try:
                self._wait_executed(ours, kind, index, hook)
                what = self._wait(pid, pidfd, output, hook)
            except BaseException:
                # Also when we are interrupted: nothing that we started may go on behind us.
                _end(pid, pidfd)
                raise
            if what is not None:
                raise self._failure(hook, kind, index, what)
        finally:
            for fd in (output, output_end, ours, theirs, pidfd):
                if fd >= 0:
                    os.close(fd)

    def _spawn(
        self, hook: Hook, kind: str, index: int, state: bytes, output: int, sync: int
    ) -> tuple[int, int]:
        origin = f"/hooks/{kind}/{index}"
        args = hook.args or (hook.path,)
        operations = [
            ops.setsid(),
            ops.chdir(self._bundle, origin),
            ops.announce(),
            ops.execute(args, hook.env, ops.HOOK_UMASK, origin, hook.path),
        ]
        plan = _native.plan_file(encode(operations, 1, 1, 0), self._fallback_directory)
        try:
            # A file, not a pipe: nobody has to write while the hook may not read.
            stdin = _native.plan_file(state, self._fallback_directory)
            try:
                os.lseek(stdin, 0, os.SEEK_SET)
                executable = self._open_init()
                try:
                    spawned = _native.spawn(executable, plan, (stdin, output, output), (), (sync,))
                finally:
                    os.close(executable)
            finally:
                os.close(stdin)
        finally:
            os.close(plan)
        return spawned.pid, spawned.pidfd

    def _wait_executed(self, connection: int, kind: str, index: int, hook: Hook) -> None:
        try:
            wait_executed(connection, self._id, 30.0)
        except OcirunError as error:
            raise self._failure(hook, kind, index, str(error)) from error

    def _wait(self, pid: int, pidfd: int, output: int, hook: Hook) -> str | None:
        """Wait for the hook to end and drain its output; returns what is wrong with how it ended."""
        deadline = time.monotonic() + hook.timeout if hook.timeout else None
        kept = b""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(output, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = dict(poll.poll(left))
            if output in ready:
                # More than is kept is read and thrown away: the hook must not block on us.
                content = os.read(output, 65536)
                kept = (kept + content)[-_OUTPUT_KEPT:]
                if not content:
                    poll.unregister(output)
            elif pidfd in ready:
                # Not until end-of-file of the output: a daemon that the hook left may hold it open.
                status = _native.wait(pidfd, 5.0)
                return self._judge(status, kept)
            elif not ready:
                _end(pid, pidfd)
                return f"timed out after {hook.timeout} s and was killed"

    def _judge(self, status: int | None, output: bytes) -> str | None:
        if status == 0 or status is None:
            # None: the host process reaped it, before Linux 6.15; there is nothing to judge by.
            return None
        text = output.decode("utf-8", "replace").strip()
        last = f", output: {' | '.join(text.splitlines()[-5:])}" if text else ""
        return f"ended {describe_status(status)}{last}"

    def _failure(self, hook: Hook, kind: str, index: int, what: str) -> HookError:
        return HookError(
            f"/hooks/{kind}/{index}: {kind} hook {hook.path}: {what}",
            kind=kind,
            index=index,
            container_id=self._id,
        )


def _end(pid: int, pidfd: int) -> None:
    """End a hook, and all that it started in its group, and reap it."""
    if not kill_child(pid, pidfd):
        return  # reaped: the number may be somebody else's
    _kill_group(pid)
    _native.wait(pidfd, 5.0)


def _kill_group(pid: int) -> None:
    """Kill what the hook started as well: it leads a session, so its process group has its pid."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        pass


