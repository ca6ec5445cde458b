# SPDX-License-Identifier: Apache-2.0
"""Device nodes and links below /dev: those that the specification always wants, and `linux.devices`.

Spec: config-linux.md#default-devices, config-linux.md#devices; Kernel: mknod(2)
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.mounts import SEVERED
from ocirun.spec.mount_options import NOSUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.ops import Op
    from ocirun.plan.slots import Slots
    from ocirun.spec.id_maps import IdMaps
    from ocirun.spec.model import Linux

_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_TYPE_BITS = 0o170000
_PERMISSIONS = 0o7777

#: path -> (major, minor); all of them character devices of mode 0666 that belong to root.  /dev/console comes with a
#: terminal only, /dev/ptmx is a link.
DEFAULT_DEVICES = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}

LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


def makedev(major: int, minor: int) -> int:
    """Return the number that mknod(2) takes (the kernel's new_encode_dev)."""
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


class _Node:
    """A node; `explicit` are the flags of BIND_DEVICE for what the configuration itself says of it."""

    __slots__ = ("explicit", "gid", "mode", "number", "origin", "path", "uid")

    def __init__(
        self, path: str, mode: int, number: int, uid: int, gid: int, origin: str, explicit: int = 0
    ) -> None:
        self.path = path
        self.mode = mode
        self.number = number
        self.uid = uid
        self.gid = gid
        self.origin = origin
        self.explicit = explicit

    @property
    def is_fifo(self) -> bool:
        """Say whether anybody may make it, since it is no device."""
        return self.mode & _TYPE_BITS == _TYPES["p"]


def _nodes(linux: Linux) -> list[_Node]:
    """Return the configured devices and the default ones that they do not replace."""
    nodes = {
        path: _Node(path, 0o020666, makedev(major, minor), 0, 0, "/linux/devices")
        for path, (major, minor) in DEFAULT_DEVICES.items()
    }
    for index, device in enumerate(linux.devices):
        permissions = 0o666 if device.file_mode is None else device.file_mode & _PERMISSIONS
        number = 0 if device.type == "p" else makedev(device.major or 0, device.minor or 0)
        nodes[device.path] = _Node(
            device.path,
            _TYPES[device.type] | permissions,
            number,
            device.uid or 0,
            device.gid or 0,
            f"/linux/devices/{index}",
            (0 if device.file_mode is None else ops.SAME_MODE)
            | (0 if device.uid is None else ops.SAME_UID)
            | (0 if device.gid is None else ops.SAME_GID),
        )
    return list(nodes.values())


class DeviceNodes:
    """The operations that supply the nodes.

    `before_user` come before a user namespace is entered, `below_root` when the mounts are there; `slot` is the mount
    that ROOTFS has to attach below the root, or none.
    """

    __slots__ = ("before_user", "below_root", "slot")

    def __init__(self) -> None:
        self.before_user: list[Op] = []
        self.below_root: list[Op] = []
        self.slot = ops.NO_SLOT

    @classmethod
    def make(cls, linux: Linux) -> DeviceNodes:
        """Make the nodes where they are wanted."""
        result = cls()
        result.below_root = [_made(node) for node in _nodes(linux)]
        return result

    @classmethod
    def make_outside(cls, linux: Linux, slots: Slots, maps: IdMaps) -> DeviceNodes:
        """Make the nodes on a tmpfs of the host's, and show them in the container.

        In a user namespace mknod(2) is forbidden, and a tmpfs made there would not open devices.
        """
        result = cls()
        result.slot = slots.new()
        result.before_user.append(
            ops.mount(
                "tmpfs", "tmpfs", ("mode=0755",), "/dev", "/linux/devices",
                set_attributes=NOSUID, flags=ops.DETACHED, kept=result.slot,
            )
        )  # fmt: skip
        for index, node in enumerate(_nodes(linux)):
            if node.is_fifo:
                result.below_root.append(_made(node))
                continue
            # Where the maps are not known (`plan` of a joined namespace) the container's own numbers stand.
            uid, gid = maps.host_uid(node.uid), maps.host_gid(node.gid)
            owner = node.uid if uid is None else uid, node.gid if gid is None else gid
            result.before_user.append(
                ops.device(f"/{index}", node.mode, node.number, *owner, node.origin, result.slot)
            )
            result.below_root.append(
                ops.bind_device(
                    result.slot, str(index), node.path, node.mode, node.number, node.uid, node.gid, node.origin
                )
            )
        return result

    @classmethod
    def borrow(cls, linux: Linux, slots: Slots, *, early: bool) -> DeviceNodes:
        """Show the host's own nodes, for a runtime that cannot make any; what was asked for they must be."""
        result = cls()
        opened = result.before_user if early else result.below_root
        for node in _nodes(linux):
            if node.is_fifo:
                result.below_root.append(_made(node))
                continue
            slot = slots.new()
            opened.append(ops.open_tree(slot, _host_path(node), False, node.origin))
            result.below_root.append(
                ops.bind_device(
                    slot, None, node.path, node.mode, node.number, node.uid, node.gid, node.origin,
                    propagation=SEVERED, flags=node.explicit,
                )
            )
        return result


def _made(node: _Node) -> Op:
    return ops.device(node.path, node.mode, node.number, node.uid, node.gid, node.origin)


def _host_path(node: _Node) -> str:
    """Return where the host has the device: a default one under its usual name, another one under the same name."""
    for path, (major, minor) in DEFAULT_DEVICES.items():
        if node.mode & _TYPE_BITS == _TYPES["c"] and node.number == makedev(major, minor):
            return path
    return node.path


def build_links() -> list[Op]:
    """Return the operations that make the links of /dev."""
    links = [ops.symlink(path, target, "/linux/devices") for path, target in LINKS]
    # No part of the specification; where the kernel has no kcore (CONFIG_PROC_KCORE) there is nothing to link to.
    links.append(ops.symlink("/dev/core", "/proc/kcore", "/linux/devices", ops.IF_THERE))
    # The image's own ptmx, if any, would be another instance's.
    links.append(ops.symlink("/dev/ptmx", "pts/ptmx", "/linux/devices", ops.REPLACE))
    return links
