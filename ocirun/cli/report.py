# SPDX-License-Identifier: Apache-2.0
"""What the command says when something is wrong: on stderr for people, in --log for engines.

Engines take the last line of level "error" and show its `msg`.  They know the keys `level`, `msg` and `time`; the
others are for whoever wants more than text.  Lines of text are as runc's logger writes them.
"""

from __future__ import annotations

import os
from _json import encode_basestring

from ocirun.cli import encode
from ocirun.errors import InvalidConfig, OcirunError, errno_text
from ocirun.strict_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation

_LEVELS = ("error", "warning", "info", "debug")


class Reporter:
    """Writes messages where and how the global options say, as far as they were understood."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def error(self, error: BaseException) -> None:
        """Report what ended the command."""
        text = _message(error)
        details = {"code": _code(error), **_details(error, self._invocation.container_id)}
        if not self._record("error", text.replace("\n", "; "), details):
            return
        if isinstance(error, InvalidConfig):
            _write_stderr(text)  # one problem a line, each beginning with its pointer
        else:
            command = self._invocation.command
            about = (command.name if command is not None else None, self._invocation.container_id)
            where = "".join(f" {escape(each)}" for each in about if each)
            _write_stderr(f"ocirun:{where + ':' if where else ''} {escape(text)}")
        hint = getattr(error, "hint", None)
        if hint:
            _write_stderr(f"hint: {escape(hint)}")
        for note in getattr(error, "__notes__", ()):
            _write_stderr(f"note: {escape(note)}")

    def warning(self, text: str) -> None:
        """Report something that is no error; on stderr only where there is no log."""
        level = "debug" if self.debug else self._invocation.value("log-level") or "warning"
        if _LEVELS.index(level) < _LEVELS.index("warning"):
            return
        if self._record("warning", text, {}) and self._invocation.value("log") is None:
            _write_stderr(f"ocirun: warning: {escape(text)}")

    @property
    def debug(self) -> bool:
        """Whether whoever called wants to know where ocirun itself failed."""
        return self._invocation.has("debug")

    def _record(self, level: str, text: str, details: dict[str, object]) -> bool:
        """Write to the log; False where stderr was the log."""
        destination = self._invocation.value("log")
        is_json = self._invocation.value("log-format") == "json"
        if destination is None and not is_json:
            return True
        stamp = _now()
        if is_json:
            line = dumps({"level": level, "msg": text, "time": stamp, **details})
        else:
            line = f'time="{stamp}" level={level} msg={encode_basestring(escape(text))}'
        if destination is None:
            _write_stderr(line)
            return False
        try:
            if destination.startswith(("syslog:", "journald:")):
                from ocirun.cli.system_log import send

                send(escape(destination), level, escape(text))
            else:
                _append(destination.removeprefix("file:"), line)
        except OSError as failure:
            _write_stderr(f"ocirun: cannot write to the log: {escape(_message(failure))}")
        return True


def _append(path: str, line: str) -> None:
    # A FIFO that nobody reads must not hang us.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    try:
        # One write: the lines of several processes do not mix.  What is no UTF-8 is written as JSON has it.
        os.write(fd, (line + "\n").encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)


def _now() -> str:
    """Return the time as RFC 3339 has it, in UTC, to the microsecond."""
    import time

    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{microseconds:06}Z"


def _message(error: BaseException) -> str:
    if isinstance(error, OcirunError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{place}{errno_text(error.errno)}"
    text = f"internal error: {type(error).__name__}: {error}"
    return " ".join(text.split())


def _code(error: BaseException) -> str:
    if isinstance(error, OcirunError):
        return error.code
    return "syscall" if isinstance(error, OSError) else "internal"


def _details(error: BaseException, container_id: str | None) -> dict[str, object]:
    """Return what a program may want to know, in the order op, id, errno, json_pointer, hint."""
    details = {
        "op": getattr(error, "op", None),
        "id": container_id or getattr(error, "container_id", None),
        "errno": getattr(error, "errno", None),
        "json_pointer": getattr(error, "json_pointer", None),
        "hint": getattr(error, "hint", None),
    }
    return {key: value for key, value in details.items() if value is not None}


def escape(text: str) -> str:
    """Return the text on one line, with nothing in it that acts on a terminal: it may come from a container."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_traceback(error: BaseException) -> None:
    """Show where ocirun itself failed."""
    from traceback import format_exception

    _write_stderr("".join(format_exception(error)).rstrip())


def _write_stderr(text: str) -> None:
    try:
        os.write(2, encode(text + "\n"))
    except OSError:
        pass  # closed or full: there is nobody to tell
