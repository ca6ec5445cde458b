# SPDX-License-Identifier: Apache-2.0
"""Staying with a process of a container until it ends: for run and exec.

Signals that reach us meanwhile go to the process.  Not forwarded are:

- KILL and STOP, which cannot be caught; TSTP, TTIN and TTOU, by which a shell stops and continues us;
- CHLD, on which we reap what we adopted; WINCH, on which the container's terminal gets the size of ours;
- PIPE and URG, which concern our own descriptors; ILL, TRAP, ABRT, BUS, FPE and SEGV, which tell of our own faults.
"""

from __future__ import annotations

import os

from ocirun import _native
from ocirun.cli.signals import (
    RTMAX,
    RTMIN,
    SIGNALS,
    TERMINATING,
    handle,
    interrupt,
)
from ocirun.closing import Closing
from ocirun.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ocirun.cli.parser import Invocation
    from ocirun.cli.terminal import Terminal
    from ocirun.container import Container
    from ocirun.execution import ExecProcess

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


class Foreground:
    """Passes signals on to a process, from when it may run on, and what is typed and shown while we wait.

    `is_running` says, where a signal finds us, whether there is a process that it is for.
    """

    def __init__(self, is_running: Callable[[FrameType | None], bool]) -> None:
        self._process: Container | ExecProcess | None = None
        self._terminal: Terminal | None = None
        self._is_running = is_running
        self._pidfd = -1
        self._is_started = False
        self._early: list[int] = []
        self._arrived: list[int] = []
        self._is_taking = False
        handle(_FORWARDED, self._take)

    def follow(self, process: Container | ExecProcess) -> None:
        """From now on signals are for this process, which is reaped by its own wait(), and by nobody before."""
        self._pidfd = process.pidfd()
        self._process = process
        handle((_CHLD, _WINCH), self._take)

    def attach(self, terminal: Terminal | None) -> None:
        """Take the process's terminal, coupled with ours, if it has one."""
        self._terminal = terminal
        if terminal is not None:
            terminal.resize()  # ours may have changed before we could be told so

    def start(self) -> None:
        """Take the process for started: every signal is for it."""
        self._is_started = True
        early, self._early = self._early, []
        for number in early:
            self._take(number)

    def wait(self) -> int:
        """Return the exit code of the process, which has been started.  Its descriptors live as long as we do."""
        import gc
        import select

        # The launcher turns it off for commands that are over in a moment.  What there is by now stays to the end.
        gc.freeze()
        gc.enable()
        self.start()
        terminal = self._terminal
        ready: dict[int, int] = {}
        while self._pidfd not in ready:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            for fd, events in terminal.interests() if terminal is not None else ():
                poll.register(fd, events)
            ready = dict(poll.poll())
            if terminal is not None:
                terminal.copy(ready)
        if terminal is not None:
            terminal.drain()
        assert self._process is not None
        return self._process.wait()

    def _take(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal; Python calls this between two of its own instructions, those of this method too.

        What arrives while one is looked at waits for it: else handlers would run within handlers without end.
        """
        self._arrived.append(number)
        while self._arrived and not self._is_taking:
            self._is_taking = True
            try:
                while self._arrived:
                    self._take_one(self._arrived.pop(0), frame)
            except BaseException:
                self._arrived.clear()  # we end, and that once only
                raise
            finally:
                self._is_taking = False

    def _take_one(self, number: int, frame: FrameType | None) -> None:
        if number == _CHLD:
            self._reap()
        elif number == _WINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif self._is_started or self._is_running(frame):
            self._send(number)
        elif number in TERMINATING:
            interrupt(number, frame)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        if self._pidfd < 0:
            self._early.append(number)
            return
        try:
            _native.pidfd_signal(self._pidfd, number)
        except KernelError:
            pass  # ESRCH: it has ended, and poll(2) is about to say so

    def _reap(self) -> None:
        """Reap what was adopted and has ended.  The process itself is left to its own wait()."""
        assert self._process is not None
        try:
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self._process.pid:
                    return
                os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:
            pass  # none is left, or the next signal came in between and its handler was here


class Console(Closing):
    """Where the process's terminal comes from; whether it has one shows when the library sends it, or does not.

    Owns a pair of sockets and, in the end, the terminal.  With --console-socket somebody else gets that.
    """

    def __init__(self, invocation: Invocation) -> None:
        self._ours = self._theirs = -1
        self._terminal: Terminal | None = None
        if invocation.value("console-socket") is None:
            self._ours, self._theirs = _native.socketpair()

    def close(self) -> None:
        """Give our terminal its mode back, and up what we have."""
        if self._terminal is not None:
            self._terminal.close()
        for fd in (self._ours, self._theirs):
            if fd >= 0:
                os.close(fd)
        self._ours = self._theirs = -1

    def socket(self) -> int | None:
        """Return the end that the library sends the terminal through, borrowed; None where it is not for us."""
        return self._theirs if self._theirs >= 0 else None

    def take(self) -> Terminal | None:
        """Couple the terminal with ours, when the library has returned; None where there is none."""
        if self._theirs < 0:
            return None
        os.close(self._theirs)
        self._theirs = -1
        main = _native.receive_fd(self._ours, _CONSOLE_DEADLINE_S)
        if main < 0:
            return None
        from ocirun.cli.terminal import Terminal

        self._terminal = Terminal(main)
        self._terminal.couple()
        return self._terminal


def terminal_size() -> tuple[int, int] | None:
    """Return the rows and columns of our own terminal, None if we have none."""
    for fd in (0, 1, 2):
        if os.isatty(fd):
            columns, rows = os.get_terminal_size(fd)
            return rows, columns
    return None
