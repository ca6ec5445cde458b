# SPDX-License-Identifier: Apache-2.0
"""The connection to systemd, against a bus that misbehaves."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from jeepney import HeaderFields, Parser, new_error, new_method_return, new_signal
from jeepney.wrappers import DBusAddress

from ocirun.cgroups import systemd_bus
from ocirun.cgroups.systemd import SystemdManager
from ocirun.cgroups.systemd_bus import BusError, NoBus, SystemdBus
from ocirun.errors import CgroupError

MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
Answer = Callable[["FakeBus", Any], None]


class FakeBus(threading.Thread):
    """Accepts connections, one after another, and answers calls by a function for each method."""

    def __init__(self, path: Path, answers: dict[str, Answer], greeting: bytes = b"DATA\r\nOK 1234\r\n") -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(4)
        self.answers = {
            "Hello": lambda bus, call: bus.answer(call, "s", ":1.5"),
            "GetConnectionUnixProcessID": lambda bus, call: bus.answer(call, "u", os.getpid()),
            "AddMatch": lambda bus, call: bus.answer(call, None),
            **answers,
        }
        self.greeting = greeting
        self.calls: list[Any] = []
        self.connections = 0
        self.connection = self.listener

    def run(self) -> None:
        while True:
            try:
                self.connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with self.connection, suppress(ConnectionError):
                self.serve()

    def serve(self) -> None:
        received = b""
        while b"DATA\r\n" not in received:
            if not (data := self.connection.recv(4096)):
                return
            received += data
        assert received == b"\0AUTH EXTERNAL\r\nDATA\r\n"
        for byte in self.greeting:  # in as many pieces as there can be
            self.connection.send(bytes([byte]))
        parser, begun = Parser(), b""
        while data := self.connection.recv(4096):
            if not begun.startswith(b"BEGIN\r\n"):
                begun += data
                data = begun.removeprefix(b"BEGIN\r\n") if begun.startswith(b"BEGIN\r\n") else b""
            parser.add_data(data)
            while (call := parser.get_next_message()) is not None:
                self.calls.append(call)
                answer = self.answers.get(call.header.fields[HeaderFields.member])
                if answer is not None:
                    answer(self, call)

    def send(self, message: Any, sender: str = ":1.1") -> None:
        message.header.fields[HeaderFields.sender] = sender
        self.connection.sendall(message.serialise(serial=len(self.calls) + 100))

    def answer(self, call: Any, signature: str | None, *body: Any) -> None:
        self.send(new_method_return(call, signature, body))

    def refuse(self, call: Any, name: str, text: str) -> None:
        self.send(new_error(call, name, "s", (text,)))

    def job(self, call: Any, result: str, *, sender: str = ":1.1", first: bool = False) -> None:
        """Answer with a job and say that it ended; *first* in the wrong order."""
        ended = new_signal(MANAGER, "JobRemoved", "uoss", (7, "/job/7", "x.scope", result))
        if first:
            self.send(ended, sender)
        self.answer(call, "o", "/job/7")
        if not first:
            self.send(ended, sender)


@pytest.fixture
def fake(workdir: Path) -> Iterator[Callable[..., FakeBus]]:
    """Start a fake bus."""
    made: list[FakeBus] = []

    def start(greeting: bytes = b"DATA\r\nOK 1234\r\n", **answers: Answer) -> FakeBus:
        made.append(FakeBus(workdir / "bus", answers, greeting))
        made[-1].start()
        return made[-1]

    yield start
    for bus in made:
        bus.listener.shutdown(socket.SHUT_RDWR)
        bus.listener.close()
        bus.join(5)


@pytest.fixture
def too_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeBus], None]:
    """Let every deadline pass that there is; who waits for the bus sees that by a signal that is none of his."""
    passed_s = 0.0

    def later(bus: FakeBus) -> None:
        nonlocal passed_s
        passed_s += 1000
        bus.send(new_signal(MANAGER, "Reloading", "b", (True,)))

    monkeypatch.setattr(systemd_bus, "monotonic", lambda: time.monotonic() + passed_s)
    return later


@pytest.fixture
def address(workdir: Path) -> str:
    """Where the fake bus is."""
    return f"unix:path={workdir}/bus"


def connect(address: str) -> SystemdBus:
    return SystemdBus(["unix:path=/nowhere/at/all", "tcp:host=localhost", address])


def test_a_job(fake: Callable[..., FakeBus], address: str) -> None:
    """Sent as systemd wants it, over when the job is; the signal is asked for by the unit's name."""
    bus = fake(StartTransientUnit=lambda bus, call: bus.job(call, "done"))
    connection = connect(address)
    connection.start_transient_unit("x.scope", [("PIDs", ("au", [5]))])
    connection.close()
    match, start = bus.calls[-2:]
    assert match.header.fields[HeaderFields.member] == "AddMatch"
    assert "arg2='x.scope'" in match.body[0]
    assert start.body == ("x.scope", "fail", [("PIDs", ("au", [5]))], [])


def test_a_job_that_ends_before_the_answer(fake: Callable[..., FakeBus], address: str) -> None:
    """The order of the two does not matter."""
    fake(
        Get=lambda bus, call: bus.answer(call, "v", ("s", "252")),
        StopUnit=lambda bus, call: bus.job(call, "done", first=True),
    )
    connection = connect(address)
    connection.manager_properties("Version")
    connection.stop_unit("x.scope")
    connection.close()


@pytest.mark.parametrize("result", ["failed", "canceled", "timeout", "dependency", "skipped"])
def test_a_job_that_fails(fake: Callable[..., FakeBus], address: str, result: str) -> None:
    """Any result but "done" is an error with the unit's name."""
    fake(StartTransientUnit=lambda bus, call: bus.job(call, result))
    connection = connect(address)
    with pytest.raises(CgroupError, match=f"x.scope.*{result}"):
        connection.start_transient_unit("x.scope", [])
    connection.close()


def test_a_forged_signal(fake: Callable[..., FakeBus], address: str, too_late: Callable[[FakeBus], None]) -> None:
    """Anybody on the bus may send us a signal: only systemd's counts."""
    fake(StartTransientUnit=lambda bus, call: [bus.job(call, "done", sender=":1.666"), too_late(bus)])
    connection = connect(address)
    with pytest.raises(CgroupError, match=r"did not finish StartTransientUnit x\.scope within"):
        connection.start_transient_unit("x.scope", [])
    connection.close()


def test_errors(fake: Callable[..., FakeBus], address: str) -> None:
    """An error is one with its name; a unit that is not there has no description."""
    fake(
        SetUnitProperties=lambda bus, call: bus.refuse(call, "org.x.Bad", "Cannot set property Abc"),
        Get=lambda bus, call: bus.refuse(call, systemd_bus.NO_SUCH_UNIT, "Unit x not loaded."),
    )
    connection = connect(address)
    with pytest.raises(BusError, match="SetUnitProperties: Cannot set property Abc") as caught:
        connection.set_unit_properties("x.scope", [])
    assert caught.value.name == "org.x.Bad"
    assert connection.unit_property("/x", "Description") is None
    connection.close()


@pytest.mark.parametrize("method", ["Hello", "GetConnectionUnixProcessID"])
def test_silence_at_first(
    fake: Callable[..., FakeBus], address: str, too_late: Callable[[FakeBus], None], method: str
) -> None:
    """A bus that does not answer is an error after the deadline."""
    fake(**{method: lambda bus, call: too_late(bus)})
    with pytest.raises(CgroupError, match=f"did not answer {method} within"):
        connect(address)


def test_silence_later(fake: Callable[..., FakeBus], address: str, too_late: Callable[[FakeBus], None]) -> None:
    """So is a systemd that does not."""
    fake(StopUnit=lambda bus, call: too_late(bus), Get=lambda bus, call: too_late(bus))
    connection = connect(address)
    for call in (lambda: connection.stop_unit("x"), lambda: connection.manager_properties("Version")):
        with pytest.raises(CgroupError, match=r"did not answer (StopUnit|Get) within"):
            call()
    connection.close()


def test_nobody_accepts(workdir: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue is waited for, up to the deadline."""
    monkeypatch.setattr(systemd_bus, "_DEADLINE_S", 0.3)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(workdir / "bus"))
        listener.listen(0)
        first.connect(str(workdir / "bus"))
        with pytest.raises(NoBus, match="no connection to systemd"):
            connect(address)


def test_end_of_the_connection(fake: Callable[..., FakeBus], address: str) -> None:
    """A bus that goes away says so."""
    fake(StopUnit=lambda bus, call: bus.connection.shutdown(socket.SHUT_RDWR))
    connection = connect(address)
    assert not connection.is_closed
    with pytest.raises(CgroupError, match="closed"):
        connection.stop_unit("x")
    assert connection.is_closed
    connection.close()


def test_a_new_connection(fake: Callable[..., FakeBus], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager makes another one where it has lost the first, so that a create that fails can be undone."""
    bus = fake(StopUnit=lambda bus, call: bus.connection.shutdown(socket.SHUT_RDWR))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    manager = SystemdManager.new("unified", "c1", None, rootless=False, annotations={}, resources=None)
    first = manager._connection()
    assert manager._connection() is first
    with pytest.raises(CgroupError, match="closed"):
        first.stop_unit("x")
    assert manager._connection() is not first
    assert bus.connections == 2
    manager.close()


@pytest.mark.parametrize("greeting", [b"REJECTED EXTERNAL\r\n", b"DATA\r\nREJECTED\r\n", b"x" * 5000, b"\r\n" * 3])
def test_not_let_in(fake: Callable[..., FakeBus], address: str, greeting: bytes) -> None:
    """Authentication that fails, or is no authentication."""
    fake(greeting)
    with pytest.raises(CgroupError, match="does not let us in"):
        connect(address)


def test_no_room(fake: Callable[..., FakeBus], address: str) -> None:
    """A bus has a limit of connections: we wait until others have gone."""

    def hello(bus: FakeBus, call: Any) -> None:
        if bus.connections < 3:
            bus.refuse(call, "org.freedesktop.DBus.Error.LimitsExceeded", "too many")
        else:
            bus.answer(call, "s", ":1.5")

    bus = fake(Hello=hello)
    connect(address).close()
    assert bus.connections == 3


def test_never_any_room(fake: Callable[..., FakeBus], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the deadline."""
    monkeypatch.setattr(systemd_bus, "_ROOM_DEADLINE_S", 0.5)
    fake(Hello=lambda bus, call: bus.refuse(call, "org.freedesktop.DBus.Error.LimitsExceeded", "too many"))
    with pytest.raises(BusError, match="too many"):
        connect(address)


def test_other_pids(fake: Callable[..., FakeBus], address: str) -> None:
    """To a bus of another pid namespace our numbers are others' processes."""
    fake(GetConnectionUnixProcessID=lambda bus, call: bus.answer(call, "u", os.getpid() + 1))
    with pytest.raises(CgroupError, match="another pid namespace"):
        connect(address)


def test_no_bus_at_all() -> None:
    """The error names each place."""
    with pytest.raises(NoBus, match=r"/nowhere/1.*No such file.*/nowhere/2"):
        SystemdBus(["unix:path=/nowhere/1", "unix:path=/nowhere/2"])
    with pytest.raises(NoBus, match="no address"):
        SystemdBus([])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("unix:path=/run/a%20b,guid=5", "/run/a b"),
        ("tcp:host=x;unix:guid=1,path=/x", "/x"),
        ("unix:abstract=/tmp/dbus-X", "\0/tmp/dbus-X"),
        ("unixexec:path=/bin/x", ""),
        ("", ""),
    ],
)
def test_addresses(text: str, path: str) -> None:
    """D-Bus specification, "Server Addresses"."""
    assert systemd_bus._socket_path(text) == path
