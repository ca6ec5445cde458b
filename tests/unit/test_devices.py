# SPDX-License-Identifier: Apache-2.0
"""Nodes and links below /dev, and the numbers of devices."""

from __future__ import annotations

import os
import stat
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocirun.plan import devices, ops
from ocirun.plan.slots import Slots
from ocirun.spec.model import Linux

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
    made = devices.build_nodes(linux())
    assert {op.texts[0]: op.numbers for op in made} == {
        path: (stat.S_IFCHR | 0o666, os.makedev(*number), 0, 0) for path, number in DEFAULTS.items()
    }


@given(st.lists(CONFIGURED, max_size=4))
def test_configured_nodes(nodes: list[dict[str, Any]]) -> None:
    """Each configured node is made as configured, once; the last of a path and the configured one win."""
    made = {op.texts[0]: op for op in devices.build_nodes(linux(*nodes))}
    assert set(made) == set(DEFAULTS) | {node["path"] for node in nodes}
    for index, node in enumerate(nodes):
        if node["path"] in {other["path"] for other in nodes[index + 1 :]}:
            continue
        op = made[node["path"]]
        mode, number, uid, gid = op.numbers
        kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[node["type"]]
        # Whatever bits of a type fileMode holds (engines put st_mode there), the type is that of `type`.
        assert stat.S_IFMT(mode) == kind
        assert stat.S_IMODE(mode) == stat.S_IMODE(node.get("fileMode", 0o666))
        assert number == (0 if node["type"] == "p" else os.makedev(node["major"], node["minor"]))
        assert (uid, gid) == (node.get("uid", 0), node.get("gid", 0))
        assert op.origin == f"/linux/devices/{index}"


@given(st.lists(CONFIGURED, max_size=4))
def test_bound_nodes(nodes: list[dict[str, Any]]) -> None:
    """In a user namespace the same paths are bound from the host, each by a descriptor that was opened before."""
    slots = Slots()
    before, below = devices.build_bound_nodes(linux(*nodes), slots)
    assert [op.texts[3] for op in below] == [op.texts[0] for op in devices.build_nodes(linux(*nodes))]
    assert [op.slots[0] for op in before] == [op.slots[0] for op in below]
    assert len({op.slots[0] for op in before}) == len(before)
    assert all(op.flags & ops.NO_SYMLINKS for op in below)
    assert all(not op.flags & ops.RECURSIVE for op in before)
    sources = dict(zip([op.texts[3] for op in below], [op.texts[0] for op in before], strict=True))
    configured = {node["path"] for node in nodes}
    for path in DEFAULTS:
        if path not in configured:
            assert sources[path] == path


def test_a_default_device_under_another_name() -> None:
    """A node with the number of a default one is bound from where every host has that."""
    before, _ = devices.build_bound_nodes(linux({"path": "/srv/nothing", "type": "c", "major": 1, "minor": 3}), Slots())
    assert before[-1].texts[0] == "/dev/null"
    before, _ = devices.build_bound_nodes(linux({"path": "/dev/loop9", "type": "b", "major": 1, "minor": 3}), Slots())
    assert before[-1].texts[0] == "/dev/loop9"


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
