# SPDX-License-Identifier: Apache-2.0
"""Any valid process, in any container: the plan of exec holds together, and keeps the order that it promises."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_model import Credentials
from native.building import tool
from property.test_plan import ALL_CAPABILITIES, FILLS, USES, Filter, run

from ocirun.host import HostFacts
from ocirun.plan import ops
from ocirun.plan.execution import Joined, build_joining
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.plan import Plan
from ocirun.validate import validate_document

Case = tuple[dict[str, Any], Joined]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return a valid configuration with a process, and what exec finds on the host."""
    document = draw(strategies.configs().filter(lambda config: "process" in config))
    kinds = draw(st.sets(st.sampled_from(sorted(CLONE_FLAGS))))
    return document, Joined(
        77,
        sorted(kinds | {"mount"}),
        available_capabilities=draw(st.sampled_from((ALL_CAPABILITIES, ALL_CAPABILITIES & ~(1 << 5)))),
        privileged=draw(st.booleans()),
        set_groups=draw(st.booleans()),
        join_paths=draw(st.sampled_from(((), ("/cg/pids/c/tasks", "/cg/cpu/c/tasks")))),
        rdt_paths=draw(st.sampled_from(((), ("/r/c/tasks",)))),
        seccomp=draw(st.none() | st.booleans().map(Filter)),  # type: ignore[arg-type]
        keep_count=draw(st.integers(0, 3)),
        keyring=draw(st.none() | st.just("_ses.c1")),
        own_root=draw(st.booleans()),
    )


def plan_of(case: Case) -> Plan:
    document, joined = case
    config = validate_document(json.dumps(document).encode(), HostFacts.of())
    assert config.process is not None
    assert config.linux is not None
    return build_joining(config.process, config.linux, joined)


def places(plan: Plan, *names: str) -> list[int]:
    return [index for index, op in enumerate(plan.ops) if op.name in names]


relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@relaxed
@given(cases())
def test_the_checker_accepts_it(case: Case) -> None:
    """ocirun-init refuses none of them."""
    content = plan_of(case).encode()
    path = Path(f"/dev/shm/ocirun-exec-plan-{id(content)}")
    try:
        path.write_bytes(content)
        done = subprocess.run([tool("dump_plan", "-O1"), path], stdout=subprocess.DEVNULL, check=False)
    finally:
        path.unlink(missing_ok=True)
    assert done.returncode == 0


@relaxed
@given(cases())
def test_slots_are_filled_before_they_are_used(case: Case) -> None:
    """Every input is used, and every slot is filled before."""
    plan = plan_of(case)
    filled, used = set(range(len(plan.inputs))), {0}
    for op in plan.ops:
        for index in USES.get(op.name, ()):
            slot = (*op.slots, -1, -1)[index]
            assert slot == ops.NO_SLOT or slot in filled, op
            used.add(slot)
        for index in FILLS.get(op.name, ()):
            slot = (*op.slots, -1, -1)[index]
            if op.name == "OPEN_NAMESPACE":
                assert slot in filled, "the parent has opened it: no path is looked up"
            elif slot != ops.NO_SLOT:
                filled.add(slot)
    assert filled == set(range(plan.slot_count))
    assert set(range(len(plan.inputs))) <= used


@relaxed
@given(cases())
def test_order(case: Case) -> None:
    """What is of the host comes before the namespaces, what is of the process after them."""
    plan, (document, joined) = plan_of(case), case
    joins = places(plan, "JOIN")
    (root,), (barrier, ready) = places(plan, "ENTER_ROOT"), places(plan, "BARRIER")
    assert [plan.ops[index].numbers[0] for index in (barrier, ready)] == [ops.BARRIER_CGROUP, ops.BARRIER_READY]
    assert len(joins) == len(joined.namespaces)
    # Paths of the host, and what takes power over it.
    on_the_host = places(plan, "JOIN_CGROUP", "AFFINITY", "OPEN_PROC")
    on_the_host += [index for index, op in enumerate(plan.ops) if op.origin == "/process/oomScoreAdj"]
    on_the_host += [index for index, op in enumerate(plan.ops) if op.name == "RLIMIT" and op.flags & ops.RAISE]
    assert all(index < joins[0] for index in on_the_host)
    assert all(index > barrier for index in places(plan, "JOIN_CGROUP"))
    affinity = [plan.ops[index].origin.rpartition("/")[2] for index in places(plan, "AFFINITY")]
    expected = document["process"].get("execCPUAffinity") or {}
    assert affinity == [name for name in ("initial", "final") if expected.get(name)]
    for index, name in zip(places(plan, "AFFINITY"), affinity, strict=True):
        assert (index < barrier) == (name == "initial")
    # The user namespace goes last while we have power over the host, and first without.
    kinds = [plan.ops[index].numbers[0] for index in joins]
    if CLONE_FLAGS["user"] in kinds:
        assert kinds.index(CLONE_FLAGS["user"]) == (len(kinds) - 1 if joined.privileged else 0)
        (become,) = places(plan, "BECOME")
        assert become == joins[kinds.index(CLONE_FLAGS["user"])] + 1
    # A joined pid namespace is for children; everything else is the child's.
    forks = places(plan, "FORK")
    assert plan.two_steps == bool(forks) == (CLONE_FLAGS["pid"] in kinds)
    assert all(joins[-1] < index < root for index in forks)
    inside = places(plan, "SETSID", "KEYRING", "CONSOLE", "STDIO", "SCHEDULER", "IDS", "CAPABILITIES")
    assert all(index > root for index in inside)
    assert all(index < ready for index in places(plan, "IDS", "FIND_EXECUTABLE", "KEYRING", "CONSOLE"))
    assert all(index > ready for index in places(plan, "ANNOUNCE", "SECCOMP", "NO_NEW_PRIVILEGES", "EXEC"))
    assert plan.ops[-1].name == "EXEC"
    makes = ("MOUNT", "BIND", "ROOTFS", "PIVOT", "MASK", "DIRECTORY", "DEVICE", "HOOK", "WAIT_START", "UNSHARE")
    assert not places(plan, *makes)


@relaxed
@given(cases())
def test_capabilities_end_as_asked(case: Case) -> None:
    """S-37: no step is one that the kernel refuses, and execve starts from the sets of the document."""
    document, joined = case
    available = joined.available_capabilities
    sets = document["process"].get("capabilities") or {}
    asked = {
        name: sum(strategies.CAPABILITY_NUMBERS.get(word, 0) for word in sets.get(name, ())) & available
        for name in ("bounding", "effective", "permitted", "inheritable")
    }
    if asked["inheritable"] & ~asked["bounding"]:
        return  # refused by the kernel once the bounding set has been cut
    kernel = Credentials(available)
    run(kernel, plan_of(case))
    assert (kernel.bounding, kernel.permitted) == (asked["bounding"], asked["permitted"])
    assert kernel.effective == asked["effective"] & asked["permitted"]
    assert kernel.inheritable == asked["inheritable"]
    assert kernel.ambient & ~(kernel.permitted & kernel.inheritable) == 0
