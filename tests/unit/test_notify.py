# SPDX-License-Identifier: Apache-2.0
"""Readiness that a container tells while nobody reads yet, and just before it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ocirun.notify import NotifyProxy

Say = Callable[[bytes], None]


@contextmanager
def proxy(directory: Path, supervisor: Path) -> Iterator[tuple[NotifyProxy, Say]]:
    """A proxy, and what sends to its socket as a container does."""
    (directory / "notify").mkdir(parents=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    made = NotifyProxy(fd, str(supervisor))

    def say(text: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text, f"/proc/self/fd/{fd}/notify/notify.sock")

    try:
        yield made, say
    finally:
        made.close()
        os.close(fd)


def told(tmp_path: Path, is_alive: Callable[[Say], bool]) -> bytes:
    """Return what the supervisor hears."""
    path = tmp_path / "supervisor"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(path))
        with proxy(tmp_path / "entry", path) as (made, say):
            made.wait_ready(7, lambda: is_alive(say))
        try:
            return listener.recv(4096)
        except BlockingIOError:
            return b""


def test_last_words(tmp_path: Path) -> None:
    """READY=1 of a process that ends right after it counts, even if nobody looked in between."""
    looks = iter((True, False))

    def is_alive(say: Say) -> bool:
        alive = next(looks)
        if not alive:
            say(b"STATUS=done\nREADY=1\n")
        return alive

    assert told(tmp_path, is_alive) == b"MAINPID=7\nREADY=1\n"


def test_end_without_a_word(tmp_path: Path) -> None:
    """A process that ends without it is not waited for, whatever else it has said."""
    looks = iter((True, False, False))

    def is_alive(say: Say) -> bool:
        alive = next(looks)
        if alive:
            say(b"STATUS=ending")
        return alive

    assert told(tmp_path, is_alive) == b""
