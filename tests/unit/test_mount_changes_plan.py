# SPDX-License-Identifier: Apache-2.0
"""The plans of `mounts add` and `mounts remove`."""

from __future__ import annotations

import pytest

from ocirun.plan import ops
from ocirun.plan.mount_changes import ENTERED, Place, build_adding, build_removing, build_taking_back, check
from ocirun.plan.mounts import SEVERED
from ocirun.plan.plan import Plan
from ocirun.spec.model import Mount

IDS = [{"containerID": 0, "hostID": 1000, "size": 10}]
MOUNTS = [
    Mount.decode({"destination": "/a//b/", "source": "data", "options": ["rbind", "ro"]}),
    Mount.decode({"destination": "/t", "type": "tmpfs", "options": ["nosuid", "size=1k"]}),
    Mount.decode({"destination": "/m", "type": "tmpfs", "uidMappings": IDS, "gidMappings": IDS}),
    Mount.decode({"destination": "/n", "source": "/x", "options": ["bind", "ridmap"], "uidMappings": IDS, "gidMappings": IDS}),
]  # fmt: skip


def place(privileged: bool = True, own_root: bool = False) -> Place:
    return Place(7, ENTERED, privileged=privileged, ids=(0, 0), own_root=own_root)


def names(plan: Plan) -> list[str]:
    return [op.name for op in plan.ops]


@pytest.mark.parametrize("privileged", [True, False])
def test_order(privileged: bool) -> None:
    """What is the caller's comes before the first namespace, and nothing is attached before the parent knows of it."""
    plan = build_adding(MOUNTS, "/bundle", place(privileged), maps=None, label=None)
    order = names(plan)
    first = order.index("JOIN")
    assert order[0] == "OPEN_PROC"
    assert order[-1] == "END"
    assert all(order.index(name) < first for name in ("OPEN_NAMESPACE", "OPEN_TREE"))
    assert max(at for at, name in enumerate(order) if name in ("OPEN_TREE", "IDMAP")) < first < order.index("ENTER_ROOT")
    joined = [op.numbers[0] for op in plan.ops if op.name == "JOIN"]
    assert joined == sorted(joined, reverse=not privileged)  # CLONE_NEWNS is below CLONE_NEWUSER
    for at, op in enumerate(plan.ops):
        if op.name == "BIND":
            before = plan.ops[at - 1]
            assert (before.name, before.numbers[0], before.slots) == ("BARRIER", ops.BARRIER_MOUNT, (op.slots[0],) * 2)
    plan.encode()


def test_sources_are_cut_off() -> None:
    """The clone of a source is no peer of it from the first moment on; relative ones are below the bundle."""
    plan = build_adding(MOUNTS, "/bundle", place(), maps=None, label=None)
    clones = [(op.texts[0], op.numbers) for op in plan.ops if op.name == "OPEN_TREE"]
    assert clones == [("/bundle/data", (SEVERED,)), ("/x", (SEVERED,))]
    assert [op.texts[3] for op in plan.ops if op.name == "BIND"] == ["/a/b", "/t", "/m", "/n"]
    assert [op.origin for op in plan.ops if op.name == "BIND"] == ["/0", "/1", "/2", "/3"]


def test_a_new_file_system_belongs_to_the_container() -> None:
    """It is made where the container's root has power over it, or by ours where its ids are mapped."""
    plan = build_adding(MOUNTS, "/bundle", place(), maps=None, label="l")
    order = names(plan)
    made = {op.texts[3]: at for at, op in enumerate(plan.ops) if op.name == "MOUNT"}
    assert made["/m"] < order.index("JOIN") < made["/t"]
    assert all(op.flags & ops.DETACHED for op in plan.ops if op.name == "MOUNT")
    assert "context=l" in plan.ops[made["/t"]].texts[2]
    assert plan.inputs == ("sync", "idmap0", *ENTERED)


def test_idmap_and_ridmap() -> None:
    """The ids of the mount alone are mapped, or of all that is mounted in it."""
    plan = build_adding(MOUNTS, "/bundle", place(), maps=None, label=None)
    assert {op.texts[0]: op.flags for op in plan.ops if op.name == "IDMAP"} == {"/m": 0, "/n": ops.RECURSIVE}


def test_removal_looks_at_all_before_it_takes_one() -> None:
    """The deepest goes first; a container whose root is not that of its mounts has it entered."""
    plan = build_removing([("/0/destination", "/a"), ("/1/destination", "/a/b")], place(own_root=True))
    order = names(plan)
    assert order[-3:] == ["UNMOUNT", "UNMOUNT", "END"]
    assert order.count("RESOLVE") == order.count("BARRIER") == 2
    assert [op.texts[0] for op in plan.ops if op.name == "UNMOUNT"] == ["/a/b", "/a"]
    enter = plan.ops[order.index("ENTER_ROOT")]
    assert plan.inputs[enter.slots[0]] == "root"
    plan.encode()


def test_taking_back_needs_no_look_up() -> None:
    """What was attached is unmounted by its descriptor, the last first; what was not yet is no error."""
    plan = build_taking_back([("/0", "/a"), ("/1", "/b")], place())
    undone = [op for op in plan.ops if op.name == "UNMOUNT"]
    assert [plan.inputs[op.slots[0]] for op in undone] == ["mount1", "mount0"]
    assert all(op.flags == ops.IF_THERE for op in undone)
    assert "RESOLVE" not in names(plan)


def test_without_power_over_the_own_mounts() -> None:
    """A user can mount what is new in his container, but nothing of the host."""
    found = check(MOUNTS[:2], may_clone=False)
    assert [(each.gate, each.pointer) for each in found] == [("rule", "/0/source")]


def test_plan_as_text() -> None:
    """Every operation has words."""
    text = build_adding(MOUNTS, "/bundle", place(), maps=None, label=None).explain()
    assert "clone /bundle/data as #4 with submounts (rslave)" in text
    assert "wait until the parent has had a look at the mount" in text
    assert build_removing([("/0", "/a")], place()).explain().splitlines()[-1] == "end"
