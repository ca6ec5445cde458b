# SPDX-License-Identifier: Apache-2.0
"""How create or exec was called, and what is opened for that: the plan's inputs, stdio, whom it tells.

An input is a descriptor that is passed to init together with the plan.
"""

from __future__ import annotations

import errno
import os

from ocirun import _native
from ocirun.errors import KernelError, OcirunError
from ocirun.store import START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Process
    from ocirun.store import Entry


class SpawnOptions:
    """How a process is started: its descriptors, and who is told of it; `Runtime.create` documents them."""

    __slots__ = ("console_fd", "console_socket", "pass_fds", "pid_file", "pidfd_socket", "stdio", "timeout")

    def __init__(
        self,
        stdio: tuple[int | None, int | None, int | None],
        console_socket: str | None,
        console_fd: int | None,
        pid_file: str | None,
        pass_fds: Sequence[int],
        pidfd_socket: str | None,
        timeout: float | None,
    ) -> None:
        self.stdio = stdio
        self.console_socket = console_socket
        self.console_fd = console_fd
        self.pid_file = pid_file
        self.pass_fds = tuple(pass_fds)
        self.pidfd_socket = pidfd_socket
        self.timeout = timeout


class CreateOptions(SpawnOptions):
    """How a container is created; the parameters of `Runtime.create`, which documents them."""

    __slots__ = ("listen_fds", "no_new_keyring", "no_pivot", "notify_socket")

    def __init__(
        self,
        *,
        stdio: tuple[int | None, int | None, int | None] = (None, None, None),
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        pass_fds: Sequence[int] = (),
        listen_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        pidfd_socket: str | None = None,
        notify_socket: str | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(stdio, console_socket, console_fd, pid_file, pass_fds, pidfd_socket, timeout)
        self.listen_fds = listen_fds
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.notify_socket = notify_socket


class Inputs:
    """The descriptors that are opened for one plan, by the names that it has for them.

    Owns all that `own` was given; close() gives them up.
    """

    __slots__ = ("_named", "_options", "_owned")

    def __init__(self, options: SpawnOptions) -> None:
        self._options = options
        self._named: dict[str, int] = {}
        self._owned: list[int] = []

    def own(self, fd: int) -> int:
        """Close this descriptor, which is returned, together with the others."""
        self._owned.append(fd)
        return fd

    def add(self, name: str, fd: int) -> None:
        """Take a descriptor that somebody else opened for an input of the plan."""
        self._named[name] = self.own(fd)

    def close(self) -> None:
        """Close everything that was opened."""
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()

    def open_start(self, entry: Entry) -> None:
        """Open the socket by which the container is started.  Errors: KernelError"""
        start = f"{entry.path}/{START_SOCKET}"
        self._named["start"] = self.own(_native.listen(entry.short_path(START_SOCKET), start))

    def open_sockets(self, process: Process | None, seccomp: CompiledFilter | None) -> None:
        """Open those of the terminal and of the seccomp agent.  Errors: KernelError, OcirunError"""
        if process is not None and process.terminal:
            self._named["console"] = self._open_console()
        elif self._options.console_socket is not None:
            raise OcirunError(
                "/process/terminal: a console socket is of no use without a terminal",
                json_pointer="/process/terminal",
            )
        if seccomp is not None and seccomp.listener_path is not None:
            self._named["agent"] = self._connect_agent(seccomp.listener_path)

    def _open_console(self) -> int:
        options = self._options
        if options.console_fd is not None:
            return options.console_fd
        if options.console_socket is None:
            raise OcirunError(
                "/process/terminal: cannot allocate a terminal without a console socket",
                json_pointer="/process/terminal",
                hint="pass --console-socket, or run in the foreground",
            )
        return self.own(_native.connect(options.console_socket, stream=True))

    def _connect_agent(self, path: str) -> int:
        try:
            return self.own(_native.connect(path, stream=True))
        except KernelError as error:
            error.json_pointer = "/linux/seccomp/listenerPath"
            error.message = f"{error.json_pointer}: {error.message}"
            raise

    def has(self, name: str) -> bool:
        """Say whether there is an input of this name."""
        return name in self._named

    def of(self, names: Sequence[str]) -> list[int]:
        """Return the descriptors of these inputs, borrowed."""
        return [self._named[name] for name in names]

    def stdio(self) -> list[int]:
        """Return what becomes 0, 1 and 2 of the process, borrowed."""
        return [number if fd is None else fd for number, fd in enumerate(self._options.stdio)]

    def send_pidfd(self, pidfd: int, kind: bytes) -> None:
        """Give a pidfd to the socket of `pidfd_socket`, if there is one, with runc's word for what process it is."""
        if self._options.pidfd_socket is not None:
            connection = self.own(_native.connect(self._options.pidfd_socket, stream=True))
            _native.send_text(connection, kind, pidfd)


def check_descriptors(fds: Sequence[int]) -> None:
    """Refuse descriptors that are to be passed on and are not open.  Errors: OcirunError"""
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:
            raise OcirunError(
                f"descriptor {fd} is to be preserved but is not open", op="preserve-fds"
            ) from None


def fill_stdio() -> list[int]:
    """Open /dev/null in the place of each of 0-2 that the caller has closed, and return those, owned.

    Otherwise a descriptor of ours would get that number, and become the container's (S-33).
    """
    opened: list[int] = []
    while True:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if fd > 2:
            os.close(fd)
            return opened
        opened.append(fd)
        if os.fstat(fd).st_rdev != os.makedev(1, 3):
            raise OcirunError("/dev/null of the host is not the null device")


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid file whole: an engine that sees the name can read the number.

    Errors: OSError.  An existing file or link of this name is replaced, not followed.
    """
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"  # a number could be in the way since a crash
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        try:
            if os.write(fd, text := str(pid).encode()) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # half of a number is another process
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename, error.filename2 = path, None  # write(2) does not know it
        raise
