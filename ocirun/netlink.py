# SPDX-License-Identifier: Apache-2.0
"""Network devices and their addresses, over a NETLINK_ROUTE socket.  The only user of pyroute2.

Its messages are used and not its sockets: those need an event loop of their own, which a caller that runs in one cannot
have, and cannot take over a socket that somebody else opened.  A socket speaks to the network namespace that it was
opened in, whichever thread uses it, so nobody has to enter a namespace (design D6).

Kernel: rtnetlink(7)
"""

from __future__ import annotations

import os
import time
from errno import EAGAIN, ENODEV, ETIMEDOUT
from sys import byteorder

from ocirun.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: An address as JSON values: "family", "prefixLength", "scope", "flags" and those of _ADDRESS_ATTRIBUTES it has.
    Address = dict[str, Any]

IFF_UP = 0x1
SCOPE_UNIVERSE = 0
SCOPE_LINK = 253
IFA_F_PERMANENT = 0x80
#: What a flag says about how an address is used.  The others tell its state: the kernel sets them anew.
_CONFIGURED_FLAGS = 0x02 | 0x10 | 0x200 | 0x400  # NODAD, HOMEADDRESS, NOPREFIXROUTE, MCAUTOJOIN
_ADDRESS_ATTRIBUTES = {
    "address": "IFA_ADDRESS",
    "local": "IFA_LOCAL",
    "broadcast": "IFA_BROADCAST",
    "label": "IFA_LABEL",
    "metric": "IFA_RT_PRIORITY",
    "protocol": "IFA_PROTO",
}

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_NAMES = {_NEWLINK: "RTM_NEWLINK", _GETLINK: "RTM_GETLINK", _NEWADDR: "RTM_NEWADDR", _GETADDR: "RTM_GETADDR"}
_REQUEST, _ACK, _DUMP, _CREATE, _EXCLUSIVE = 0x1, 0x4, 0x300, 0x400, 0x200
_DUMP_INTERRUPTED = 0x10
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_SIOCGSKNS = 0x894C
_DEADLINE_S = 10.0
_BUFFER = 1 << 18


class Link:
    """A network device as a network namespace shows it.

    `kind` is that of virtual devices ("veth"), "" for hardware; `parent` the bus and place of hardware (5.14).
    """

    __slots__ = ("address", "index", "is_up", "kind", "master", "name", "parent", "permanent_address")

    def __init__(self, message: Any) -> None:
        get = message.get_attr
        bus, place = get("IFLA_PARENT_DEV_BUS_NAME"), get("IFLA_PARENT_DEV_NAME")
        self.index: int = message["index"]
        self.is_up = bool(message["flags"] & IFF_UP)
        self.name: str = get("IFLA_IFNAME")
        self.kind: str = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
        self.master: int = get("IFLA_MASTER") or 0
        self.address: str = get("IFLA_ADDRESS") or ""
        self.permanent_address: str = get("IFLA_PERM_ADDRESS") or ""
        self.parent: str = f"{bus}/{place}" if place else ""


class RouteSocket:
    """A NETLINK_ROUTE socket: the calling thread's network namespace, or that of a descriptor, which is copied."""

    def __init__(self, fd: int | None = None) -> None:
        import socket

        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

        self._messages = {_NEWLINK: ifinfmsg, _GETLINK: ifinfmsg, _NEWADDR: ifaddrmsg, _GETADDR: ifaddrmsg}
        if fd is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        else:
            copy = os.dup(fd)
            try:
                self._socket = socket.socket(fileno=copy)
            except BaseException:
                os.close(copy)
                raise
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def open_namespace(self) -> int:
        """Return an owned descriptor of the socket's network namespace.  Kernel: ioctl SIOCGSKNS, 4.10"""
        import fcntl

        try:
            return fcntl.ioctl(self._socket.fileno(), _SIOCGSKNS)
        except OSError as error:
            raise KernelError(error.errno or 0, "ioctl", "SIOCGSKNS") from error

    def links(self) -> list[Link]:
        """Return all devices of the namespace."""
        return [Link(each) for each in self._ask(_GETLINK, {}, [("IFLA_EXT_MASK", _SKIP_STATISTICS)], _DUMP)]

    def find(self, name: str) -> Link | None:
        """Return the device that has this name, or has it as an alternative name; None if none does."""
        attributes = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _SKIP_STATISTICS)]
        try:
            [message] = self._ask(_GETLINK, {}, attributes, 0)
        except KernelError as error:
            if error.errno == ENODEV:
                return None
            raise
        return Link(message)

    def change(
        self,
        index: int,
        *,
        name: str | None = None,
        namespace: int | None = None,
        master: int | None = None,
        up: bool = False,
    ) -> None:
        """Move a device to the namespace of a descriptor, rename it, put it below a master, set it up.

        The kernel takes a device that moves down, and takes its addresses away.
        """
        attributes: list[tuple[str, object]] = []
        if namespace is not None:
            attributes.append(("IFLA_NET_NS_FD", namespace))
        if name is not None:
            attributes.append(("IFLA_IFNAME", name))
        if master is not None:
            attributes.append(("IFLA_MASTER", master))
        header = {"index": index, "flags": IFF_UP, "change": IFF_UP} if up else {"index": index}
        self._ask(_NEWLINK, header, attributes, _ACK)

    def addresses(self, index: int) -> list[Address]:
        """Return the addresses of a device, IPv4 and IPv6, in the kernel's order."""
        result = []
        for message in self._ask(_GETADDR, {}, [], _DUMP):
            if message["index"] != index:
                continue
            flags = message.get_attr("IFA_FLAGS")
            address = {
                "family": message["family"],
                "prefixLength": message["prefixlen"],
                "scope": message["scope"],
                "flags": message["flags"] if flags is None else flags,
            }
            for name, attribute in _ADDRESS_ATTRIBUTES.items():
                value = message.get_attr(attribute)
                if value is not None:
                    address[name] = value
            result.append(address)
        return result

    def add_address(self, index: int, address: Address) -> None:
        """Give a device an address for ever."""
        header = {
            "index": index,
            "family": address["family"],
            "prefixlen": address["prefixLength"],
            "scope": address["scope"],
        }
        attributes = [("IFA_FLAGS", address["flags"] & _CONFIGURED_FLAGS)]
        for name, attribute in _ADDRESS_ATTRIBUTES.items():
            if name in address:
                attributes.append((attribute, address[name]))
        self._ask(_NEWADDR, header, attributes, _ACK | _CREATE | _EXCLUSIVE)

    def _ask(
        self, kind: int, header: dict[str, int], attributes: list[tuple[str, Any]], flags: int
    ) -> list[Any]:
        """Send one request and return the decoded answers.  Errors: KernelError with the kernel's errno."""
        deadline = time.monotonic() + _DEADLINE_S
        try:
            for _ in range(5):
                self._send(kind, header, attributes, flags)
                found, is_complete = self._receive(kind, flags, deadline)
                if is_complete:
                    return found
        except TimeoutError as error:
            raise KernelError(ETIMEDOUT, _NAMES[kind]) from error
        except OSError as error:
            if isinstance(error, KernelError):
                raise
            raise KernelError(error.errno or 0, _NAMES[kind]) from error
        raise KernelError(EAGAIN, _NAMES[kind], "the list changes faster than it can be read")

    def _send(self, kind: int, header: dict[str, int], attributes: list[tuple[str, Any]], flags: int) -> None:
        message = self._messages[kind]()
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST | flags
        message["header"]["sequence_number"] = self._sequence
        for name, value in header.items():
            message[name] = value
        message["attrs"] = attributes
        message.encode()
        self._socket.sendto(bytes(message.data), (0, 0))

    def _receive(self, kind: int, flags: int, deadline: float) -> tuple[list[Any], bool]:
        """Return the answers, and False where the list changed while the kernel told it.

        The deadline is for all of them: what is not for us, or for an earlier request, does not put it off.
        """
        found: list[Any] = []
        is_complete = True
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data, sender = self._socket.recvfrom(_BUFFER)
            if sender[0] != 0:
                continue  # not the kernel's word
            at = 0
            while at < len(data):
                size, answer, answer_flags, sequence = _read_header(data, at)
                content = data[at : at + size]
                at += size + 3 & ~3
                if sequence != self._sequence:
                    continue
                if answer == _NLMSG_ERROR:
                    number = -int.from_bytes(content[16:20], byteorder, signed=True)
                    if number:
                        raise KernelError(number, _NAMES[kind])
                    return found, True
                if answer_flags & _DUMP_INTERRUPTED:
                    is_complete = False
                if answer == _NLMSG_DONE:
                    return found, is_complete
                message = self._messages[kind](content)
                message.decode()
                found.append(message)
            # A datagram may be the late answer to an earlier request.
            if flags == 0 and found:
                return found, True


def _read_header(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return the length, type, flags and sequence number of a struct nlmsghdr."""
    size = int.from_bytes(data[at : at + 4], byteorder)
    if size < 16 or at + size > len(data):
        raise KernelError(0, "recvmsg", "truncated netlink message")
    return (
        size,
        int.from_bytes(data[at + 4 : at + 6], byteorder),
        int.from_bytes(data[at + 6 : at + 8], byteorder),
        int.from_bytes(data[at + 8 : at + 12], byteorder),
    )
