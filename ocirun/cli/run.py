# SPDX-License-Identifier: Apache-2.0
"""run: create and start; in the foreground stay until the process ends, and end as it did.

Signals that reach us meanwhile go to the container's process.  Not forwarded are:

- KILL and STOP, which cannot be caught; TSTP, TTIN and TTOU, by which a shell stops and continues us;
- CHLD, on which we reap what we adopted; WINCH, on which the container's terminal gets the size of ours;
- PIPE and URG, which concern our own descriptors; ILL, TRAP, ABRT, BUS, FPE and SEGV, which tell of our own faults.

Before the process runs, a signal that asks to end us undoes what was begun.
"""

from __future__ import annotations

import os

from ocirun import _native
from ocirun.cli import FAILURE
from ocirun.cli.lifecycle import create_container, notify_socket
from ocirun.cli.signals import (
    RTMAX,
    RTMIN,
    SIGNALS,
    TERMINATING,
    handle,
    interrupt,
    raise_at_termination,
    what_was_put_off,
)
from ocirun.errors import KernelError, OcirunError
from ocirun.spec.state import PAUSED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from ocirun.cli.parser import Invocation
    from ocirun.cli.terminal import Terminal
    from ocirun.container import Container
    from ocirun.runtime import Runtime

_CONSOLE_DEADLINE_S = 10.0
_CHLD, _WINCH = SIGNALS["CHLD"], SIGNALS["WINCH"]
_NOT_FORWARDED = frozenset(
    SIGNALS[name]
    for name in (
        "KILL", "STOP", "TSTP", "TTIN", "TTOU", "CHLD", "WINCH", "PIPE", "URG",
        "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV",
    )
)  # fmt: skip
_FORWARDED = frozenset((*range(1, 32), *range(RTMIN, RTMAX + 1))) - _NOT_FORWARDED


def run(invocation: Invocation, runtime: Runtime) -> int:
    """The command `run`: the process's exit code, 128 + N after signal N; 0 with --detach."""
    raise_at_termination()
    if invocation.has("detach"):
        container = create_container(invocation, runtime)
        try:
            container.start(notify_socket=notify_socket())
        except BaseException as error:
            _undo(container, invocation, runtime, error)
            raise
        return 0
    if not invocation.has("no-subreaper"):
        _native.adopt_orphans()
    ours = theirs = -1
    if invocation.value("console-socket") is None:
        # Whether config.json wants a terminal shows when the library sends one.
        ours, theirs = _native.socketpair()
    try:
        container = create_container(invocation, runtime, theirs if theirs >= 0 else None)
        if theirs >= 0:
            os.close(theirs)
            theirs = -1
        code = _stay(container, invocation, runtime, ours)
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)
    return _finish(invocation, runtime, code)


def _stay(
    container: Container, invocation: Invocation, runtime: Runtime, console: int
) -> int:
    terminal = None
    with container:
        try:
            terminal = _receive_terminal(console)
            if terminal is not None:
                terminal.couple()
            foreground = Foreground(container, terminal)
            container.start(notify_socket=notify_socket())
            return foreground.wait()
        except BaseException as error:
            _undo(container, invocation, runtime, error)
            raise
        finally:
            if terminal is not None:
                terminal.close()


def _receive_terminal(console: int) -> Terminal | None:
    """Take the container's terminal, which was sent before `create` returned; None where there is none."""
    main = _native.receive_fd(console, _CONSOLE_DEADLINE_S) if console >= 0 else -1
    if main < 0:
        return None
    from ocirun.cli.terminal import Terminal

    return Terminal(main)


def _undo(
    container: Container, invocation: Invocation, runtime: Runtime, error: BaseException
) -> None:
    """As if never attempted; a start that failed by a hook has deleted the container already."""
    pid_file = invocation.value("pid-file")
    try:
        if pid_file is not None:
            os.unlink(pid_file)
        runtime.delete(container.id, force=True)
    except (OcirunError, OSError) as failure:
        error.add_note(f"while deleting the container: {failure}")


def _finish(invocation: Invocation, runtime: Runtime, code: int) -> int:
    if invocation.has("keep"):
        return code
    try:
        runtime.delete(invocation.arguments[0], force=True)
    except OcirunError as error:
        # How the process ended is what our caller waits for.
        runtime.warn(f"the container is not deleted: {error}")
        return code or FAILURE
    return code


class Foreground:
    """Passes signals on to the container's process from its start on, and what is typed and shown while we wait."""

    def __init__(self, container: Container, terminal: Terminal | None) -> None:
        self._container = container
        self._terminal = terminal
        self._pidfd = container.pidfd()
        self._is_started = False
        self._early: list[int] = []
        # A signal that arrives just before poll(2) would not end it; a byte in a pipe does.
        self._wakeup, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        handle((*_FORWARDED, _CHLD, _WINCH), self._take, wakeup)

    def wait(self) -> int:
        """Return the exit code of the process.  Its descriptors live as long as we do."""
        import gc
        import select

        # The launcher turns it off for commands that are over in a moment.  What there is by now stays to the end.
        gc.freeze()
        gc.enable()
        self._is_started = True
        for number in self._early:
            self._take(number)
        terminal = self._terminal
        ready: dict[int, int] = {}
        while self._pidfd not in ready:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.register(self._wakeup, select.POLLIN)
            for fd, events in terminal.interests() if terminal is not None else ():
                poll.register(fd, events)
            ready = dict(poll.poll())
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)  # the handler has run
            if terminal is not None:
                terminal.copy(ready)
        if terminal is not None:
            terminal.drain()
        return self._container.wait()

    def _take(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal; Python calls this between two of its own instructions."""
        number = what_was_put_off(number)
        if number == _CHLD:
            self._reap()
        elif number == _WINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif self._is_started or self._is_running():
            try:
                _native.pidfd_signal(self._pidfd, number)
            except KernelError:
                pass  # ESRCH: it has ended, and poll(2) is about to say so
        elif number in TERMINATING:
            interrupt(number, frame)
        else:
            self._early.append(number)

    def _is_running(self) -> bool:
        """Say whether there is a process to take signals, while `start` has yet to hear of it, or waits for more."""
        try:
            return self._container.state().status in (RUNNING, PAUSED)
        except OcirunError:
            return False

    def _reap(self) -> None:
        """Reap what was adopted and has ended.  The container's own process is left to Container.wait."""
        try:
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self._container.pid:
                    return
                os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:
            pass  # none is left, or the next signal came in between and its handler was here
