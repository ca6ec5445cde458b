# SPDX-License-Identifier: Apache-2.0
"""config-linux.md#cgroup-ownership: who shall own the cgroup, and what of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ocirun.cgroups.delegation import ALWAYS, delegate
from ocirun.cgroups.hierarchies import Hierarchy
from ocirun.spec.cgroup_owner import cgroup_owner
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.model import Config, IdMapping

MAPS = IdMaps([IdMapping({"containerID": 5, "hostID": 100, "size": 10})], [], "/linux")
MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}


def owner(maps: IdMaps | None, uid: int, namespace: dict[str, Any] | None, mount: dict[str, Any] | None) -> int | None:
    """Return the owner for a configuration of these parts."""
    document = {
        "ociVersion": "1.0.0",
        "process": {"user": {"uid": uid, "gid": 0}, "cwd": "/"},
        "mounts": [mount] if mount else [],
        "linux": {"namespaces": [namespace] if namespace else []},
    }
    return cgroup_owner(Config.decode(document), maps)


@pytest.mark.parametrize(
    ("maps", "uid", "namespace", "mount", "expected"),
    [
        (None, 7, {"type": "cgroup"}, MOUNT, 7),
        (MAPS, 7, {"type": "cgroup"}, MOUNT, 102),
        (MAPS, 4, {"type": "cgroup"}, MOUNT, None),
        (None, 7, {"type": "cgroup"}, MOUNT | {"destination": "/sys/fs/cgroup/"}, 7),
        (None, 7, {"type": "cgroup"}, MOUNT | {"options": ["nosuid", "ro"]}, None),
        (None, 7, {"type": "cgroup"}, MOUNT | {"options": ["rro"]}, None),
        (None, 7, {"type": "cgroup"}, MOUNT | {"source": "cgroup2"}, None),
        (None, 7, {"type": "cgroup"}, MOUNT | {"destination": "/cgroup"}, None),
        (None, 7, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}, MOUNT, None),
        (None, 7, None, MOUNT, None),
        (None, 7, {"type": "cgroup"}, None, None),
    ],
)
def test_owner(
    maps: IdMaps | None, uid: int, namespace: dict[str, Any] | None, mount: dict[str, Any] | None, expected: int | None
) -> None:
    """The process's user as the host has it, with a new cgroup namespace and a mount that is not read-only."""
    assert owner(maps, uid, namespace, mount) == expected


@pytest.mark.root
@pytest.mark.parametrize("listed", [True, False])
def test_files(tmp_path: Path, listed: bool) -> None:
    """Those on the kernel's list that are there, or the three that the specification names; links are not followed."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    cgroup, outside = tmp_path / "cg/c", tmp_path / "outside"
    cgroup.mkdir(parents=True)
    outside.write_text("")
    for name in (*ALWAYS[:2], "memory.reclaim", "memory.max"):
        (cgroup / name).write_text("")
    (cgroup / ALWAYS[2]).symlink_to(outside)
    table = tmp_path / "delegate"
    if listed:
        table.write_text("cgroup.procs\nmemory.reclaim\nnot.there\n")
    delegate([hierarchy(tmp_path / "cg", 2)], 4242, str(table))
    owned = {entry.name for entry in cgroup.iterdir() if entry.lstat().st_uid == 4242}
    assert owned == ({"cgroup.procs", "memory.reclaim"} if listed else set(ALWAYS))
    assert cgroup.stat().st_uid == 4242
    assert outside.stat().st_uid == 0


@pytest.mark.root
def test_version_1_is_left_alone(tmp_path: Path) -> None:
    """Neither a hierarchy of version 1 nor the empty tree beside such ones is given away."""
    (tmp_path / "c").mkdir()
    for versions in ([1], [2, 1], []):
        delegate([hierarchy(tmp_path, version) for version in versions], 4242)
    assert (tmp_path / "c").stat().st_uid == os.geteuid()


def hierarchy(mount_point: Path, version: int) -> Hierarchy:
    """Return a hierarchy with the container's cgroup "c"."""
    return Hierarchy(version=version, mount_point=str(mount_point), root="/", controllers=(), path="c")
