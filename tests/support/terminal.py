# SPDX-License-Identifier: Apache-2.0
"""The engine's side of a console socket."""

from __future__ import annotations

import os
import select
import socket
import struct
from pathlib import Path
from types import TracebackType

from support.command import TIMEOUT


class ConsoleSocket:
    """Listens for the one descriptor that the runtime sends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.payload = b""
        self.count = 0
        self._fds: list[int] = []

    def receive(self, timeout: float = TIMEOUT) -> int:
        """Return the master's descriptor, owned by this object."""
        self._listener.settimeout(timeout)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(timeout)
            self.payload, fds, _, _ = socket.recv_fds(connection, 4096, 16)
        self.count = len(fds)
        self._fds += fds
        assert fds, "the console socket was closed without a descriptor"
        return fds[0]

    def __enter__(self) -> ConsoleSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in self._fds:
            os.close(fd)
        self._listener.close()
        self.path.unlink(missing_ok=True)


def read_terminal(fd: int, timeout: float = TIMEOUT) -> bytes:
    """Read a master until the slave is closed (EIO) or nothing comes for `timeout` seconds."""
    data = b""
    while select.select([fd], [], [], timeout)[0]:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    return data.replace(b"\r\n", b"\n")


def window_size(fd: int) -> tuple[int, int]:
    """Return (rows, columns)."""
    import fcntl
    import termios

    packed = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    rows, columns, _, _ = struct.unpack("HHHH", packed)
    return rows, columns
