# SPDX-License-Identifier: Apache-2.0
"""What the command says when something is wrong: on stderr for people, in --log for engines.

Engines read the last line of level "error" and its `msg`; `level`, `msg` and `time` are the keys that containerd and
podman know, the others are for whoever wants more.
"""

from __future__ import annotations

import os
import sys
import time

from ocirun.errors import InvalidConfig, KernelError, OcirunError, errno_text
from ocirun.strict_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation

_LEVELS = ("error", "warning", "info", "debug")


class Reporter:
    """Writes messages in the format and to the file that the global options name."""

    def __init__(self, invocation: Invocation | None = None) -> None:
        self.log: str | None = None
        self.format = "text"
        self.debug = False
        self._level = "warning"
        self.container_id: str | None = None
        self.command = ""
        if invocation is not None:
            self.log = invocation.value("log") or None
            self.format = invocation.value("log-format", "text") or "text"
            self.debug = invocation.has("debug")
            self._level = "debug" if self.debug else invocation.value("log-level", "warning") or "warning"
            if invocation.command is not None:
                self.command = invocation.command.name
                if invocation.command.arguments.startswith("ID") and invocation.arguments:
                    self.container_id = invocation.arguments[0]

    def error(self, error: BaseException) -> None:
        """Report the error that ends the command."""
        text = _message(error)
        extra = _details(error, self.container_id)
        if self.log is not None:
            self._append("error", text.replace("\n", "; "), extra)
        if isinstance(error, InvalidConfig):
            # One problem a line, each beginning with its pointer.
            self._stderr(text)
        else:
            where = " ".join(part for part in (self.command, self.container_id) if part)
            self._stderr(f"ocirun: {where}: {text}" if where else f"ocirun: {text}")
        hint = getattr(error, "hint", None)
        if hint:
            self._stderr(f"hint: {hint}")
        for note in getattr(error, "__notes__", ()):
            self._stderr(f"note: {note}")

    def warning(self, text: str) -> None:
        """Report something that is no error."""
        if _LEVELS.index(self._level if self._level in _LEVELS else "warning") < 1:
            return
        if self.log is not None:
            self._append("warning", text, {})
        else:
            self._stderr(f"ocirun: warning: {text}")

    def _append(self, level: str, text: str, extra: dict[str, object]) -> None:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
        stamp += f".{now % 1_000_000_000:09d}Z"
        if self.format == "json":
            line = dumps({"level": level, "msg": text, "time": stamp, **extra})
        else:
            line = f"{stamp} {level}: {text}"
        assert self.log is not None
        try:
            fd = os.open(
                self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o644
            )
            try:
                # One write: lines of several processes do not mix.
                os.write(fd, (line + "\n").encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        except OSError as error:
            self._stderr(f"ocirun: cannot write to the log {self.log}: {error.strerror}")

    def _stderr(self, text: str) -> None:
        try:
            os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))
        except OSError:
            pass  # closed or full: there is nobody to tell


def _message(error: BaseException) -> str:
    if isinstance(error, OcirunError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{errno_text(error.errno)}"
    return f"internal error: {type(error).__name__}: {error}"


def _details(error: BaseException, container_id: str | None) -> dict[str, object]:
    details: dict[str, object] = {"code": getattr(error, "code", "os" if isinstance(error, OSError) else "internal")}
    if container_id is not None:
        details["id"] = container_id
    for name in ("op", "json_pointer", "hint"):
        value = getattr(error, name, None)
        if value:
            details[name] = value
    if isinstance(error, KernelError | OSError) and error.errno is not None:
        details["errno"] = error.errno
    return details


def print_text(text: str) -> None:
    """Write to standard output; a reader that went away is no error of ours."""
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(1, data) :]


def silence_closed_output() -> None:
    """Make the interpreter's own flush at exit quiet."""
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
