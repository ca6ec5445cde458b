# SPDX-License-Identifier: Apache-2.0
"""sd_notify: the container's readiness, passed on to whoever supervises us.

The container writes to a socket of ours at /run/notify/notify.sock; when it says READY=1 we say so to the caller's
NOTIFY_SOCKET, with the pid that the supervisor shall watch.

Kernel: unix(7); sd_notify(3)
"""

from __future__ import annotations

import os

from ocirun.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READY = b"READY=1"
_AF_UNIX, _SOCK_DGRAM = 1, 2
_POLL_S = 0.1


class NotifyProxy:
    """Our end of the container's socket; close() removes nothing, the state directory takes the file along."""

    def __init__(self, directory_fd: int, host_socket: str) -> None:
        # _socket: the module `socket` costs 15 ms, for names that are not needed here.
        import _socket

        self._host_socket = host_socket
        path = f"/proc/self/fd/{directory_fd}/notify/notify.sock"
        self._socket = _socket.socket(_AF_UNIX, _SOCK_DGRAM)
        try:
            self._socket.bind(path)
            # Whoever the process is to be: its user must be able to write.
            os.chmod(path, 0o777)  # noqa: S103  # the directory above is closed to the host's users
        except OSError as error:
            self._socket.close()
            raise KernelError(error.errno or 0, "bind", "notify.sock") from error

    def wait_ready(self, pid: int, is_alive: Callable[[], bool]) -> None:
        """Wait until the container says READY=1 or ends, and pass it on with MAINPID."""
        self._socket.settimeout(_POLL_S)
        while True:
            # Asked before: what a process has said before it ended is there then, and is read.
            was_alive = is_alive()
            try:
                message = self._socket.recv(4096)
            except TimeoutError:
                if not was_alive:
                    return
                continue
            if any(line == READY for line in message.split(b"\n")):
                self._tell_host(pid)
                return

    def _tell_host(self, pid: int) -> None:
        import _socket

        address: str | bytes = self._host_socket
        if self._host_socket.startswith("@"):
            address = b"\0" + os.fsencode(self._host_socket[1:])
        sender = _socket.socket(_AF_UNIX, _SOCK_DGRAM)
        try:
            sender.connect(address)
            sender.send(b"MAINPID=%d\nREADY=1\n" % pid)
        except OSError as error:
            raise KernelError(error.errno or 0, "sendto", self._host_socket) from error
        finally:
            sender.close()

    def close(self) -> None:
        """Close our end."""
        self._socket.close()
