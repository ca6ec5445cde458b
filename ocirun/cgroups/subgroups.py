# SPDX-License-Identifier: Apache-2.0
"""The cgroup that exec puts a process into: the container's, or one below it.

`subgroups` maps controllers to paths below the container's cgroup, "" stands for all of them; empty means the
container's own.
"""

from __future__ import annotations

import os

from ocirun.errors import CgroupError

from .hierarchies import check_subgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from . import CgroupManager
    from .hierarchies import Hierarchy


def open_birthplace(manager: CgroupManager, subgroups: Mapping[str, str]) -> int | None:
    """Return an owned directory descriptor for CLONE_INTO_CGROUP, None without version 2.  Errors: CgroupError"""
    if any(hierarchy.version == 1 for hierarchy in manager.paths()):
        # Version 2 has no controllers then, and its cgroups are not what anybody means.
        return manager.clone_into()
    for controller in subgroups:
        if controller:
            raise CgroupError(
                f"cgroup of {controller}: in version 2 there is one hierarchy, and a path has no controller", op="exec"
            )
    return manager.clone_into(subgroups.get("", ""))


def join_files(manager: CgroupManager, subgroups: Mapping[str, str]) -> list[str]:
    """Return the files by which a process joins version 1 cgroups, as CgroupManager.join_paths.  Errors: CgroupError"""
    hierarchies = [hierarchy for hierarchy in manager.paths() if hierarchy.version == 1]
    if not hierarchies or not subgroups or "" in subgroups:
        return manager.join_paths(subgroups.get("", "") if hierarchies else "")
    known = {controller for hierarchy in hierarchies for controller in hierarchy.controllers}
    for controller in subgroups:
        if controller not in known:
            raise CgroupError(f"the container has no cgroup of a controller {controller!r}", op="exec")
    return [_join_file(hierarchy, subgroups) for hierarchy in hierarchies]


def _join_file(hierarchy: Hierarchy, subgroups: Mapping[str, str]) -> str:
    asked: Sequence[str] = [
        check_subgroup(subgroups[controller]) for controller in hierarchy.controllers if controller in subgroups
    ]
    if len(set(asked)) > 1:
        raise CgroupError(
            f"cgroups of {','.join(hierarchy.controllers)}: one hierarchy cannot have several paths", op="exec"
        )
    directory = "/".join([hierarchy.directory, *(path for path in asked[:1] if path)])
    if not os.path.isdir(directory):
        raise CgroupError(f"{directory}: there is no such cgroup", op="exec")
    return f"{directory}/tasks"
