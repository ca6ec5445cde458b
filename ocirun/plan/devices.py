# SPDX-License-Identifier: Apache-2.0
"""Device nodes and links below /dev: those that the specification always wants, and `linux.devices`.

Spec: config-linux.md#default-devices, config-linux.md#devices; Kernel: mknod(2)
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.mounts import SEVERED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.ops import Op
    from ocirun.plan.slots import Slots
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
    ("/dev/core", "/proc/kcore"),
)


def makedev(major: int, minor: int) -> int:
    """Return the number that mknod(2) takes (the kernel's new_encode_dev)."""
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


class _Node:
    __slots__ = ("gid", "mode", "number", "origin", "path", "uid")

    def __init__(self, path: str, mode: int, number: int, uid: int, gid: int, origin: str) -> None:
        self.path = path
        self.mode = mode
        self.number = number
        self.uid = uid
        self.gid = gid
        self.origin = origin


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
        )
    return list(nodes.values())


def build_nodes(linux: Linux) -> list[Op]:
    """Return the operations that make the nodes, for a runtime that may."""
    return [
        ops.device(node.path, node.mode, node.number, node.uid, node.gid, node.origin)
        for node in _nodes(linux)
    ]


def build_bound_nodes(linux: Linux, slots: Slots) -> tuple[list[Op], list[Op]]:
    """Return (before the user namespace, below the root): the host's nodes, bound, where mknod(2) is impossible.

    A node made in a user namespace would be of no use: the mount has MNT_NODEV's effect (5.x: EPERM at once).
    """
    before = []
    below = []
    for node in _nodes(linux):
        slot = slots.new()
        before.append(ops.open_tree(slot, _host_path(node), False, node.origin))
        below.append(ops.bind(slot, node.path, node.origin, propagation=SEVERED, flags=ops.NO_SYMLINKS))
    return before, below


def _host_path(node: _Node) -> str:
    """Return where the host has the device: a default one under its usual name, another one under the same name."""
    for path, (major, minor) in DEFAULT_DEVICES.items():
        if node.mode & _TYPE_BITS == _TYPES["c"] and node.number == makedev(major, minor):
            return path
    return node.path


def build_links() -> list[Op]:
    """Return the operations that make the links of /dev."""
    links = [ops.symlink(path, target, "/linux/devices") for path, target in LINKS]
    # The image's own ptmx, if any, would be another instance's.
    links.append(ops.symlink("/dev/ptmx", "pts/ptmx", "/linux/devices", ops.REPLACE))
    return links
