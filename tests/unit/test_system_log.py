# SPDX-License-Identifier: Apache-2.0
"""--log syslog:NAME and journald:NAME: one datagram each, and never a wait."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirun.cli import system_log


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of both daemons'."""
    path = str(tmp_path / "log")
    monkeypatch.setattr(system_log, "SYSLOG_SOCKET", path)
    monkeypatch.setattr(system_log, "JOURNAL_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(path)
        made.setblocking(False)
        yield made


@pytest.mark.parametrize(("level", "priority"), [("error", 11), ("warning", 12), ("info", 14), ("debug", 15)])
def test_syslog(listener: socket.socket, level: str, priority: int) -> None:
    """Priority, time, tag and text, as syslog(3) sends them."""
    system_log.send("syslog:web1", level, "it is é")
    line = listener.recv(1000).decode()
    assert re.fullmatch(rf"<{priority}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d web1\[\d+\]: it is é", line), line


@pytest.mark.parametrize(("level", "priority"), [("error", 3), ("warning", 4), ("info", 6), ("debug", 7)])
def test_journal(listener: socket.socket, level: str, priority: int) -> None:
    """Fields that `journalctl -t NAME` and -p find."""
    system_log.send("journald:web1", level, "it is")
    fields = dict(line.split("=", 1) for line in listener.recv(1000).decode().splitlines())
    assert fields == {"PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "web1", "MESSAGE": "it is"}


def test_name_has_a_default(listener: socket.socket) -> None:
    """Without a name it is ours."""
    system_log.send("journald:", "error", "x")
    assert b"SYSLOG_IDENTIFIER=ocirun\n" in listener.recv(1000)


@pytest.mark.parametrize("kind", ["syslog", "journald"])
def test_nobody_there(listener: socket.socket, kind: str) -> None:
    """A daemon that is not there is an error that names its socket."""
    listener.close()
    with pytest.raises(OSError, match="refused") as caught:
        system_log.send(f"{kind}:x", "error", "x")
    assert caught.value.filename.endswith("/log")


def test_daemon_that_does_not_read(listener: socket.socket) -> None:
    """R-27: a full socket is an error and not a wait."""
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            system_log.send("syslog:x", "error", "x" * 1000)
