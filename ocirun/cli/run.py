# SPDX-License-Identifier: Apache-2.0
"""run: create and start; in the foreground stay until the process ends, and end as it did.

Before the process runs, a signal that asks to end us undoes what was begun.
"""

from __future__ import annotations

import os

from ocirun import _native
from ocirun.cli import FAILURE
from ocirun.cli.foreground import Console, Foreground
from ocirun.cli.lifecycle import check_preserved, count_given, create_container, notify_socket
from ocirun.cli.signals import raise_at_termination
from ocirun.errors import OcirunError
from ocirun.spec.state import PAUSED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.container import Container
    from ocirun.runtime import Runtime


def run(invocation: Invocation, runtime: Runtime) -> int:
    """The command `run`: the process's exit code, 128 + N after signal N; 0 with --detach."""
    check_preserved(count_given(invocation))
    raise_at_termination()
    if invocation.has("detach"):
        container = create_container(invocation, runtime)
        try:
            container.start(notify_socket=notify_socket())
        except BaseException as error:
            _undo(container, invocation, runtime, error)
            raise
        return 0
    if not invocation.has("no-subreaper"):
        _native.adopt_orphans()
    with Console(invocation) as console:
        container = create_container(invocation, runtime, console.socket())
        code = _stay(container, invocation, runtime, console)
    return finish(invocation, runtime, code)


def _stay(
    container: Container, invocation: Invocation, runtime: Runtime, console: Console
) -> int:
    with container:
        try:
            terminal = console.take()
            foreground = Foreground(lambda _: is_running(runtime, container.id))
            foreground.follow(container)
            foreground.attach(terminal)
            container.start(notify_socket=notify_socket())
            return foreground.wait()
        except BaseException as error:
            _undo(container, invocation, runtime, error)
            raise


def is_running(runtime: Runtime, container_id: str) -> bool:
    """Say whether there is a process to take signals, while `start` has yet to hear of it, or waits for more."""
    try:
        return runtime.state(container_id).status in (RUNNING, PAUSED)
    except OcirunError:
        return False


def _undo(
    container: Container, invocation: Invocation, runtime: Runtime, error: BaseException
) -> None:
    """As if never attempted; a start that failed by a hook has deleted the container already."""
    pid_file = invocation.value("pid-file")
    try:
        if pid_file is not None:
            os.unlink(pid_file)
        runtime.delete(container.id, force=True)
    except (OcirunError, OSError) as failure:
        error.add_note(f"while deleting the container: {failure}")


def finish(invocation: Invocation, runtime: Runtime, code: int) -> int:
    if invocation.has("keep"):
        return code
    try:
        runtime.delete(invocation.arguments[0], force=True)
    except OcirunError as error:
        # How the process ended is what our caller waits for.
        runtime.warn(f"the container is not deleted: {error}")
        return code or FAILURE
    return code
