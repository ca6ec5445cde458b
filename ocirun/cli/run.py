# SPDX-License-Identifier: Apache-2.0
"""run: create, start, and in the foreground stay until the process ends.

Signals that reach us go to the container's process, except those that mean ourselves: SIGCHLD, SIGPIPE, SIGURG (the
runtimes' own), SIGWINCH, which resizes the terminal, and those that stop or cannot be caught.
"""

from __future__ import annotations

import os

from ocirun.cli.lifecycle import create_container
from ocirun.cli.parser import UsageError
from ocirun.errors import ContainerNotRunning, KernelError, OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.cli.terminal import Terminal
    from ocirun.container import Container
    from ocirun.runtime import Runtime

_SIGWINCH = 28
_NOT_FORWARDED = frozenset({9, 13, 17, 19, 20, 21, 22, 23, _SIGWINCH})
_PR_SET_CHILD_SUBREAPER = 36


def run(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `run`; returns the process's exit code, 128 + N for signal N."""
    detach = invocation.has("detach")
    if not invocation.has("no-subreaper") and not detach:
        _adopt_orphans()
    terminal = _open_terminal(invocation, runtime, detach=detach)
    try:
        overrides = {} if terminal is None else {"console_fd": terminal.socket}
        container = create_container(invocation, runtime, **overrides)
        try:
            return _run(container, terminal, invocation, runtime, detach=detach)
        finally:
            container.close()
    finally:
        if terminal is not None:
            terminal.close()


def _run(
    container: Container,
    terminal: Terminal | None,
    invocation: Invocation,
    runtime: Runtime,
    *,
    detach: bool,
) -> int:
    try:
        if terminal is not None:
            terminal.receive()
        forward = None if detach else Forwarding(container, terminal)
        container.start(notify_socket=os.environ.get("NOTIFY_SOCKET") or None)
        if forward is None:
            return 0
        code = forward.wait()
    except BaseException as error:
        # As if never attempted; a start that failed by a hook has deleted it already.
        try:
            runtime.delete(container.id, force=True)
        except OcirunError as failure:
            error.add_note(f"while deleting: {failure}")
        raise
    if not invocation.has("keep"):
        runtime.delete(container.id, force=True)
    return code


def _open_terminal(invocation: Invocation, runtime: Runtime, *, detach: bool) -> Terminal | None:
    """Return a terminal of our own where config.json wants one and nobody else takes it."""
    if invocation.value("console-socket") is not None:
        return None
    from ocirun.bundle import read_config
    from ocirun.strict_json import loads

    document = loads(read_config(invocation.value("bundle") or os.getcwd(), invocation.value("config")))
    process = document.get("process") if isinstance(document, dict) else None
    if not isinstance(process, dict) or process.get("terminal") is not True:
        return None
    if detach:
        raise UsageError("cannot allocate a terminal in the background: pass --console-socket")
    from ocirun.cli.terminal import Terminal

    return Terminal()


def _adopt_orphans() -> None:
    """Become the parent of what the container leaves behind, so that it can be reaped (prctl(2))."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Forwarding:
    """Passes signals on to the container's process while we wait for it."""

    def __init__(self, container: Container, terminal: Terminal | None) -> None:
        import _signal

        self._container = container
        self._terminal = terminal
        for number in range(1, _signal.NSIG):
            if number not in _NOT_FORWARDED and number not in (32, 33):
                _signal.signal(number, self._handle)
        _signal.signal(_SIGWINCH, self._resize)

    def _handle(self, number: int, _frame: object) -> None:
        try:
            self._container.kill(number)
        except (ContainerNotRunning, KernelError):
            pass  # it ended meanwhile: wait() is about to return

    def _resize(self, _number: int, _frame: object) -> None:
        if self._terminal is not None:
            self._terminal.resize()

    def wait(self) -> int:
        """Wait for the process, copying the terminal meanwhile."""
        if self._terminal is not None:
            pidfd = self._container.pidfd()
            try:
                self._terminal.copy(pidfd)
            finally:
                os.close(pidfd)
        code = self._container.wait()
        self._reap()
        return code

    def _reap(self) -> None:
        """Reap what was adopted and has ended; what still runs is not waited for."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0] > 0:
                pass
        except ChildProcessError:
            pass


