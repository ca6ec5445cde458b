# SPDX-License-Identifier: Apache-2.0
"""A running ocirun-init, as its parent sees it."""

from __future__ import annotations

import os
from errno import ECONNRESET, EPIPE, ESRCH

from ocirun import _native
from ocirun.errors import DeadlineExceeded, InitDied, InternalError, KernelError
from ocirun.init.failure import describe_failure
from ocirun.init.protocol import EXECUTING, FAILED, INIT_PID, PROCEED, Expected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.plan.plan import Plan

    #: Called when init waits at a message; returns a borrowed descriptor to send with the answer, or -1.
    Handler = Callable[[], int]


class InitProcess:
    """Init from its spawn to `created`.  Owns the pidfd and the sync socket; close() gives both up.

    `pid` and `pidfd` are those of the container's init once a plan of two steps has forked it.
    """

    __slots__ = ("_ahead", "_expected", "_id", "pid", "pidfd", "placed", "received", "sync", "two_steps")

    def __init__(self, plan: Plan, spawned: _native.Spawned, sync: int, container_id: str) -> None:
        self.pid = spawned.pid
        self.pidfd = spawned.pidfd
        self.placed = spawned.placed
        #: What came with the message that is being answered, borrowed by its handler; -1: nothing did.
        self.received = -1
        self.sync = sync
        self.two_steps = plan.two_steps
        self._expected = Expected(plan)
        self._ahead: tuple[int, int] | None = None
        self._id = container_id

    @classmethod
    def spawn(
        cls,
        plan: Plan,
        container_id: str,
        *,
        executable: int,
        fallback_directory: str,
        stdio: Sequence[int],
        keep: Sequence[int],
        inputs: Sequence[int],
        cgroup: int,
    ) -> InitProcess:
        """Start init on a plan.  All descriptors are borrowed; `inputs` are the plan's inputs after "sync"."""
        ours, theirs = _native.socketpair()
        try:
            content = _native.plan_file(plan.encode(), fallback_directory)
            try:
                spawned = _native.spawn(
                    executable,
                    content,
                    stdio,
                    keep,
                    [theirs, *inputs],
                    clone_flags=plan.clone_flags,
                    cgroup=cgroup,
                )
            finally:
                os.close(content)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return cls(plan, spawned, ours, container_id)

    def answer_ahead(self, step: tuple[int, int]) -> None:
        """Answer a message before init sends it, if it will be the next: then nobody has to wait for anybody."""
        if self._expected.next == step:
            self._ahead = step
            self._proceed(-1)

    def drive(self, handlers: dict[tuple[int, int], Handler], timeout_s: float | None) -> None:
        """Answer init's messages until it is `created`: each is matched with the plan, then its handler runs.

        Raises what init reported, InitDied, or DeadlineExceeded; the handlers' own errors pass through.
        """
        while not self._expected.done:
            message = self.receive(timeout_s)
            step = self._expected.take(message)
            if step == self._ahead:
                self._ahead = None
                continue
            if message.kind == INIT_PID:
                self._become(message)
                continue
            handler = handlers.get(step)
            self.received = message.rights
            try:
                rights = handler() if handler is not None else -1
            finally:
                if message.rights >= 0:
                    os.close(message.rights)
            self._proceed(rights)

    def wait_end(self, timeout_s: float) -> None:
        """Wait for the end of a plan that executes nothing; raises what `drive` does."""
        try:
            message = _native.receive(self.sync, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"ocirun-init did not end within {timeout_s:g} s", container_id=self._id) from None
        if message is not None and message.kind == FAILED:
            raise describe_failure(message, self._id)
        how = self._how()
        if message is not None or how != describe_status(0):
            raise InitDied(f"ocirun-init died {how}", container_id=self._id)

    def _proceed(self, rights: int) -> None:
        try:
            _native.send(self.sync, PROCEED, rights)
        except KernelError as error:
            if error.errno not in (EPIPE, ECONNRESET):
                raise
            self.receive(0)  # what it said last, or that it died
            raise InitDied("ocirun-init went away", container_id=self._id) from error

    def receive(self, timeout_s: float | None) -> _native.Message:
        """Return init's next message.  Raises what init reported, InitDied, or DeadlineExceeded."""
        try:
            message = _native.receive(self.sync, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"ocirun-init did not get on within {timeout_s:g} s", container_id=self._id
            ) from None
        if message is None:
            raise InitDied(f"ocirun-init died {self._how()}", container_id=self._id)
        if message.kind == FAILED:
            raise describe_failure(message, self._id)
        return message

    def _how(self) -> str:
        """Say how init ended; it is gone or about to be."""
        try:
            status = _native.wait(self.pidfd, 30.0)
        except (TimeoutError, KernelError):
            return "without a word"
        return describe_status(status)

    def _become(self, message: _native.Message) -> None:
        """The first process has forked init and is about to exit: reap it, and go on with init."""
        if message.rights < 0:
            raise InternalError("ocirun-init sent no pidfd")
        first, self.pid, self.pidfd = self.pidfd, message.pid, message.rights
        try:
            _native.wait(first, 10.0)
        finally:
            os.close(first)

    def kill(self) -> None:
        """End init and reap it; for an init that is gone already this does nothing."""
        kill_child(self.pid, self.pidfd)
        try:
            _native.wait(self.pidfd, 10.0)
        except TimeoutError:
            pass  # in uninterruptible sleep: the removal of the cgroup will name it

    def close(self) -> None:
        """Give up the descriptors; the process stays as it is."""
        os.close(self.sync)
        os.close(self.pidfd)


def kill_child(pid: int, pidfd: int) -> bool:
    """Send SIGKILL to a process that we started and have not reaped; False where it is gone."""
    try:
        _native.pidfd_signal(pidfd, 9)
    except KernelError as error:
        if error.errno == ESRCH:
            return False  # a zombie, or the host program reaped it
        try:
            os.kill(pid, 9)  # without pidfd_send_signal: the number is its own until it is reaped
        except ProcessLookupError:
            return False
    return True


def wait_executed(connection: int, container_id: str, timeout_s: float | None) -> None:
    """Wait on a connection until execve has happened.

    EXECUTING, then end-of-file, is success; FAILED at any point is what it says; end-of-file alone is death.
    """
    announced = False
    while True:
        try:
            message = _native.receive(connection, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the process was not executed within {timeout_s:g} s", container_id=container_id
            ) from None
        if message is None:
            if announced:
                return
            raise InitDied("ocirun-init died before it executed the process", container_id=container_id)
        if message.kind == FAILED:
            raise describe_failure(message, container_id)
        if message.kind != EXECUTING or announced:
            raise InternalError(f"message {message.kind} from ocirun-init after start")
        announced = True


def describe_status(status: int | None) -> str:
    """Return a wait status in words."""
    if status is None:
        return "without a word"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"by signal {number}" + (" (killed, perhaps for lack of memory)" if number == 9 else "")
    return f"with exit status {os.WEXITSTATUS(status)}"
