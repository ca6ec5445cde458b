# SPDX-License-Identifier: Apache-2.0
"""A terminal in the foreground: the main side of the container's pty, coupled with our own.

Kernel: pty(7), termios(3)
"""

from __future__ import annotations

import fcntl
import os
import select
import termios

from ocirun import _native

_CHUNK = 65536


class Terminal:
    """Receives the pty over one end of a socket pair; `socket` is the other, for `Runtime.create`."""

    def __init__(self) -> None:
        self._ours, self.socket = _native.socketpair()
        self.main = -1
        self._saved: list[object] | None = None

    def receive(self) -> None:
        """Take the main side, which init has sent before it was created, and make our terminal raw."""
        os.close(self.socket)
        self.socket = -1
        self.main = _native.receive_fd(self._ours, 10.0)
        if os.isatty(0):
            self._saved = termios.tcgetattr(0)
            raw = termios.tcgetattr(0)
            # cfmakeraw(3)
            raw[0] &= ~(
                termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
                | termios.IGNCR | termios.ICRNL | termios.IXON
            )  # fmt: skip
            raw[1] &= ~termios.OPOST
            raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(0, termios.TCSANOW, raw)
        self.resize()

    def resize(self) -> None:
        """Give the container's terminal the size of ours."""
        if self.main >= 0 and os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self.main, termios.TIOCSWINSZ, size)

    def copy(self, stop: int) -> None:
        """Copy both ways until the container's side is closed or `stop` can be read."""
        poll = select.poll()
        poll.register(self.main, select.POLLIN)
        poll.register(stop, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            try:
                ready = dict(poll.poll())
            except InterruptedError:
                continue
            if self.main in ready and not self._copy_out():
                return
            if 0 in ready and not self._copy_in():
                poll.unregister(0)
            if stop in ready and self.main not in ready:
                return

    def _copy_out(self) -> bool:
        try:
            data = os.read(self.main, _CHUNK)
        except OSError:
            return False  # EIO: the last process has closed the other side
        while data:
            data = data[os.write(1, data) :]
        return True

    def _copy_in(self) -> bool:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            # End-of-file of a pipe or file as a terminal says it.
            os.write(self.main, b"\x04")
            return False
        while data:
            data = data[os.write(self.main, data) :]
        return True

    def close(self) -> None:
        """Give our terminal its mode back."""
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None
        for fd in (self._ours, self.socket, self.main):
            if fd >= 0:
                os.close(fd)
        self._ours = self.socket = self.main = -1
