# SPDX-License-Identifier: Apache-2.0
"""Signals: their names and numbers, and what they do to a command that is creating a container.

The module `signal` is not used: it imports `enum`, which takes longer than a kill.
Kernel: signal(7), in the numbering of x86 and ARM
"""

from __future__ import annotations

from ocirun.cli.parser import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

_NAMES = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)  # fmt: skip
SIGNALS = {name: number for number, name in enumerate(_NAMES, start=1)}
SIGNALS |= {"IOT": 6, "CLD": 17, "POLL": 29}
RTMIN, RTMAX = 34, 64  # as glibc counts: it keeps 32 and 33

#: What ends a process by default and somebody may send to one that creates a container.
TERMINATING = tuple(SIGNALS[name] for name in ("HUP", "INT", "QUIT", "ALRM", "TERM", "USR1", "USR2"))


def parse_signal(text: str) -> int:
    """Return the number of a signal given as 1 to 64 or as a name, in any case, with or without SIG; also RTMIN+n.

    0, the probe of kill(2), is refused: `state` tells more.  Errors: UsageError.
    """
    if text.isascii() and text.isdigit() and len(text) <= 2 and 0 < int(text) <= RTMAX:
        return int(text)
    name = text.upper().removeprefix("SIG") if text.isascii() else ""
    if name in SIGNALS:
        return SIGNALS[name]
    for base, start, sign in (("RTMIN", RTMIN, 1), ("RTMAX", RTMAX, -1)):
        if name == base:
            return start
        offset = name.removeprefix(base + ("+" if sign > 0 else "-"))
        if offset != name and offset.isdigit() and len(offset) <= 2 and int(offset) <= RTMAX - RTMIN:
            return start + sign * int(offset)
    raise UsageError(f"unknown signal {text!r}", hint="a number from 1 to 64, or a name such as TERM or RTMIN+1")


class Interrupted(KeyboardInterrupt):
    """A signal told us to end; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


#: Where the library waits for somebody else, by module.  Only there a signal may end the command: between two steps of
#: the library's own an exception could lose what was made just now, such as the pid of a new process.
WAITS = {
    "ocirun._native": ("connect", "receive", "receive_fd"),
    "ocirun.criu.service": ("_wait",),
    "ocirun.init.program": ("_wait",),
    "ocirun.notify": ("wait_ready",),
    "ocirun.store": ("lock",),
}
_AGAIN_S = 0.002
_put_off: list[int] = []


def raise_at_termination() -> None:
    """From now on raise Interrupted when a signal asks to end, so that what was begun is undone."""
    import _signal  # type: ignore[import-not-found]

    for number in _not_ignored(TERMINATING):
        _signal.signal(number, interrupt)


def end_at_once() -> None:
    """From now on let the kernel end the command, which has nothing to undo.

    A handler of Python's would not do where a wait has no end: a signal just before the system call is only noted,
    and the call begins.
    """
    import _signal

    if _signal.getsignal(SIGNALS["INT"]) != _signal.SIG_IGN:
        _signal.signal(SIGNALS["INT"], _signal.SIG_DFL)


def raise_at_once() -> None:
    """The same for a command that makes nothing which could be lost between two steps: it need not wait for a wait."""
    import _signal

    for number in _not_ignored(TERMINATING):
        _signal.signal(number, _interrupt_at_once)


def _interrupt_at_once(number: int, _frame: FrameType | None) -> None:
    import _signal

    for each in TERMINATING:
        _signal.signal(each, _signal.SIG_IGN)
    raise Interrupted(number)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted if the library waits just now, else put it off: SIGALRM comes a moment later.

    Once only: what else asks to end is ignored from then on, for the undoing is not to be interrupted itself.
    """
    import _signal

    if not _put_off:
        _put_off.append(number)
    if frame is None or frame.f_code.co_name not in WAITS.get(frame.f_globals["__name__"], ()):
        _signal.setitimer(_signal.ITIMER_REAL, _AGAIN_S)
        return
    for each in TERMINATING:
        _signal.signal(each, _signal.SIG_IGN)
    raise Interrupted(_put_off[0])


def what_was_put_off(number: int) -> int:
    """Return the signal that SIGALRM stands for: itself, or what was put off and is to be handled now."""
    return _put_off.pop() if number == SIGNALS["ALRM"] and _put_off else number


def handle(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None], wakeup: int
) -> None:
    """From now on call *handler* for each of these signals, and write a byte to the pipe *wakeup* as well."""
    import _signal

    _signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in _not_ignored(numbers):
        _signal.signal(number, handler)


def _not_ignored(numbers: Iterable[int]) -> list[int]:
    """Return the signals that our caller does not ignore, and SIGALRM, which we need.

    Under nohup a hang-up stays ignored.
    """
    import _signal

    return [
        number
        for number in numbers
        if number == SIGNALS["ALRM"] or _signal.getsignal(number) != _signal.SIG_IGN
    ]
