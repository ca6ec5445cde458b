# SPDX-License-Identifier: Apache-2.0
"""checkpoint and restore; restore stays in the foreground as `run` does, unless it is told to detach."""

from __future__ import annotations

import os

from ocirun import _native
from ocirun.cli import report_warnings
from ocirun.cli.foreground import Console, Foreground
from ocirun.cli.parser import UsageError
from ocirun.cli.run import finish, is_running
from ocirun.cli.signals import raise_at_termination

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.container import Container
    from ocirun.criu.options import CriuChanges
    from ocirun.runtime import Runtime

_IMAGES = "checkpoint"


def checkpoint(invocation: Invocation, runtime: Runtime) -> int:
    """The command `checkpoint`."""
    raise_at_termination()
    status_fd = invocation.value("status-fd")
    runtime.load(invocation.arguments[0]).checkpoint(
        invocation.value("image-path") or _IMAGES,
        leave_running=invocation.has("leave-running"),
        pre_dump=invocation.has("pre-dump"),
        parent_path=invocation.value("parent-path"),
        tcp_skip_in_flight=invocation.has("tcp-skip-in-flight"),
        link_remap=invocation.has("link-remap"),
        page_server=parse_server(invocation.value("page-server")),
        status_fd=None if status_fd is None else _parse_number(status_fd, "status-fd", 99999),
        **_changes(invocation),
    )
    return 0


def restore(invocation: Invocation, runtime: Runtime) -> int:
    """The command `restore`: the process's exit code, 128 + N after signal N; 0 with --detach."""
    raise_at_termination()
    if invocation.has("detach"):
        _restore(invocation, runtime, None).close()
        return 0
    if not invocation.has("no-subreaper"):
        _native.adopt_orphans()
    # Its processes run before we hear of it: what comes in between is for them.
    foreground = Foreground(lambda _: is_running(runtime, invocation.arguments[0]))
    with Console(invocation) as console, _restore(invocation, runtime, console.socket()) as container:
        foreground.follow(container)
        foreground.attach(console.take())
        code = foreground.wait()
    return finish(invocation, runtime, code)


def _restore(invocation: Invocation, runtime: Runtime, console: int | None) -> Container:
    container = runtime.restore(
        invocation.arguments[0],
        invocation.value("bundle") or os.getcwd(),
        invocation.value("image-path") or _IMAGES,
        config_path=invocation.value("config"),
        console_socket=invocation.value("console-socket"),
        console_fd=console,
        pid_file=invocation.value("pid-file"),
        no_pivot=invocation.has("no-pivot"),
        tcp_close=invocation.has("tcp-close"),
        lsm_profile=invocation.value("lsm-profile"),
        lsm_mount_context=invocation.value("lsm-mount-context"),
        **_changes(invocation),
    )
    report_warnings(invocation, runtime)  # it may stay for days
    return container


def _changes(invocation: Invocation) -> CriuChanges:
    return {
        "criu": invocation.value("criu"),
        "work_path": invocation.value("work-path"),
        "tcp_established": invocation.has("tcp-established"),
        "ext_unix_sk": invocation.has("ext-unix-sk"),
        "shell_job": invocation.has("shell-job"),
        "file_locks": invocation.has("file-locks"),
        "manage_cgroups_mode": invocation.value("manage-cgroups-mode") or "soft",
        "network_lock": invocation.value("network-lock"),
        "empty_network": invocation.value("empty-ns") is not None,
        "auto_dedup": invocation.has("auto-dedup"),
        "lazy_pages": invocation.has("lazy-pages"),
    }


def parse_server(text: str | None) -> tuple[str, int] | None:
    """Return address and port of "ADDRESS:PORT" or "[ADDRESS]:PORT".  Errors: UsageError."""
    if text is None:
        return None
    address, colon, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not colon or not address:
        raise UsageError(f"option --page-server: {text!r} is no ADDRESS:PORT")
    return address, _parse_number(port, "page-server", 65535)


def _parse_number(text: str, option: str, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= most:
        return int(text)
    raise UsageError(f"option --{option}: {text!r} is no number up to {most}")
