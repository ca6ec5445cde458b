# SPDX-License-Identifier: Apache-2.0
"""Signals: their names and numbers, and what they do to a command that is creating a container.

The module `signal` is not used: it imports `enum`, which takes longer than a kill.
Kernel: signal(7), in the numbering of x86 and ARM
"""

from __future__ import annotations

from ocirun.cli.parser import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType
    from typing import NoReturn

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
#: What undoes is not interrupted itself: nobody would do the rest.
UNDOING = {"ocirun.undo": ("roll_back",), "ocirun.cli.run": ("_undo",)}

#: Follows every signal that we handle, until it is handled: whoever comes before a wait is not noticed in it by Python.
#: Nobody else sends it to us, and it is for nobody else: it tells of descriptors of our own.
_REMINDER = SIGNALS["URG"]
_put_off: list[int] = []


def raise_at_termination() -> None:
    """From now on raise Interrupted when a signal asks to end, so that what was begun is undone."""
    handle(TERMINATING, interrupt)


def raise_at_once() -> None:
    """The same for a command that makes nothing which could be lost between two steps: it need not wait for a wait."""
    handle(TERMINATING, _interrupt_at_once)


def handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """From now on call *handler* for each of these signals that our caller does not ignore, also where we wait.

    Under nohup a hang-up stays ignored.
    """
    import _signal  # type: ignore[import-not-found]

    from ocirun._native import remind_of

    _signal.signal(_REMINDER, _again)
    for number in numbers:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handler)
            remind_of(number, _REMINDER)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted if the library waits just now, else put it off until the next reminder.

    Once only: what else asks to end is not heard from then on, for the undoing is not to be interrupted itself.
    """
    if not _put_off:
        _put_off.append(number)
    if _is_in(frame, WAITS) and not any(_is_in(each, UNDOING) for each in _callers(frame)):
        _raise(_put_off[0])


def _interrupt_at_once(number: int, _frame: FrameType | None) -> None:
    _raise(number)


def _raise(number: int) -> NoReturn:
    import _signal

    _put_off.clear()
    for each in TERMINATING:
        # Not SIG_IGN: of a signal that came beside this one Python would complain that nobody handles it.
        if _signal.getsignal(each) != _signal.SIG_IGN:
            _signal.signal(each, _ignore)
    raise Interrupted(number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _again(_number: int, frame: FrameType | None) -> None:
    """Handle the reminder: what was put off comes once more."""
    import _signal

    if not _put_off:
        from ocirun._native import reminded

        reminded()
        return
    number = _put_off.pop()
    _signal.getsignal(number)(number, frame)


def _is_in(frame: FrameType | None, places: Mapping[str, Iterable[str]]) -> bool:
    return frame is not None and frame.f_code.co_name in places.get(frame.f_globals["__name__"], ())


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
