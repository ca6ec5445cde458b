# SPDX-License-Identifier: Apache-2.0
"""What `kubectl exec`, `attach` and `port-forward` speak: streams over one connection, SPDY/3.1 after an HTTP upgrade.

Header blocks are compressed without SPDY's dictionary, which the server does not insist on; those that it sends are not
read, because nothing of interest is in them.
"""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from harness.engine import TIMEOUT

SYN_STREAM, RST_STREAM, PING = 1, 3, 6
FIN = 1


class Streams:
    """A connection to a URL that the engine has given out; *protocol* names what the streams mean."""

    def __init__(self, url: str, protocol: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), TIMEOUT)
        self.received = b""
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self._next = 1
        self._compressor = zlib.compressobj()
        request = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        while b"\r\n\r\n" not in self.received:
            assert self._receive(TIMEOUT), f"no answer: {self.received!r}"
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def open(self, **headers: str) -> int:
        """Open a stream; returns its number."""
        number, self._next = self._next, self._next + 2
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        packed = self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._control(SYN_STREAM, struct.pack(">IIH", number, 0, 0) + packed)
        self.data[number] = b""
        return number

    def write(self, stream: int, text: str, *, last: bool = False) -> None:
        """Send *text*; with *last*, nothing will follow."""
        data = text.encode()
        self.socket.sendall(struct.pack(">II", stream, (FIN if last else 0) << 24 | len(data)) + data)

    def expect(self, stream: int, words: str, timeout: float = TIMEOUT) -> str:
        """Read until *words* come from *stream*; returns all up to and with them, and forgets it."""
        wanted = words.encode()
        self._read_until(lambda: wanted in self.data[stream], f"{words!r} in {self.data[stream]!r}", timeout)
        at = self.data[stream].index(wanted) + len(wanted)
        found, self.data[stream] = self.data[stream][:at], self.data[stream][at:]
        return found.decode(errors="replace")

    def rest(self, stream: int, timeout: float = TIMEOUT) -> str:
        """Read *stream* to its end."""
        self._read_until(lambda: stream in self.ended, f"end of stream {stream}", timeout)
        found, self.data[stream] = self.data[stream], b""
        return found.decode(errors="replace")

    def _read_until(self, check: Any, what: str, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not check():
            left = end - time.monotonic()
            assert left > 0, f"no {what}: {self.data}"
            if not self._frame():
                alive = self._receive(left)
                assert alive or check(), f"connection closed, no {what}: {self.data}"

    def _receive(self, timeout: float) -> bool:
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return True
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended |= self.data.keys()
        self.received += data
        return bool(data)

    def _frame(self) -> bool:
        """Take one frame from what was received; False if there is none."""
        if len(self.received) < 8:
            return False
        first, second = struct.unpack(">II", self.received[:8])
        size = second & 0xFFFFFF
        if len(self.received) < 8 + size:
            return False
        body, self.received = self.received[8 : 8 + size], self.received[8 + size :]
        if not first >> 31:
            self.data[first] += body
            if second >> 24 & FIN:
                self.ended.add(first)
            return True
        kind = first & 0xFFFF
        if kind == RST_STREAM:
            self.ended.add(struct.unpack(">I", body[:4])[0])
        elif kind == PING:
            self._control(PING, body)
        return True

    def _control(self, kind: int, body: bytes) -> None:
        self.socket.sendall(struct.pack(">II", 0x80030000 | kind, len(body)) + body)

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


class Command(Streams):
    """`kubectl exec -i` or `attach -i`: with *tty* also a size, else an error output."""

    def __init__(self, url: str, *, tty: bool) -> None:
        super().__init__(url, "v4.channel.k8s.io")
        self.tty = tty
        self.error = self.open(streamtype="error")
        self.input = self.open(streamtype="stdin")
        self.output = self.open(streamtype="stdout")
        self.other = self.open(streamtype="resize" if tty else "stderr")

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        assert self.tty
        self.write(self.other, json.dumps({"Width": columns, "Height": rows}) + "\n")

    def status(self) -> int:
        """Return the exit status, when it has come."""
        said = json.loads(self.rest(self.error))
        if said["status"] == "Success":
            return 0
        causes = said["details"]["causes"]
        return next(int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode")


class Forwarding(Streams):
    """`kubectl port-forward`."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "portforward.k8s.io")
        self._requests = 0

    def connect(self, port: int) -> tuple[int, int]:
        """Connect to a port of the pod; returns the streams of the data and of the errors."""
        words = {"port": str(port), "requestid": str(self._requests)}
        self._requests += 1
        error = self.open(streamtype="error", **words)
        self.write(error, "", last=True)
        return self.open(streamtype="data", **words), error
