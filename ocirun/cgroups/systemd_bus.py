# SPDX-License-Identifier: Apache-2.0
"""A D-Bus connection to a systemd manager, with a deadline on everything.  The only user of jeepney.

Not jeepney's own connection: it has no deadline for connecting and authenticating, names our effective uid, which
inside a user namespace is not the one that the bus sees, and greets a bus, which systemd's private socket is not.

Specification: dbus.freedesktop.org/doc/dbus-specification.html; interface: org.freedesktop.systemd1(5)
"""

from __future__ import annotations

import os
import socket
from sys import byteorder
from time import monotonic, sleep

from jeepney import DBusAddress, HeaderFields, MessageType, Parser, new_method_call

from ocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    #: (name, (D-Bus signature, value))
    Property = tuple[str, tuple[str, Any]]

SYSTEMD = "org.freedesktop.systemd1"
UNIT_EXISTS = f"{SYSTEMD}.UnitExists"
NO_SUCH_UNIT = f"{SYSTEMD}.NoSuchUnit"

_MANAGER = f"{SYSTEMD}.Manager"
_OBJECT = "/org/freedesktop/systemd1"
_LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"
_DEADLINE_S = 60.0
#: How long others may keep all connections that a bus has for a user.
_ROOM_DEADLINE_S = 300.0
_LINE_MAX = 4096


class BusError(CgroupError):
    """A call that was answered with an error; `name` is the error's name on D-Bus."""

    def __init__(self, name: str, message: str, *, op: str, hint: str | None = None) -> None:
        super().__init__(message, op=op, hint=hint)
        self.name = name


class NoBus(CgroupError):
    """Nothing answers at any of the addresses."""


class SystemdBus:
    """A connection to the systemd manager behind one of *addresses*, the first that answers.

    Used by one thread; owns a socket until `close`.  No call takes longer than a minute; making a connection may, while
    others have all that the bus allows a user.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._serial = 0
        self._replies: dict[int, Any] = {}
        self._removed: list[Any] = []
        self._sender: str | None = None
        self._peer = ""
        pause_s, room_end_s = 0.01, monotonic() + _ROOM_DEADLINE_S
        while not self._open(addresses, monotonic() < room_end_s):
            # So many others have a connection at this moment (256 of one user by default).
            sleep(pause_s)
            pause_s = min(pause_s * 2, 0.25)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended: by `close`, by the other side, or because a message is half written."""
        return self._socket.fileno() < 0

    # Calls.

    def manager_properties(self, *names: str) -> list[str]:
        """Return text properties of the manager."""
        self._end_s = monotonic() + _DEADLINE_S
        serials = [self._send_get(_OBJECT, _MANAGER, name) for name in names]
        return [str(self._reply(serial, "Get")[0][1]) for serial in serials]

    def unit_property(self, unit_object: str, name: str) -> str | None:
        """Return a text property of a unit, None where there is no such unit."""
        self._end_s = monotonic() + _DEADLINE_S
        try:
            return str(self._reply(self._send_get(unit_object, f"{SYSTEMD}.Unit", name), "Get")[0][1])
        except BusError as error:
            if error.name == NO_SUCH_UNIT:
                return None
            raise

    def start_transient_unit(self, unit: str, properties: Sequence[Property]) -> None:
        """Start a transient unit that must not exist, and wait until it is there."""
        self._run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", list(properties), []))

    def stop_unit(self, unit: str) -> None:
        """Stop a unit, and wait until it is gone."""
        self._run_job(unit, "StopUnit", "ss", (unit, "replace"))

    def reset_failed_unit(self, unit: str) -> None:
        """Forget that a unit has failed, so that it need not be kept."""
        self._call("ResetFailedUnit", "s", (unit,))

    def set_unit_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties until the unit is stopped."""
        self._call("SetUnitProperties", "sba(sv)", (unit, True, list(properties)))

    def _call(self, method: str, signature: str, body: tuple[Any, ...]) -> Any:
        self._end_s = monotonic() + _DEADLINE_S
        serial = self._send(DBusAddress(_OBJECT, SYSTEMD, _MANAGER), method, signature, body)
        return self._reply(serial, method)

    def _run_job(self, unit: str, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call a method that answers with a job, and wait until the job was removed with the result "done"."""
        self._removed.clear()
        if self._has_bus:
            # Asked for by name: every client would hear of every container on the host otherwise.
            rule = f"type='signal',interface='{_MANAGER}',member='JobRemoved',path='{_OBJECT}',arg2='{unit}'"
            self._call_bus("AddMatch", "s", (rule,))
        job = self._call(method, signature, body)[0]
        while True:
            for signal in self._removed:
                _, removed, _, result = signal.body
                if removed == job and signal.header.fields.get(HeaderFields.sender) == self._sender:
                    if result == "done":
                        return
                    raise CgroupError(f"{method} {unit}: the job's result is {result!r}", op=method)
            self._removed.clear()
            self._read(f"finish {method} {unit}")

    def _call_bus(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> Any:
        name = "org.freedesktop.DBus"
        address = DBusAddress("/org/freedesktop/DBus", name, name)
        return self._reply(self._send(address, method, signature, body), method)

    # Messages.

    def _send_get(self, path: str, interface: str, name: str) -> int:
        address = DBusAddress(path, SYSTEMD, "org.freedesktop.DBus.Properties")
        return self._send(address, "Get", "ss", (interface, name))

    def _send(self, address: Any, method: str, signature: str | None, body: tuple[Any, ...]) -> int:
        self._serial += 1
        message = new_method_call(address, method, signature, body)
        self._write(message.serialise(self._serial))
        return self._serial

    def _reply(self, serial: int, method: str) -> Any:
        while serial not in self._replies:
            self._read(f"answer {method}")
        message = self._replies.pop(serial)
        if message.header.message_type is MessageType.error:
            text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
            name = message.header.fields[HeaderFields.error_name]
            raise BusError(name, f"{method}: {text or name}", op=method)
        self._sender = message.header.fields.get(HeaderFields.sender)
        return message.body

    def _read(self, what: str) -> None:
        self._parser.add_data(self._receive(what))
        while (message := self._parser.get_next_message()) is not None:
            fields = message.header.fields
            if message.header.message_type in (MessageType.method_return, MessageType.error):
                self._replies[fields.get(HeaderFields.reply_serial)] = message
            elif fields.get(HeaderFields.member) == "JobRemoved" and fields.get(HeaderFields.signature) == "uoss":
                self._removed.append(message)

    def _receive(self, what: str) -> bytes:
        try:
            self._socket.settimeout(max(self._end_s - monotonic(), 0.001))
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise CgroupError(f"systemd did not {what} within {_DEADLINE_S:g} s", op="D-Bus") from None
        except OSError as error:
            self.close()
            raise CgroupError(f"D-Bus: recv: {error.strerror}", op="D-Bus") from error
        if not data:
            self.close()
            raise CgroupError(f"D-Bus: the connection was closed; systemd did not {what}", op="D-Bus")
        return data

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(max(self._end_s - monotonic(), 0.001))
            self._socket.sendall(data)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise CgroupError(f"D-Bus: send: {error.strerror or error}", op="D-Bus") from error

    # The beginning.

    def _open(self, addresses: Sequence[str], may_wait: bool) -> bool:
        """Connect and say hello; False if the bus has no room for us and we *may_wait* for some."""
        self._end_s = monotonic() + _DEADLINE_S
        self._socket = self._connect(addresses)
        self._parser = Parser()
        try:
            self._greet()
        except BusError as error:
            self.close()
            if error.name != _LIMITS_EXCEEDED or not may_wait:
                raise
            return False
        except BaseException:
            self.close()
            raise
        return True

    def _connect(self, addresses: Sequence[str]) -> socket.socket:
        tried = []
        for address in addresses:
            path = _socket_path(address)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                self._connect_to(sock, path)
            except OSError as error:
                sock.close()
                tried.append(f"{address}: {error.strerror or error}")
                continue
            self._has_bus = not path.endswith("/systemd/private")
            self._peer = address
            return sock
        raise NoBus(
            f"no connection to systemd: {'; '.join(tried) or 'no address of a bus is known'}",
            op="connect",
            hint="is systemd running here, with a bus?  The cgroup manager 'cgroupfs' does without",
        )

    def _connect_to(self, sock: socket.socket, path: str) -> None:
        sock.settimeout(_DEADLINE_S)
        pause_s = 0.01
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # EAGAIN: too many others wait to be accepted
                if monotonic() + pause_s > self._end_s:
                    raise
                sleep(pause_s)
                pause_s = min(pause_s * 2, 0.25)
            else:
                return

    def _greet(self) -> None:
        self._authenticate()
        if not self._has_bus:
            _check_peer(self._socket)
            return
        name = self._call_bus("Hello")[0]
        pid = self._call_bus("GetConnectionUnixProcessID", "s", (name,))[0]
        if pid != os.getpid():
            raise _foreign_pids(self._peer)

    def _authenticate(self) -> None:
        """Authenticate as whoever the kernel says we are: an empty answer, where others name their uid."""
        self._write(b"\0AUTH EXTERNAL\r\nDATA\r\n")
        lines = b""
        while not (lines.startswith(b"OK ") and lines.endswith(b"\r\n")):
            line, end, rest = lines.partition(b"\r\n")
            if end and line.rstrip() == b"DATA":
                lines = rest
                continue
            if end or len(lines) > _LINE_MAX:
                raise CgroupError(
                    f"{self._peer} does not let us in: {line.decode('ascii', 'replace')}", op="authenticate"
                )
            lines += self._receive("authenticate us")
        self._write(b"BEGIN\r\n")


def _check_peer(sock: socket.socket) -> None:
    """Refuse systemd's private socket where systemd is in another pid namespace."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if int.from_bytes(credentials[:4], byteorder) == 0:
        raise _foreign_pids("systemd")


def _foreign_pids(who: str) -> CgroupError:
    # A pid of ours would be somebody else there, who would be moved into the container's cgroup.
    return CgroupError(
        f"{who} is in another pid namespace: it cannot be told which process to put into a scope",
        op="connect",
        hint="use the cgroup manager 'cgroupfs' here",
    )


def _socket_path(address: str) -> str:
    """Return the path of the first unix socket of a D-Bus address, as connect(2) takes it; "" if there is none."""
    for each in address.split(";"):
        transport, _, rest = each.partition(":")
        if transport != "unix":
            continue
        for pair in rest.split(","):
            key, _, value = pair.partition("=")
            if key in ("path", "abstract"):
                return ("\0" if key == "abstract" else "") + _unescape(value)
    return ""


def _unescape(value: str) -> str:
    head, *rest = value.split("%")
    return os.fsdecode(
        os.fsencode(head) + b"".join([bytes([int(part[:2], 16)]) + os.fsencode(part[2:]) for part in rest])
    )
