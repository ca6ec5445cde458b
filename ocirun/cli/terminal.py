# SPDX-License-Identifier: Apache-2.0
"""A terminal in the foreground: the main side of the container's pty, coupled with our own terminal.

Kernel: pty(7), termios(3), ioctl_tty(2)
"""

from __future__ import annotations

import fcntl
import os
import select
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_CHUNK = 65536
#: How much may be typed ahead of a container that does not read.
_MAX_PENDING = 1 << 20
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class Terminal:
    """The main side of the container's terminal.

    Owns its descriptor `main`; close() also gives our terminal its mode back.
    """

    def __init__(self, main: int) -> None:
        self._main = main
        self._saved: list[Any] | None = None
        self._is_open = True
        self._is_typing = True
        self._has_reader = True
        self._pending = b""

    def couple(self) -> None:
        """Make our own terminal raw: what is typed is the container's to interpret from here on."""
        # A container that does not read must not keep us from showing what it writes.
        os.set_blocking(self._main, False)
        self._make_raw()
        self.resize()

    def _make_raw(self) -> None:
        if not os.isatty(0):
            return
        self._saved = termios.tcgetattr(0)
        mode = termios.tcgetattr(0)
        # cfmakeraw(3)
        mode[_IFLAG] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
            | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[_OFLAG] &= ~termios.OPOST
        mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[_LFLAG] &= ~(
            termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
        )
        termios.tcsetattr(0, termios.TCSANOW, mode)

    def resize(self) -> None:
        """Give the container's terminal the size of ours, if we have one, and it is open still."""
        if self._main < 0:
            return
        for fd in (0, 1, 2):
            if os.isatty(fd):
                try:
                    size = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
                    fcntl.ioctl(self._main, termios.TIOCSWINSZ, size)
                except OSError:
                    pass  # one of the two has gone: this is called for signals, at any time
                return

    def interests(self) -> list[tuple[int, int]]:
        """Return what to wait for just now, as poll(2) has it."""
        wanted = []
        if self._is_open:
            wanted.append((self._main, select.POLLIN | (select.POLLOUT if self._pending else 0)))
        if self._is_typing and len(self._pending) < _MAX_PENDING:
            wanted.append((0, select.POLLIN))
        return wanted

    def copy(self, ready: Mapping[int, int]) -> None:
        """Copy what can be copied without waiting, but for a slow reader of our own output."""
        if ready.get(self._main, 0) & ~select.POLLOUT:
            self._show()
        if 0 in ready:
            self._read_typed()
        if self._pending:
            self._send_typed()

    def drain(self) -> None:
        """Show what the container wrote last."""
        while self._show():
            pass

    def _show(self) -> bool:
        try:
            data = os.read(self._main, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: nobody has the other side open
        if not data:
            self._is_open = False
            return False
        while data and self._has_reader:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:
                # Whoever shares the descriptor made it non-blocking.
                poll = select.poll()
                poll.register(1, select.POLLOUT)
                poll.poll()
            except OSError:
                # EPIPE, EIO: whoever looked has left.  The container may go on, and must not block on us.
                self._has_reader = False
        return True

    def _read_typed(self) -> None:
        try:
            data = os.read(0, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: our terminal is gone
        if not data:
            self._is_typing = False
            data = self._end_of_file()
        self._pending += data

    def _end_of_file(self) -> bytes:
        """Return what says on the container's terminal that the input is over, as far as it can be said."""
        mode = termios.tcgetattr(self._main)
        return bytes(mode[_CC][termios.VEOF]) if mode[_LFLAG] & termios.ICANON else b""

    def _send_typed(self) -> None:
        try:
            self._pending = self._pending[os.write(self._main, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self._pending = b""  # EIO: nobody is there to read it

    def close(self) -> None:
        """Close everything and give our terminal its mode back."""
        if self._saved is not None:
            try:
                termios.tcsetattr(0, termios.TCSANOW, self._saved)
            except termios.error:
                pass  # it is gone
            self._saved = None
        if self._main >= 0:
            os.close(self._main)
            self._main = -1
