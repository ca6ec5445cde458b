# SPDX-License-Identifier: Apache-2.0
"""linux.netDevices: devices of the runtime's network namespace that move into the container's.

A device is moved, renamed, given its permanent global addresses again, and set up, all of it over two sockets: one of
the runtime's namespace, and one that init opened in the container's.  Where create fails, it is brought back as it was:
name, addresses, master, up or down (routes are not: nobody asked the kernel for them).  Once the container is created
its devices belong to its namespace: the runtime must not take them out again, the kernel returns hardware and destroys
virtual devices when the namespace ends.

Spec: config-linux.md#network-devices
"""

from __future__ import annotations

import os
import time
from errno import EEXIST, EINVAL, ENODEV

from ocirun.errors import KernelError, OcirunError
from ocirun.init.process import InitProcess
from ocirun.netlink import IFA_F_PERMANENT, SCOPE_LINK, SCOPE_UNIVERSE, Link, RouteSocket
from ocirun.plan import ops
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.plan import Plan
from ocirun.plan.slots import Slots
from ocirun.strict_json import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.netlink import Address
    from ocirun.spec.model import Linux

    #: What the record has of a device: how it is recognised, and how it was.
    DeviceRecord = dict[str, Any]

_AF_INET6 = 10
#: The kernel moves hardware back some time after the last process of a namespace has ended.
_RETURN_DEADLINE_S = 10.0
_VISIT_DEADLINE_S = 60.0


class NetDevices:
    """The devices of one create: looked at, then moved, then left there or brought back.

    Owns sockets; close() gives them up.
    """

    def __init__(self, linux: Linux) -> None:
        """Look at the devices, without touching them.  Errors: KernelError that names the property."""
        self._host = RouteSocket()
        self._inside: RouteSocket | None = None
        self._moved: list[DeviceRecord] = []
        self.devices: list[DeviceRecord] = []
        name = ""
        try:
            for name, device in linux.net_devices.items():
                self.devices.append(_look(self._host, name, device.name or name))
        except BaseException as error:
            self._host.close()
            if isinstance(error, KernelError):
                _locate(error, f"/linux/netDevices/{pointer_token(name)}")
            raise
        [self._path] = [each.path for each in linux.namespaces if each.type == "network"]

    def close(self) -> None:
        """Close the sockets."""
        self._host.close()
        if self._inside is not None:
            self._inside.close()

    def record(self) -> dict[str, Any]:
        """Return what `return_devices` needs after a crash, as JSON values."""
        return {"devices": self.devices, "path": self._path}

    def depart(self) -> None:
        """Mark all devices as on their way; the record has to say so before `move`."""
        for device in self.devices:
            device["away"] = True

    def move(self, netlink: int) -> None:
        """Move all devices to the namespace that *netlink*, a borrowed socket, was opened in; `depart` comes before.

        Errors: KernelError that names the property; then bring_back() undoes what was done.
        """
        inside = self._inside = RouteSocket(netlink)
        pointer = "/linux/netDevices"
        namespace = -1
        try:
            namespace = inside.open_namespace()
            for device in self.devices:
                pointer = _pointer(device)
                _check_name(inside, device)
            for device in self.devices:
                pointer = _pointer(device)
                self._move(device, inside, namespace)
        except KernelError as error:
            _locate(error, pointer)
            raise
        finally:
            if namespace >= 0:
                os.close(namespace)

    def _move(self, device: DeviceRecord, inside: RouteSocket, namespace: int) -> None:
        self._moved.append(device)
        # By a name that nobody has: the kernel looks for a free name before it gives the one asked for.
        self._host.change(device["index"], name=device["temporary"], namespace=namespace)
        link = inside.find(device["temporary"])
        if link is None:
            raise KernelError(ENODEV, "RTM_NEWLINK", "the device did not arrive")
        inside.change(link.index, name=device["wanted"])
        device["insideIndex"] = link.index
        name = next((each.name for each in inside.links() if each.index == link.index), None)
        if name is None:
            raise KernelError(ENODEV, "RTM_GETLINK", "somebody in the namespace removed the device")
        for address in device["addresses"]:
            if address["scope"] == SCOPE_UNIVERSE:
                inside.add_address(link.index, relabel(address, device["name"], name))
        inside.change(link.index, up=True)

    def bring_back(self) -> None:
        """Bring the devices that were moved back to where and how they were.  Errors: OcirunError for the first."""
        failures = []
        while self._moved:
            device = self._moved.pop()
            assert self._inside is not None
            try:
                _fetch(self._host, self._inside, device)
            except OcirunError as error:
                failures.append(error)
        if failures:
            raise failures[0]


def fetch_devices(record: dict[str, Any], paths: Sequence[str], visit: Callable[[str], RouteSocket]) -> None:
    """Fetch the devices of a create that was interrupted out of a namespace of the container's own, before it ends.

    *paths* lead to that namespace, one for each process that may still be in it.  What is not fetched here is told by
    `return_devices`, once the processes are gone.
    """
    host = RouteSocket()
    try:
        for path in paths:
            try:
                inside = visit(path)
            except OcirunError:
                continue  # this process has ended meanwhile
            try:
                for device in record["devices"]:
                    _fetch(host, inside, device)
            except KernelError:
                continue
            finally:
                inside.close()
            return
    finally:
        host.close()


def return_devices(record: dict[str, Any], visit: Callable[[str], RouteSocket]) -> list[str]:
    """Return the devices of a create that was interrupted; they may be anywhere on the way.

    *visit* opens a socket in the network namespace of a path.  Returns what could not be returned, in words.
    """
    host = RouteSocket()
    inside: RouteSocket | None = None
    lost = []
    try:
        for device in record["devices"]:
            if _settle_if_here(host, device):
                continue
            if record["path"] is None:
                # The namespace died with init.  What it does to virtual devices cannot be undone.
                if device["kind"] or not _wait_for(host, device):
                    lost.append(f"{_pointer(device)}: the device went with the container's network namespace")
                continue
            try:
                inside = visit(record["path"]) if inside is None else inside
                found = _fetch(host, inside, device)
            except OcirunError as error:
                lost.append(f"{_pointer(device)}: {error}")
                continue
            if not found:
                lost.append(f"{_pointer(device)}: the device is not in {record['path']} any more")
    finally:
        host.close()
        if inside is not None:
            inside.close()
    return lost


def visit(path: str, open_init: Callable[[], int], fallback_directory: str) -> RouteSocket:
    """Return a socket of the network namespace at *path*, where ocirun-init goes for it.

    Errors: InitError that names /linux/netDevices.
    """
    origin = "/linux/netDevices"
    slots = Slots()
    namespace, socket = slots.new(), slots.new()
    kind = CLONE_FLAGS["network"]
    operations = (
        ops.open_namespace(namespace, path, kind, origin),
        ops.join(namespace, kind, origin),
        ops.open_netlink(socket, origin),
        ops.barrier(ops.BARRIER_NETWORK, sent=socket),
        ops.execute(("",), (), 0, origin),  # not reached: the barrier is never lifted
    )
    executable = open_init()
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        init = InitProcess.spawn(
            Plan(operations, slots, clone_flags=0, keep_count=0, two_steps=False, makes_user_namespace=False),
            "",
            executable=executable,
            fallback_directory=fallback_directory,
            stdio=(nothing, nothing, nothing),
            keep=(),
            inputs=(),
            cgroup=-1,
        )
    finally:
        os.close(nothing)
        os.close(executable)
    try:
        message = init.receive(_VISIT_DEADLINE_S)
        try:
            return RouteSocket(message.rights)
        finally:
            os.close(message.rights)
    finally:
        init.kill()
        init.close()


def relabel(address: Address, old: str, new: str) -> Address:
    """Return an address with the label that goes with the device's new name: "eth0:web" of eth0 follows it."""
    label = address.get("label")
    if label is None:
        return address
    if label == old:
        return {**address, "label": new}
    if label.startswith(f"{old}:"):
        return {**address, "label": f"{new}{label[len(old) :]}"[:15]}
    return address


def is_name_of(name: str, wanted: str) -> bool:
    """Say whether a name is the wanted one, or one that the kernel makes of a template such as "eth%d"."""
    before, percent, after = wanted.partition("%d")
    if not percent:
        return name == wanted
    number = name[len(before) : len(name) - len(after)]
    return name == f"{before}{number}{after}" and number.isdigit()


def is_same_device(device: DeviceRecord, link: Link) -> bool:
    """Say whether a device is the one of the record, by what does not change on a move.

    Hardware has its place on a bus; other devices are known by their address and by a name that we gave them.
    """
    if link.name == device["temporary"]:
        return True
    if device["kind"] != link.kind or device["parent"] != link.parent:
        return False
    if device["permanentAddress"] != link.permanent_address:
        return False
    if not device["parent"] and not device["permanentAddress"] and device["address"] != link.address:
        return False
    return link.name == device["name"] or is_name_of(link.name, device["wanted"])


def _pointer(device: DeviceRecord) -> str:
    return f"/linux/netDevices/{pointer_token(device['name'])}"


def _look(host: RouteSocket, name: str, wanted: str) -> DeviceRecord:
    link = host.find(name)
    if link is None or link.name != name:
        pointer = f"/linux/netDevices/{pointer_token(name)}"
        error = KernelError(ENODEV, "RTM_GETLINK", name, json_pointer=pointer)
        error.message = f"{pointer}: there is no network device {name}"
        raise error
    return {
        "name": name,
        "wanted": wanted,
        "temporary": f"oci{os.urandom(6).hex()}",
        "index": link.index,
        "insideIndex": 0,
        "away": False,
        "kind": link.kind,
        "parent": link.parent,
        "permanentAddress": link.permanent_address,
        "address": link.address,
        "master": link.master,
        "up": link.is_up,
        # Not the link-local ones of IPv6, which the kernel makes itself when a device is set up.
        "addresses": [
            each
            for each in host.addresses(link.index)
            if each["flags"] & IFA_F_PERMANENT and (each["family"], each["scope"]) != (_AF_INET6, SCOPE_LINK)
        ],
    }


def _check_name(inside: RouteSocket, device: DeviceRecord) -> None:
    wanted = device["wanted"]
    if "%" in wanted or inside.find(wanted) is None:
        return
    pointer = _pointer(device) if wanted == device["name"] else f"{_pointer(device)}/name"
    error = KernelError(
        EEXIST,
        "RTM_NEWLINK",
        wanted,
        json_pointer=pointer,
        hint='a name that ends in "%d" gets a number that is free',
    )
    error.message = f"{pointer}: the container's network namespace has a device {wanted} already"
    raise error


def _locate(error: KernelError, pointer: str) -> None:
    """Name the property that an error of the kernel belongs to."""
    if error.json_pointer is not None:
        return
    error.json_pointer = pointer
    error.message = f"{pointer}: {error.message}"
    if error.errno == EINVAL:
        error.hint = "some devices cannot leave their network namespace"


def _fetch(host: RouteSocket, inside: RouteSocket, device: DeviceRecord) -> bool:
    """Move a device back to the host's namespace and settle it there; False where it is not in the other."""
    index = device["insideIndex"]
    if not index:
        index = next((each.index for each in inside.links() if is_same_device(device, each)), 0)
    if not index:
        return _settle_if_here(host, device)
    namespace = host.open_namespace()
    try:
        inside.change(index, name=device["temporary"], namespace=namespace)
    finally:
        os.close(namespace)
    return _settle_if_here(host, device)


def _settle_if_here(host: RouteSocket, device: DeviceRecord) -> bool:
    """Make a device of the host what it was; False where it is not there.

    Whoever did so before may have been interrupted anywhere: each step is done unless it is done already.
    """
    for link in host.links():
        if is_same_device(device, link):
            break
    else:
        return False
    if not device["away"]:
        return True  # it never left, and how it is now is the administrator's business
    if link.name != device["name"]:
        host.change(link.index, name=device["name"])
    if device["master"] and device["master"] != link.master:
        host.change(link.index, master=device["master"])
    there = {(each["address"], each["prefixLength"]) for each in host.addresses(link.index)}
    for address in device["addresses"]:
        if (address["address"], address["prefixLength"]) not in there:
            host.add_address(link.index, address)
    if device["up"] and not link.is_up:
        host.change(link.index, up=True)
    return True


def _wait_for(host: RouteSocket, device: DeviceRecord) -> bool:
    deadline = time.monotonic() + _RETURN_DEADLINE_S
    while time.monotonic() < deadline:
        if _settle_if_here(host, device):
            return True
        time.sleep(0.05)
    return False
