# SPDX-License-Identifier: Apache-2.0
"""create, start, kill, delete, gc: the library's verbs with the command line's words."""

from __future__ import annotations

import os

from ocirun.cli.parser import UsageError
from ocirun.cli.report import print_text
from ocirun.errors import ContainerNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cli.parser import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.container import Container
    from ocirun.runtime import Runtime


def create(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `create`."""
    create_container(invocation, runtime).close()
    return 0


def create_container(
    invocation: Invocation, runtime: Runtime, **overrides: Any
) -> Container:
    """Create a container as the options of `create` and `run` say."""
    arguments: dict[str, Any] = {
        "config_path": invocation.value("config"),
        "console_socket": invocation.value("console-socket"),
        "pidfd_socket": invocation.value("pidfd-socket"),
        "pid_file": invocation.value("pid-file"),
        "preserve_fds": _number(invocation, "preserve-fds"),
        "no_pivot": invocation.has("no-pivot"),
        "no_new_keyring": invocation.has("no-new-keyring"),
        "notify_socket": os.environ.get("NOTIFY_SOCKET") or None,
    }
    # systemd's socket activation: the descriptors are passed on, and the process is told (sd_listen_fds(3)).
    listen = os.environ.get("LISTEN_FDS", "")
    if listen.isascii() and listen.isdigit():
        arguments["listen_fds"] = int(listen)
        arguments["preserve_fds"] = max(arguments["preserve_fds"], int(listen))
    arguments.update(overrides)
    bundle = invocation.value("bundle") or os.getcwd()
    return runtime.create(invocation.arguments[0], bundle, **arguments)


def start(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `start`."""
    container = runtime.load(invocation.arguments[0])
    container.start(notify_socket=os.environ.get("NOTIFY_SOCKET") or None)
    return 0


def kill(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `kill`."""
    from ocirun.cli.signals import parse_signal

    signal = parse_signal(invocation.arguments[1] if len(invocation.arguments) > 1 else "TERM")
    for container_id in _ids(invocation, runtime):
        runtime.load(container_id).kill(signal, all=invocation.has("all"))
    return 0


def delete(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `delete`."""
    for container_id in _ids(invocation, runtime):
        runtime.delete(container_id, force=invocation.has("force"))
    return 0


def gc(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `gc`: prints the ids of what it removed."""
    print_text("".join(f"{container_id}\n" for container_id in runtime.gc()))
    return 0


def _ids(invocation: Invocation, runtime: Runtime) -> list[str]:
    pattern = invocation.arguments[0]
    if not invocation.has("regex"):
        return [pattern]
    import re

    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--regex: {pattern!r}: {error}") from error
    found = [each for each in runtime.store.ids() if expression.search(each)]
    if not found and not invocation.has("force"):
        raise ContainerNotFound(f"container does not exist: none matches {pattern!r}")
    return found


def _number(invocation: Invocation, name: str) -> int:
    text = invocation.value(name, "0") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise UsageError(f"option --{name} needs a number, not {text!r}")
    return int(text)


