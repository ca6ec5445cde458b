# SPDX-License-Identifier: Apache-2.0
"""Any valid configuration makes a plan that holds together: order, data flow, origins, namespaces, capabilities."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_model import Credentials
from native.building import tool

from ocirun.host import HostFacts
from ocirun.plan import ops
from ocirun.plan.build import build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.mounts import CgroupMount, normalize
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.ops import Op
from ocirun.plan.plan import Plan
from ocirun.validate import validate_document

# abi.h: which slots an operation fills and which it uses.
FILLS = {"OPEN_NAMESPACE": (0,), "OPEN_TREE": (0,), "MOUNT": (0,), "BIND": (1,), "BARRIER": (0,),
         "OPEN_NETLINK": (0,)}  # fmt: skip
USES = {
    "JOIN": (0,), "ROOTFS": (0, 1), "BIND": (0,), "MASK": (0,), "READONLY": (0,), "WAIT_START": (0,), "CONSOLE": (0,),
    "SECCOMP": (0, 1), "ANNOUNCE": (0, 1), "IDMAP": (0, 1), "DEVICE": (0,), "BIND_DEVICE": (0,), "BARRIER": (1,),
    "ENTER_ROOT": (0,),
}  # fmt: skip
ON_THE_HOST = ("OPEN_NAMESPACE", "OPEN_TREE", "JOIN_CGROUP")
BELOW_ROOT = ("MOUNT", "BIND", "REMOUNT", "DEVICE", "BIND_DEVICE", "SYMLINK", "CONSOLE", "DIRECTORY")
ALL_CAPABILITIES = (1 << 41) - 1


class Filter:
    """A compiled filter, as far as a plan is concerned."""

    def __init__(self, notify: bool) -> None:
        self.program = bytes(16)
        self.flags = 4
        self.flags_without_agent = 4
        self.notify = notify
        self.listener_path = "/agent" if notify else None
        self.listener_metadata = None
        self.skipped_names: tuple[str, ...] = ()


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], Circumstances]:
    """Return a valid document, some of its namespaces joined, and circumstances to build a plan in."""
    document = draw(strategies.configs())
    for namespace in document["linux"]["namespaces"]:
        # The mount namespace must be new, a joined user namespace has no mappings of ours.
        if namespace["type"] not in ("mount", "user", "time") and draw(st.booleans()):
            namespace["path"] = f"/proc/1/ns/{namespace['type']}"
    unified = draw(st.booleans())
    cgroups = [
        CgroupMount("cpu,cpuacct", "cpu,cpuacct", "/cg/cpu/c", ["cpu", "cpuacct"]),
        CgroupMount("pids", "pids", "/cg/pids/c"),
    ]
    has_process = "process" in document
    return document, Circumstances(
        "/bundle",
        "c1",
        available_capabilities=draw(st.sampled_from((ALL_CAPABILITIES, ALL_CAPABILITIES & ~(1 << 5)))),
        unified=unified,
        cgroups=() if unified else cgroups,
        join_paths=() if unified else [f"{each.path}/tasks" for each in cgroups],
        seccomp=draw(st.none() | st.booleans().map(Filter)) if has_process else None,  # type: ignore[arg-type]
        keep_count=draw(st.integers(0, 3)),
        listen_fds=draw(st.integers(0, 2)),
        no_pivot=draw(st.booleans()),
        new_keyring=draw(st.booleans()),
        notify_directory=draw(st.none() | st.just("/state/c1/notify")),
    )


def plan_of(case: tuple[dict[str, Any], Circumstances]) -> Plan:
    document, circumstances = case
    return build(validate_document(json.dumps(document).encode(), HostFacts.of()), circumstances)


def places(plan: Plan, *names: str) -> list[int]:
    """Return where operations of these names are, but for those on a mount that is not below the root yet."""
    return [index for index, op in enumerate(plan.ops) if op.name in names and not is_aside(op)]


def is_aside(op: Op) -> bool:
    """Say whether an operation makes a mount that is attached later, or a node on such a mount."""
    return (op.name == "MOUNT" and bool(op.flags & ops.DETACHED)) or (op.name == "DEVICE" and op.slots[0] != ops.NO_SLOT)


# Making a whole valid document takes longer than looking at its plan.
relaxed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@relaxed
@given(cases())
def test_the_checker_accepts_it(case: tuple[dict[str, Any], Circumstances]) -> None:
    """No valid configuration makes a plan that ocirun-init would refuse."""
    content = plan_of(case).encode()
    path = Path(f"/dev/shm/ocirun-plan-{id(content)}")
    try:
        path.write_bytes(content)
        done = subprocess.run([tool("dump_plan", "-O1"), path], stdout=subprocess.DEVNULL, check=False)
    finally:
        path.unlink(missing_ok=True)
    assert done.returncode == 0


@relaxed
@given(cases())
def test_slots_are_filled_before_they_are_used(case: tuple[dict[str, Any], Circumstances]) -> None:
    """Each slot is filled once, before anybody uses it, and none is made for nobody."""
    plan = plan_of(case)
    filled = set(range(len(plan.inputs)))
    used = {0}
    for op in plan.ops:
        for index in USES.get(op.name, ()):
            slot = (*op.slots, -1, -1)[index]
            assert slot == ops.NO_SLOT or slot in filled, op
            used.add(slot)
        for index, slot in enumerate(op.slots):
            assert slot == ops.NO_SLOT or index in (*FILLS.get(op.name, ()), *USES.get(op.name, ())), op
        for index in FILLS.get(op.name, ()):
            slot = (*op.slots, -1, -1)[index]
            if op.name == "OPEN_NAMESPACE" and slot < len(plan.inputs):
                used.add(slot)  # its type is verified
            elif slot != ops.NO_SLOT:
                assert slot not in filled, op
                assert slot < plan.slot_count
                filled.add(slot)
    assert filled == set(range(plan.slot_count))


@relaxed
@given(cases())
def test_order(case: tuple[dict[str, Any], Circumstances]) -> None:
    """The order that plan/build.py promises, of whatever is in the plan."""
    plan = plan_of(case)
    (root,), (pivot,), (wait,) = places(plan, "ROOTFS"), places(plan, "PIVOT"), places(plan, "WAIT_START")
    created = [i for i in places(plan, "BARRIER") if plan.ops[i].numbers == (ops.BARRIER_CREATED,)]
    assert len(created) == 1
    assert created[0] < wait
    assert all(index > root for index in places(plan, *BELOW_ROOT))
    assert all(index < pivot for index in places(plan, *BELOW_ROOT, *ON_THE_HOST, "MASK", "READONLY", "SYSCTL"))
    assert all(index > pivot for index in places(plan, "ROOT_ATTRIBUTES", "IDS", "CAPABILITIES", "BOUNDING", "STDIO"))
    for index in places(plan, "MASK", "READONLY"):
        if plan.ops[index].origin.startswith("/mounts/"):
            continue  # belongs to that mount: the next may be on top of it
        # What is made read-only or hidden stays so: no mount of config.json comes after it.
        assert all(other < index for other in places(plan, "MOUNT", "BIND", "REMOUNT"))
    for index in places(plan, "IDS"):
        assert places(plan, "BOUNDING") < [index]
        assert created[0] > index
        assert max(places(plan, "CAPABILITIES")[:1]) > index
    of_hooks = {
        index + 1 + number for index in places(plan, "HOOK") for number in range(plan.ops[index].numbers[5])
    }
    assert {plan.ops[index].name for index in of_hooks} <= {"NO_NEW_PRIVILEGES", "SECCOMP", "CAPABILITIES"}
    for index in places(plan, "SECCOMP"):
        assert index > wait
        if index in of_hooks:
            continue
        # Under the filter: nothing but the fall of the last capability, and execve.
        assert [op.name for op in plan.ops[index + 1 :] if not op.flags & ops.FINAL] == ["EXEC"]
    for index in places(plan, "HOOK"):
        inside = plan.ops[index].origin.startswith("/hooks/startContainer")
        assert (index > wait) == inside
        assert inside or index < pivot
        # What the process is confined by confines the image's programs before it, and not the host's.
        wanted = plan.ops[places(plan, "ANNOUNCE")[0] + 1 : -1] if inside else ()
        followed = plan.ops[index + 1 : index + 1 + plan.ops[index].numbers[5]]
        assert [(op.name, op.texts) for op in followed] == [(op.name, op.texts) for op in wanted]
    assert [op.name for op in plan.ops].index("EXEC") == len(plan.ops) - 1


@relaxed
@given(cases())
def test_namespaces_are_entered_once(case: tuple[dict[str, Any], Circumstances]) -> None:
    """Every namespace is made or joined exactly once; user first of those made, last of those joined."""
    document, _ = case
    plan = plan_of(case)
    wanted_new = sorted(n["type"] for n in document["linux"]["namespaces"] if "path" not in n)
    wanted_joined = sorted(n["type"] for n in document["linux"]["namespaces"] if "path" in n)
    made = [plan.clone_flags]
    made += [op.numbers[0] for op in plan.ops if op.name in ("UNSHARE", "FORK")]
    assert sum(made) == sum(CLONE_FLAGS[kind] for kind in wanted_new)
    assert sum(bits.bit_count() for bits in made) == len(wanted_new)
    names = {flag: kind for kind, flag in CLONE_FLAGS.items()}
    opened = [names[op.numbers[0]] for op in plan.ops if op.name == "OPEN_NAMESPACE"]
    joined = [names[op.numbers[0]] for op in plan.ops if op.name == "JOIN"]
    assert sorted(opened) == sorted(joined) == wanted_joined
    # Paths are opened before anything changes what they mean.
    changes = places(plan, "JOIN", "UNSHARE", "FORK", "ID_MAPS", "PROPAGATION")
    assert all(place < min(changes) for place in places(plan, "OPEN_NAMESPACE"))
    two_steps = "user" in wanted_new or "time" in wanted_new or "pid" in wanted_joined
    assert plan.two_steps == two_steps
    assert len(places(plan, "FORK")) == two_steps
    assert (plan.clone_flags == 0) == two_steps
    for fork in places(plan, "FORK"):
        # The cgroup namespace is rooted in the cgroup that init is in by then.
        cgroup = [i for i in places(plan, "UNSHARE") if plan.ops[i].numbers[0] == CLONE_FLAGS["cgroup"]]
        assert all(index < fork for index in places(plan, "UNSHARE", "ID_MAPS") if index not in cgroup)
        assert plan.ops[fork + 1] == ops.barrier(ops.BARRIER_LIMITS)
        assert all(index < fork for index in places(plan, "JOIN_CGROUP"))


@relaxed
@given(cases())
def test_host_paths_come_before_the_user_namespace(case: tuple[dict[str, Any], Circumstances]) -> None:
    """What takes the caller's power over host objects happens while the caller's power is there."""
    document, _ = case
    plan = plan_of(case)
    if "user" not in {n["type"] for n in document["linux"]["namespaces"]}:
        assert places(plan, "DEVICE")
        return
    (entered,) = (i for i in places(plan, "UNSHARE") if plan.ops[i].numbers[0] & CLONE_FLAGS["user"])
    assert all(index < entered for index in places(plan, *ON_THE_HOST))
    assert all(stat.S_ISFIFO(plan.ops[index].numbers[0]) for index in places(plan, "DEVICE"))
    assert all(index < entered for index, op in enumerate(plan.ops) if is_aside(op) or op.name == "IDMAP")
    raised = [i for i in places(plan, "RLIMIT") if plan.ops[i].flags & ops.RAISE]
    assert len(raised) == len(document.get("process", {}).get("rlimits", ()))
    assert all(index < entered for index in raised)
    (maps,) = places(plan, "ID_MAPS")
    assert maps == entered + 1


@relaxed
@given(cases())
def test_everything_asked_for_is_there(case: tuple[dict[str, Any], Circumstances]) -> None:
    """Each mount, path, parameter, limit and hook of the document has its operations, in the document's order."""
    document, _ = case
    plan = plan_of(case)
    done = [plan.ops[index] for index in places(plan, "MOUNT", "BIND", "REMOUNT")]
    seen = [op.origin for op in done if op.origin.startswith("/mounts/")]
    assert list(dict.fromkeys(seen)) == [f"/mounts/{index}" for index in range(len(document.get("mounts", ())))]
    for index, mount in enumerate(document.get("mounts", ())):
        on = [op.texts[3] for op in done if op.origin == f"/mounts/{index}" and op.name != "REMOUNT"]
        assert normalize(mount["destination"]) in on
    linux = document["linux"]
    assert [op.origin for op in plan.ops if op.name == "MASK"] == [
        f"/linux/maskedPaths/{index}" for index in range(len(linux.get("maskedPaths", ())))
    ]
    readonly = [op.origin for op in plan.ops if op.name == "READONLY" and not op.origin.startswith("/mounts/")]
    assert readonly == [
        f"/linux/readonlyPaths/{index}" for index in range(len(linux.get("readonlyPaths", ())))
    ]
    assert len(places(plan, "SYSCTL")) == len(linux.get("sysctl", ()))
    inside = document.get("hooks", {})
    hooks = inside.get("createContainer", []) + (inside.get("startContainer", []) if "process" in document else [])
    assert [op.texts[0] for op in plan.ops if op.name == "HOOK"] == [hook["path"] for hook in hooks]
    nodes = {plan.ops[index].texts[0] for index in places(plan, "DEVICE", "BIND_DEVICE")}
    mapped = {f"/mounts/{i}" for i, mount in enumerate(document.get("mounts", ())) if "uidMappings" in mount}
    assert {op.origin for op in plan.ops if op.name == "IDMAP"} >= mapped
    assert len(plan.maps) == len({str(maps) for maps in plan.maps})
    assert {"/dev/null", *(device["path"] for device in linux.get("devices", ()))} <= nodes


@relaxed
@given(cases())
def test_origins_lead_into_the_document(case: tuple[dict[str, Any], Circumstances]) -> None:
    """An origin is a JSON pointer; an index or a sysctl's name in it is one of the document's."""
    document, _ = case
    for op in plan_of(case).ops:
        assert op.origin == "" or op.origin.startswith("/"), op
        here: Any = document
        for token in op.origin.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(here, list):
                assert int(key) < len(here), op
                here = here[int(key)]
            elif isinstance(here, dict) and key in here:
                here = here[key]
            else:
                # A default: nothing is there, so nothing can be below it.
                assert not key.isdigit(), op
                break


@relaxed
@given(cases())
def test_plans_can_be_shown(case: tuple[dict[str, Any], Circumstances]) -> None:
    """The text has a line for each operation, the JSON an object, and both are of one mind."""
    plan = plan_of(case)
    lines = plan.explain().splitlines()
    shown = json.loads(json.dumps(plan.to_json()))
    assert len(shown["operations"]) == len(plan.ops)
    assert shown["warnings"] == list(plan.warnings)
    # Texts of the document may have line ends; the words of ours have none.
    if not any("\n" in str(text) or "\x85" in str(text) for op in plan.ops for text in (op.texts, op.origin)):
        assert len(lines) >= 1 + len(plan.ops) + len(plan.warnings)
    for op, entry in zip(plan.ops, shown["operations"], strict=True):
        assert entry["op"].upper() == op.name
        assert entry["origin"] == op.origin


def run(credentials: Credentials, plan: Plan) -> None:
    """Let the model of the kernel do what the plan says about identity."""
    calls = {
        "BOUNDING": lambda op: credentials.drop_bounding(op.numbers[0]),
        "IDS": lambda op: credentials.become(op.numbers[0], op.numbers[1]),
        "NO_NEW_PRIVILEGES": lambda op: credentials.set_no_new_privileges(),
        "SECCOMP": lambda op: credentials.load_filter(),
    }
    of_hook = 0
    for op in plan.ops:
        of_hook -= 1
        if op.name == "HOOK":
            of_hook = op.numbers[5]
        if of_hook >= 0:
            continue  # what its process does is its own
        if op.name == "CAPABILITIES":
            effective, permitted, inheritable, ambient = op.numbers
            credentials.capset(effective, permitted, inheritable)
            if not op.flags & ops.FINAL:
                credentials.clear_ambient()
                credentials.raise_ambient(ambient)
        elif op.name in calls:
            calls[op.name](op)


@relaxed
@given(cases())
def test_capabilities_end_as_asked(case: tuple[dict[str, Any], Circumstances]) -> None:
    """capabilities(7): no step is one that the kernel refuses, and execve starts from the sets of the document."""
    document, circumstances = case
    if "process" not in document:
        return
    process = document["process"]
    available = circumstances.available_capabilities
    asked = {
        name: sum(strategies.CAPABILITY_NUMBERS.get(word, 0) for word in process.get("capabilities", {}).get(name, ()))
        & available
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    asked["inheritable"] &= asked["bounding"]
    kernel = Credentials(available)
    run(kernel, plan_of(case))
    permitted = asked["permitted"]
    assert kernel.bounding == asked["bounding"]
    assert kernel.permitted == permitted
    assert kernel.effective == asked["effective"] & permitted
    assert kernel.inheritable == asked["inheritable"]
    assert kernel.ambient == asked["ambient"] & permitted & asked["inheritable"]
    assert (kernel.uid, kernel.gid) == (process["user"]["uid"], process["user"]["gid"])
    assert kernel.no_new_privileges == process.get("noNewPrivileges", False)
    assert kernel.filters == (circumstances.seccomp is not None)


@relaxed
@given(cases())
def test_plans_are_pure(case: tuple[dict[str, Any], Circumstances]) -> None:
    """The same arguments give the same plan."""
    first, second = plan_of(case), plan_of(case)
    assert first.ops == second.ops
    assert first.encode() == second.encode()
