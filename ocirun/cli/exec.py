# SPDX-License-Identifier: Apache-2.0
"""exec: in the foreground stay until the process ends, and end as it did."""

from __future__ import annotations

from ocirun.cli import report_warnings
from ocirun.cli.foreground import Console, Foreground, terminal_size
from ocirun.cli.lifecycle import check_preserved, number
from ocirun.cli.parser import UsageError
from ocirun.cli.signals import raise_at_termination
from ocirun.init.process import wait_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from ocirun.cli.parser import Invocation
    from ocirun.exec_options import ProcessChanges
    from ocirun.execution import ExecProcess
    from ocirun.runtime import Runtime

_LAST_ID = 4294967294  # 4294967295 is (uid_t)-1, which system calls take for "leave as it is"


def execute(invocation: Invocation, runtime: Runtime) -> int:
    """The command `exec`: the process's exit code, 128 + N after signal N; 0 with --detach."""
    check_preserved(number(invocation, "preserve-fds"))
    if invocation.has("detach"):
        raise_at_termination()
        _start(invocation, runtime, None).close()
        return 0
    foreground = Foreground(_may_run)
    with Console(invocation) as console, _start(invocation, runtime, console.socket()) as process:
        foreground.follow(process)
        foreground.start()
        foreground.attach(console.take())
        return foreground.wait()


def _may_run(frame: FrameType | None) -> bool:
    """Say whether the process may run already, when a signal finds us waiting to hear of it."""
    while frame is not None:
        if frame.f_code.co_name == wait_executed.__name__:
            return True
        frame = frame.f_back
    return False


def _start(invocation: Invocation, runtime: Runtime, console: int | None) -> ExecProcess:
    container_id, *args = invocation.arguments
    changes, document = _changes(invocation), _document(invocation, args)
    if console is not None:
        changes["console_size"] = terminal_size()
    process = runtime.load(container_id).exec(
        args,
        process=document,
        console_socket=invocation.value("console-socket"),
        console_fd=console,
        pid_file=invocation.value("pid-file"),
        preserve_fds=number(invocation, "preserve-fds"),
        pidfd_socket=invocation.value("pidfd-socket"),
        cgroups=invocation.repeated.get("cgroup", ()),
        ignore_paused=invocation.has("ignore-paused"),
        **changes,
    )
    report_warnings(invocation, runtime)  # the process may stay for days
    return process


def _document(invocation: Invocation, args: list[str]) -> bytes | None:
    path = invocation.value("process")
    if path is None:
        if not args:
            raise UsageError("the program is missing", hint="name one after the ID, or pass --process FILE")
        return None
    if args:
        raise UsageError(f"{path} says what to execute, and so does the command line: {args[0]!r}")
    from ocirun.bundle import read_document

    return read_document(path)


def _changes(invocation: Invocation) -> ProcessChanges:
    """Return what the options say of the process; without --tty it is for the document to say."""
    user = invocation.value("user")
    return {
        "cwd": invocation.value("cwd"),
        "env": invocation.repeated.get("env", ()),
        "user": None if user is None else parse_user(user),
        "additional_gids": [
            _parse_id(each, "additional-gids")
            for word in invocation.repeated.get("additional-gids", ())
            for each in word.split(",")
        ],
        "capabilities": [each for word in invocation.repeated.get("cap", ()) for each in word.split(",")],
        "no_new_privileges": invocation.switch("no-new-privs"),
        "apparmor_profile": invocation.value("apparmor"),
        "selinux_label": invocation.value("process-label"),
        "terminal": True if invocation.has("tty") else None,
    }


def parse_user(text: str) -> tuple[int, int | None]:
    """Return the numbers of UID or UID:GID; without a GID the group stays what it is.

    Digits and nothing else: no name is looked up, since only the image could say what it means (CVE-2016-3697), and
    nothing is taken for a number that is none (CVE-2026-30892).  Errors: UsageError.
    """
    uid, colon, gid = text.partition(":")
    return _parse_id(uid, "user"), _parse_id(gid, "user") if colon else None


def _parse_id(text: str, option: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LAST_ID:
        return int(text)
    message = f"option --{option}: {text!r} is not a number from 0 to {_LAST_ID}"
    raise UsageError(message, hint="names are not looked up")
