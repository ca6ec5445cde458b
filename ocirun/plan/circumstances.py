# SPDX-License-Identifier: Apache-2.0
"""What a plan depends on beside config.json."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.mounts import CgroupMount
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.id_maps import IdMaps


class Circumstances:
    """Everything beside config.json that a plan depends on: the host, and how create was called.

    `join_paths` are the files of version 1 cgroups by which init joins them, `joined_maps` the maps of a user namespace
    that is joined, where they are known: it is an input ("user") then, the very one that has these maps.
    `may_set_groups` is false where setgroups(2) is denied in the container; `has_cgroup` where it has none of its own;
    `may_clone_mounts` where the runtime itself has no power over its mounts.
    """

    __slots__ = (
        "available_capabilities",
        "bundle",
        "cgroups",
        "container_id",
        "has_cgroup",
        "in_user_namespace",
        "join_paths",
        "joined_maps",
        "keep_count",
        "last_capability",
        "listen_fds",
        "may_clone_mounts",
        "may_set_groups",
        "new_keyring",
        "no_pivot",
        "notify_directory",
        "privileged",
        "seccomp",
        "unified",
    )

    def __init__(
        self,
        bundle: str,
        container_id: str,
        *,
        available_capabilities: int = (1 << 41) - 1,
        last_capability: int = 40,
        in_user_namespace: bool = False,
        privileged: bool = True,
        unified: bool = True,
        cgroups: Sequence[CgroupMount] = (),
        join_paths: Sequence[str] = (),
        seccomp: CompiledFilter | None = None,
        keep_count: int = 0,
        listen_fds: int = 0,
        no_pivot: bool = False,
        new_keyring: bool = True,
        notify_directory: str | None = None,
        joined_maps: IdMaps | None = None,
        may_set_groups: bool = True,
        may_clone_mounts: bool = True,
        has_cgroup: bool = True,
    ) -> None:
        self.bundle = bundle
        self.container_id = container_id
        self.available_capabilities = available_capabilities
        self.last_capability = last_capability
        self.in_user_namespace = in_user_namespace
        self.privileged = privileged
        self.unified = unified
        self.cgroups = tuple(cgroups)
        self.join_paths = tuple(join_paths)
        self.seccomp = seccomp
        self.keep_count = keep_count
        self.listen_fds = listen_fds
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.notify_directory = notify_directory
        self.joined_maps = joined_maps
        self.may_set_groups = may_set_groups
        self.may_clone_mounts = may_clone_mounts
        self.has_cgroup = has_cgroup
