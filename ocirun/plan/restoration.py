# SPDX-License-Identifier: Apache-2.0
"""The plan that starts CRIU for a restore: in a mount namespace of its own, and in the container's cgroups.

 1. what CRIU is to make the root of is cloned, before anything is mounted in it
 2. the mounts of config.json are made once more, as at create, so that every place that CRIU will mount on is there; a
    root file system that comes from elsewhere has them not.  On a file system that is mounted they are gone afterwards.
 3. the clean clone is attached in the container's entry: CRIU wants a mount point that nothing covers
 4. the cgroups, in which CRIU makes the processes

Nothing of 1 to 3 is seen outside of that mount namespace, and nothing is left of it when CRIU has ended, however it
does.  What CRIU takes from the host (external mounts) is there as it is for us.
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.build import join_bundle
from ocirun.plan.mapped_mounts import MappedMounts
from ocirun.plan.mounts import MountBuilder
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.plan import Plan
from ocirun.plan.slots import Slots
from ocirun.spec.mount_options import MS_PRIVATE, MS_REC, MS_SLAVE, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.spec.model import Config

#: The directory of the container's entry that CRIU makes the root from.
ROOT = "criu-root"


def build_restoring(
    config: Config,
    bundle: str,
    entry: str,
    program: tuple[Sequence[str], Sequence[str]],
    *,
    join_paths: Sequence[str],
    keep_count: int,
    own_session: bool,
) -> Plan:
    """Return the plan; `program` is arguments and environment.  Pure: reads nothing but its arguments."""
    assert config.root is not None
    assert config.linux is not None
    slots = Slots()
    clean, root, place = slots.new(), slots.new(), slots.new()
    path = join_bundle(bundle, config.root.path)
    mounts = MountBuilder(
        bundle,
        slots,
        MappedMounts(config.mounts, None, slots),
        early=False,
        user_namespace=False,
        cgroups=(),
        unified=True,
        own_cgroup_namespace=False,
        borrow_cgroups=False,
        has_cgroup=True,
        foreign=frozenset(),
        label=config.linux.mount_label,
    )
    operations = [
        ops.unshare(CLONE_FLAGS["mount"], ""),
        ops.propagation(MS_SLAVE | MS_REC, ""),
        ops.open_tree(clean, path, True, "/root/path"),
        ops.open_tree(root, path, True, "/root/path"),
        ops.rootfs(root, path, MS_PRIVATE, MS_SLAVE),
    ]
    for index, mount in enumerate(config.mounts):
        if mount.type in ("cgroup", "cgroup2") and not parse_options(mount.options).bind:
            continue  # where it goes is part of what is mounted before it
        operations.extend(mounts.build(mount, f"/mounts/{index}"))
    operations += [
        ops.open_tree(place, entry, False, ""),
        ops.rootfs(place, entry, MS_PRIVATE, MS_SLAVE),
        ops.bind(clean, f"/{ROOT}", "/root/path", propagation=MS_PRIVATE | MS_REC, flags=ops.RECURSIVE),
        *_execute(program, join_paths, own_session=own_session),
    ]
    return Plan(
        operations,
        slots,
        clone_flags=0,
        keep_count=keep_count,
        two_steps=False,
        makes_user_namespace=False,
        warnings=mounts.warnings,
    )


def _execute(program: tuple[Sequence[str], Sequence[str]], join_paths: Sequence[str], *, own_session: bool) -> list[Op]:
    args, env = program
    return [
        ops.barrier(ops.BARRIER_CGROUP),
        *(ops.join_cgroup(each) for each in join_paths),
        *((ops.setsid(),) if own_session else ()),
        ops.announce(),
        ops.execute(args, env, ops.HOOK_UMASK, "", args[0]),
    ]
