# SPDX-License-Identifier: Apache-2.0
"""create, start, kill, wait, delete, gc: the library's verbs with the command line's words."""

from __future__ import annotations

import os

from ocirun.cli import print_text, report_warnings
from ocirun.cli.parser import UsageError
from ocirun.cli.signals import parse_signal, raise_at_once, raise_at_termination
from ocirun.errors import ContainerNotFound, OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cli.parser import Invocation
    from ocirun.container import Container
    from ocirun.runtime import Runtime


def create(invocation: Invocation, runtime: Runtime) -> int:
    """The command `create`."""
    check_preserved(count_given(invocation))
    raise_at_termination()
    create_container(invocation, runtime).close()
    return 0


def check_preserved(count: int) -> None:
    """See that *count* descriptors from 3 on, which are to be passed on, are open.

    Asked before we open any of our own: it could get one of these numbers, and be the container's.  Errors: OcirunError
    """
    from ocirun.inputs import check_descriptors

    check_descriptors(range(3, 3 + count))


def create_container(
    invocation: Invocation, runtime: Runtime, console_fd: int | None = None
) -> Container:
    """Create a container as the options of `create` and `run` say."""
    listen_fds = _count_activation_fds()
    container = runtime.create(
        invocation.arguments[0],
        invocation.value("bundle") or os.getcwd(),
        config_path=invocation.value("config"),
        console_socket=invocation.value("console-socket"),
        console_fd=console_fd,
        pid_file=invocation.value("pid-file"),
        preserve_fds=count_given(invocation),
        listen_fds=listen_fds,
        no_pivot=invocation.has("no-pivot"),
        no_new_keyring=invocation.has("no-new-keyring"),
        pidfd_socket=invocation.value("pidfd-socket"),
        notify_socket=notify_socket(),
    )
    report_warnings(invocation, runtime)  # `run` may stay for days
    return container


def count_given(invocation: Invocation) -> int:
    """Return how many of our descriptors, from 3 on, `create` and `run` pass on.  Errors: UsageError"""
    return _count_activation_fds() + number(invocation, "preserve-fds")


def _count_activation_fds() -> int:
    """Return how many descriptors from 3 on systemd's socket activation gave us, to be passed on (sd_listen_fds(3)).

    They come before those of --preserve-fds.  What was meant for another process, and only inherited by us, is none of
    ours; without LISTEN_PID they are taken, as crun does.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 0


def notify_socket() -> str | None:
    """Return where our own supervisor wants to hear that the container is ready (sd_notify(3))."""
    return os.environ.get("NOTIFY_SOCKET") or None


def start(invocation: Invocation, runtime: Runtime) -> int:
    """The command `start`.  A signal that asks to end also ends the hook that runs just now."""
    raise_at_once()
    runtime.load(invocation.arguments[0]).start(notify_socket=notify_socket())
    return 0


def kill(invocation: Invocation, runtime: Runtime) -> int:
    """The command `kill`."""
    signal = parse_signal(invocation.arguments[1] if len(invocation.arguments) > 1 else "TERM")
    to_all = invocation.has("all")
    return _for_each(invocation, runtime, lambda each: runtime.load(each).kill(signal, all=to_all))


def wait(invocation: Invocation, runtime: Runtime) -> int:
    """The command `wait`: prints the exit code of the container's process, 128 + N where signal N ended it."""
    print_text(f"{runtime.load(invocation.arguments[0]).wait()}\n")
    return 0


def delete(invocation: Invocation, runtime: Runtime) -> int:
    """The command `delete`.  A signal that asks to end also ends the hook that runs just now."""
    raise_at_once()
    force = invocation.has("force")
    return _for_each(invocation, runtime, lambda each: runtime.delete(each, force=force))


def pause(invocation: Invocation, runtime: Runtime) -> int:
    """The command `pause`.  A signal that asks to end thaws what was frozen so far."""
    raise_at_once()
    runtime.load(invocation.arguments[0]).pause()
    return 0


def resume(invocation: Invocation, runtime: Runtime) -> int:
    """The command `resume`."""
    runtime.load(invocation.arguments[0]).resume()
    return 0


def gc(invocation: Invocation, runtime: Runtime) -> int:  # noqa: ARG001  # all commands are called alike
    """The command `gc`: prints the IDs of what it removed."""
    raise_at_once()  # as `delete`
    print_text("".join(f"{container_id}\n" for container_id in runtime.gc()))
    return 0


def _for_each(
    invocation: Invocation, runtime: Runtime, operation: Callable[[str], None]
) -> int:
    """Do it to one container, or with --regex to all that match; a failure does not keep the others from it."""
    wanted = invocation.arguments[0]
    if not invocation.has("regex"):
        operation(wanted)
        return 0
    failures: list[OcirunError] = []
    for container_id in _matching(wanted, runtime, may_be_none=invocation.has("force")):
        try:
            operation(container_id)
        except OcirunError as error:
            failures.append(error)
            runtime.warn(f"{container_id}: {error}")
    if failures:
        raise failures[0]
    return 0


def _matching(pattern: str, runtime: Runtime, *, may_be_none: bool) -> list[str]:
    import re

    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}") from error
    found = [each for each in runtime.store.ids() if expression.search(each)]
    if not found and not may_be_none:
        raise ContainerNotFound(f"container does not exist: no ID matches {pattern!r}")
    return found


def number(invocation: Invocation, name: str) -> int:
    """Return the value of an option that is a small number, 0 where it was not given.  Errors: UsageError."""
    text = invocation.values.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise UsageError(f"option --{name} is a number, not {text!r}")
    return int(text)
