# SPDX-License-Identifier: Apache-2.0
"""Nodes and links below /dev, and the numbers of devices."""

from __future__ import annotations

import os
import stat
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocirun.plan import devices, ops
from ocirun.plan.devices import DeviceNodes
from ocirun.plan.mounts import SEVERED
from ocirun.plan.ops import Op
from ocirun.plan.slots import Slots
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.model import IdMapping, Linux

DEFAULTS = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
CONFIGURED = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["/dev/null", "/dev/fuse", "/dev/mine", "/srv/node"]),
        "type": st.sampled_from(["c", "u", "b", "p"]),
        "major": st.integers(0, 4095),
        "minor": st.integers(0, 1048575),
    },
    optional={"fileMode": st.integers(0, 0o177777), "uid": st.integers(0, 2**32 - 2), "gid": st.integers(0, 2**32 - 2)},
)


def linux(*nodes: dict[str, Any]) -> Linux:
    return Linux.decode({"namespaces": [], "devices": list(nodes)})


@given(st.integers(0, 4095), st.integers(0, 1048575))
def test_numbers_are_the_kernels(major: int, minor: int) -> None:
    """The number that mknod(2) takes is the one that stat(2) will show, as far as the kernel's goes."""
    number = devices.makedev(major, minor)
    assert number == os.makedev(major, minor)
    assert (os.major(number), os.minor(number)) == (major, minor)
    assert number < 2**32


def test_defaults() -> None:
    """config-linux.md#default-devices: six nodes of mode 0666 that belong to root, and no console."""
    made = DeviceNodes.make(linux())
    assert {op.texts[0]: op.numbers for op in made.below_root} == {
        path: (stat.S_IFCHR | 0o666, os.makedev(*number), 0, 0) for path, number in DEFAULTS.items()
    }
    assert (made.before_user, made.slot) == ([], ops.NO_SLOT)


def check_node(op: Op, node: dict[str, Any], index: int) -> None:
    """Fail unless an operation has the numbers that the configuration asks for."""
    mode, number, uid, gid = op.numbers[:4]
    kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[node["type"]]
    # Whatever bits of a type fileMode holds (engines put st_mode there), the type is that of `type`.
    assert stat.S_IFMT(mode) == kind
    assert stat.S_IMODE(mode) == stat.S_IMODE(node.get("fileMode", 0o666))
    assert number == (0 if node["type"] == "p" else os.makedev(node["major"], node["minor"]))
    assert (uid, gid) == (node.get("uid", 0), node.get("gid", 0))
    assert op.origin == f"/linux/devices/{index}"


def last_of_each_path(nodes: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], int]]:
    """Return what counts where a path comes twice."""
    return {node["path"]: (node, index) for index, node in enumerate(nodes)}


@given(st.lists(CONFIGURED, max_size=4))
def test_configured_nodes(nodes: list[dict[str, Any]]) -> None:
    """Each configured node is made as configured, once; the last of a path and the configured one win."""
    made = {op.texts[0]: op for op in DeviceNodes.make(linux(*nodes)).below_root}
    assert set(made) == set(DEFAULTS) | {node["path"] for node in nodes}
    for path, (node, index) in last_of_each_path(nodes).items():
        check_node(made[path], node, index)
        assert made[path].slots == (ops.NO_SLOT,)


@given(st.lists(CONFIGURED, max_size=4))
def test_nodes_made_outside(nodes: list[dict[str, Any]]) -> None:
    """For a user namespace each node is made with the host's ids on one mount, and bound; a fifo is made inside."""
    maps = IdMaps(*([IdMapping({"containerID": 0, "hostID": 100000, "size": 2**32 - 200000})],) * 2, "/linux")
    made = DeviceNodes.make_outside(linux(*nodes), Slots(), maps)
    mount, *outside = made.before_user
    assert mount.name == "MOUNT"
    assert mount.flags == ops.DETACHED
    assert mount.slots == (made.slot,)
    assert {op.slots for op in outside} == {(made.slot,)}
    shown = {op.texts[0]: op for op in made.below_root}
    assert set(shown) == set(DEFAULTS) | {node["path"] for node in nodes}
    sources = {str(op.texts[0]).lstrip("/"): op for op in outside}
    for path, (node, index) in last_of_each_path(nodes).items():
        check_node(shown[path], node, index)
        if node["type"] == "p":
            assert shown[path].name == "DEVICE"
            continue
        assert shown[path].name == "BIND_DEVICE"
        source = sources[str(shown[path].texts[1])]
        mode, number, uid, gid = shown[path].numbers[:4]
        assert source.numbers[:2] == (mode, number)
        if max(uid, gid) < 2**32 - 200000:
            assert source.numbers[2:] == (uid + 100000, gid + 100000)


@given(st.lists(CONFIGURED, max_size=4), st.booleans())
def test_borrowed_nodes(nodes: list[dict[str, Any]], early: bool) -> None:
    """Without power the host's nodes are bound, each by a descriptor that was opened before, and must be what the
    configuration says, in as much as it says it."""
    made = DeviceNodes.borrow(linux(*nodes), Slots(), early=early)
    opened = [op for op in (made.before_user if early else made.below_root) if op.name == "OPEN_TREE"]
    below = {op.texts[0]: op for op in made.below_root if op.name != "OPEN_TREE"}
    bound = [op for op in below.values() if op.name == "BIND_DEVICE"]
    assert [op.slots for op in opened] == [op.slots for op in bound]
    assert len({op.slots for op in opened}) == len(opened)
    assert all(not op.flags & ops.RECURSIVE for op in opened)
    # What the container mounts on a device must not appear on the host's.
    assert all(op.numbers[4] == SEVERED for op in bound)
    for path, (node, index) in last_of_each_path(nodes).items():
        check_node(below[path], node, index)
        if node["type"] != "p":
            wanted = {"fileMode": ops.SAME_MODE, "uid": ops.SAME_UID, "gid": ops.SAME_GID}
            assert below[path].flags == sum(flag for name, flag in wanted.items() if name in node)
    sources = dict(zip([op.texts[0] for op in bound], [op.texts[0] for op in opened], strict=True))
    for path in set(DEFAULTS) - set(last_of_each_path(nodes)):
        assert sources[path] == path
        assert below[path].flags == 0


def test_a_default_device_under_another_name() -> None:
    """A node with the number of a default one is bound from where every host has that."""
    for path, kind, source in (("/srv/nothing", "c", "/dev/null"), ("/dev/loop9", "b", "/dev/loop9")):
        node = {"path": path, "type": kind, "major": 1, "minor": 3}
        assert DeviceNodes.borrow(linux(node), Slots(), early=True).before_user[-1].texts[0] == source


def test_links() -> None:
    """The links that the specification and programs expect; ptmx replaces what the image brought."""
    made = {op.texts[0]: op for op in devices.build_links()}
    assert {path: op.texts[1] for path, op in made.items()} == {
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
        "/dev/core": "/proc/kcore",
        "/dev/ptmx": "pts/ptmx",
    }
    assert [path for path, op in made.items() if op.flags & ops.REPLACE] == ["/dev/ptmx"]
