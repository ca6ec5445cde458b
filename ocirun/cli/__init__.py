# SPDX-License-Identifier: Apache-2.0
"""The command: a thin adaptor over the library.  Here, and only here, the process is ours to change (design D6)."""

from __future__ import annotations

import os

from ocirun.cli.parser import Invocation, UsageError, parse
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.runtime import Runtime

FAILURE = 1
_SIGINT, _SIGCHLD = 2, 17


def main(words: Sequence[str]) -> int:
    """Run the command line (without the program's name) and return the exit status.

    What goes wrong is one clear message and the status 1, or 128 + N after signal N; nothing is raised.
    """
    invocation = Invocation()
    try:
        _settle()
        parse(words, invocation)
        return _run(invocation)
    except BrokenPipeError:
        return FAILURE  # whoever read our output has left
    except KeyboardInterrupt as error:
        return 128 + getattr(error, "number", _SIGINT)
    except Exception as error:  # noqa: BLE001  # the last resort: nobody is shown a traceback unasked
        from ocirun.cli.report import Reporter, print_traceback

        Reporter(invocation).error(error)
        if invocation.has("debug") and not isinstance(error, OcirunError | OSError):
            print_traceback(error)
        return FAILURE if invocation.command is None else invocation.command.failure


def print_text(text: str) -> None:
    """Write to standard output, past Python's own buffers."""
    data = encode(text)
    while data:
        data = data[os.write(1, data) :]


def encode(text: str) -> bytes:
    """Return text as bytes for a terminal or a pipe."""
    # Words of the command line come back as the bytes that they were; whatever else has no form in UTF-8 is shown
    # by its number.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _settle() -> None:
    """Undo what a caller may have left us with."""
    import _signal  # type: ignore[import-not-found]

    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Else the next file that we open would be the container's standard input, or our messages go into it.
            os.open("/dev/null", os.O_RDWR)
    # From SIGINT too the kernel saves us at once, as from SIGTERM, unless there is something to undo: Python's handler
    # would not be called in a wait that began just after it.
    if _signal.getsignal(_SIGINT) != _signal.SIG_IGN:
        _signal.signal(_SIGINT, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())  # what is blocked would neither interrupt us nor be passed on
    if _signal.getsignal(_SIGCHLD) == _signal.SIG_IGN:
        # The kernel would reap our children, and nobody could tell how they ended.
        _signal.signal(_SIGCHLD, _signal.SIG_DFL)


def _run(invocation: Invocation) -> int:
    command = invocation.command
    if command is None or invocation.asks:
        from ocirun.cli.help import help_text, version_text

        print_text(version_text() if invocation.has("version") else help_text(command))
        return 0
    _check_globals(invocation)
    module = __import__(f"ocirun.cli.{command.module}", fromlist=[command.function])
    function: Callable[..., int] = getattr(module, command.function)
    if not command.needs_root:
        return function(invocation)
    from ocirun.runtime import Runtime as Library

    with Library(
        invocation.value("root"),
        cgroup_manager=cgroup_manager(invocation),
        rootless={"true": True, "false": False}.get(invocation.value("rootless") or ""),
    ) as runtime:
        try:
            return function(invocation, runtime)
        finally:
            report_warnings(invocation, runtime)


def report_warnings(invocation: Invocation, runtime: Runtime) -> None:
    """Say what the runtime has noted since the last time."""
    if not runtime.warnings:
        return
    from ocirun.cli.report import Reporter

    for warning in runtime.warnings:
        Reporter(invocation).warning(warning)
    runtime.warnings.clear()


def cgroup_manager(invocation: Invocation) -> str:
    """Return the cgroup manager that the global options ask for."""
    return "systemd" if invocation.has("systemd-cgroup") else invocation.value("cgroup-manager") or "cgroupfs"


def _check_globals(invocation: Invocation) -> None:
    if invocation.has("systemd-cgroup") and invocation.value("cgroup-manager") not in (None, "", "systemd"):
        raise UsageError("--systemd-cgroup and another --cgroup-manager contradict each other")
    if invocation.values.get("root") == "":
        # An unset variable in a script, most likely; the default would be somebody else's containers.
        raise UsageError("option --root needs a value: DIR")
