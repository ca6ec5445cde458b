# SPDX-License-Identifier: Apache-2.0
"""Plans of callers without root's power: what is cloned where, who init is meanwhile, what stands in for what."""

from __future__ import annotations

from typing import Any

import pytest
from support.bundle import default_spec, merge

from ocirun.plan import ops
from ocirun.plan.build import Plan, build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.ops import Op
from ocirun.spec.model import Config
from ocirun.spec.mount_options import RDONLY

MAPPING = [{"containerID": 0, "hostID": 1000, "size": 1}]
USERNS = {"linux": {"uidMappings": MAPPING, "gidMappings": MAPPING}}
SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs"}
MQUEUE = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}


def plan(
    namespaces: dict[str, str | None], *mounts: dict[str, Any], patch: dict[str, Any] | None = None, **how: Any
) -> Plan:
    """Build a plan; `namespaces` are kinds and the paths of those that are joined."""
    spec = default_spec()
    kinds = [{"type": kind} | ({"path": path} if path else {}) for kind, path in namespaces.items()]
    merge(spec, {"linux": {"namespaces": kinds}})
    if namespaces.get("user", "") is None:
        merge(spec, USERNS)
    merge(spec, patch or {})
    spec["mounts"] += mounts
    return build(Config.decode(spec), Circumstances("/bundle", "id", **how))


def indices(made: Plan, name: str) -> list[int]:
    """Return where operations of a name are."""
    return [index for index, op in enumerate(made.ops) if op.name == name]


def first(made: Plan, name: str) -> Op:
    """Return the first operation of a name."""
    return made.ops[indices(made, name)[0]]


ALL = {"user": None, "mount": None, "pid": None, "ipc": None, "uts": None, "network": None}


def test_sources_are_cloned_inside_without_power_outside() -> None:
    """After the mount namespace was made, and while init is still the caller; nothing before."""
    made = plan(ALL, privileged=False, may_clone_mounts=False)
    (maps,), (become,), (fork,) = indices(made, "ID_MAPS"), indices(made, "BECOME"), indices(made, "FORK")
    user, others = indices(made, "UNSHARE")[:2]
    clones = indices(made, "OPEN_TREE")
    assert user < maps < others < min(clones)
    assert max(clones) < become < fork
    assert made.ops[maps].flags & ops.DUMPABLE


def test_sources_are_cloned_outside_with_power() -> None:
    """What root can reach it clones before a user namespace takes the power away."""
    made = plan(ALL)
    (maps,), (become,) = indices(made, "ID_MAPS"), indices(made, "BECOME")
    assert max(indices(made, "OPEN_TREE")) < indices(made, "UNSHARE")[0] < maps < become
    assert not made.ops[maps].flags & ops.DUMPABLE


@pytest.mark.parametrize(("may_clone", "order"), [(True, ["network", "user"]), (False, ["user", "network"])])
def test_order_of_joins(may_clone: bool, order: list[str]) -> None:
    """With power the user namespace is joined last, which takes it away; without it first, which gives it."""
    joined = {"user": "/u", "network": "/n", "mount": None}
    made = plan(joined, privileged=may_clone, may_clone_mounts=may_clone)
    flags = {"network": 0x40000000, "user": 0x10000000}
    assert [made.ops[index].numbers[0] for index in indices(made, "JOIN")] == [flags[kind] for kind in order]


@pytest.mark.parametrize(("inside", "expected"), [(0, (0, 0)), (7, (7, 7))])
def test_who_init_is(inside: int, expected: tuple[int, int]) -> None:
    """Root of the namespace, or whoever there is in it."""
    mapping = [{"containerID": inside, "hostID": 1000, "size": 5}]
    made = plan(ALL, patch={"linux": {"uidMappings": mapping, "gidMappings": mapping}})
    assert tuple(first(made, "BECOME").numbers[:2]) == expected


@pytest.mark.parametrize(
    ("may_set_groups", "annotations", "expected"),
    [(True, {}, True), (False, {}, False), (True, {"run.oci.keep_original_groups": "1"}, False)],
)
def test_groups_are_given_up_where_that_is_allowed(
    may_set_groups: bool, annotations: dict[str, str], expected: bool
) -> None:
    """By who becomes root of the namespace, and by the process."""
    made = plan(ALL, patch={"annotations": annotations}, may_set_groups=may_set_groups)
    assert bool(first(made, "BECOME").flags & ops.SETGROUPS) is expected
    assert (first(made, "IDS").texts[0] is not None) is expected


HOST = {"mount": None}
OWN = {"user": None, "mount": None}
SHARED = {"user": "/u", "mount": None}


@pytest.mark.parametrize(
    ("namespaces", "nested", "is_own"),
    [
        (HOST, False, True),
        (HOST, True, False),
        (HOST | {"network": None, "ipc": None}, True, True),
        (HOST | {"network": "/n", "ipc": "/i"}, True, True),
        (OWN, False, False),
        (OWN | {"network": None, "ipc": None}, False, True),
        (OWN | {"network": "/n", "ipc": "/i"}, False, False),
        (SHARED, False, False),
        (SHARED | {"network": "/n", "ipc": "/i"}, False, True),
    ],
)
def test_file_systems_of_namespaces(namespaces: dict[str, str | None], nested: bool, is_own: bool) -> None:
    """sysfs and mqueue are new where their namespace belongs to the container's user namespace, else the host's."""
    made = plan(namespaces, SYSFS, MQUEUE, patch={"hostname": None}, in_user_namespace=nested)
    types = {made.ops[index].texts[0] for index in indices(made, "MOUNT")}
    assert ({"sysfs", "mqueue"} <= types) is is_own
    assert len([each for each in made.warnings if each.startswith("/mounts/")]) == (0 if is_own else 2)
    if not is_own:
        (bound,) = [op for op in made.ops if op.name == "BIND" and op.texts[3] == "/sys"]
        assert bound.flags & ops.RECURSIVE
        assert bound.numbers[4] & RDONLY


@pytest.mark.parametrize(
    ("destination", "cgroups"), [("/sys", "/fs/cgroup"), ("/", "/fs/cgroup"), ("/a//b/", "/a/b/fs/cgroup")]
)
def test_cgroups_in_a_borrowed_sysfs(destination: str, cgroups: str) -> None:
    """They are made read-only where they are: below "/sys", which is kept open, or below wherever the host's is mounted."""
    made = plan(OWN, SYSFS | {"destination": destination, "options": ["ro"]}, patch={"hostname": None})
    assert cgroups in [op.texts[0] for op in made.ops if op.name == "READONLY"]


@pytest.mark.parametrize("has_cgroup", [True, False])
def test_cgroup_of_the_runtime_is_read_only(has_cgroup: bool) -> None:
    """A cgroup namespace shows the cgroup that its maker is in: without one of the container's, the runtime's."""
    made = plan(HOST | {"cgroup": None}, CGROUP, patch={"hostname": None}, has_cgroup=has_cgroup)
    (mount,) = [op for op in made.ops if op.name == "MOUNT" and op.texts[0] == "cgroup2"]
    assert bool(mount.numbers[0] & RDONLY) is not has_cgroup
    assert len(made.warnings) == (0 if has_cgroup else 1)
