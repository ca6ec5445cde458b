# SPDX-License-Identifier: Apache-2.0
"""process.scheduler, process.ioPriority, process.execCPUAffinity, linux.memoryPolicy: seen from inside."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import threading
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand

from ocirun.plan.process import MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, SCHEDULER_FLAGS
from ocirun.spec import rules
from ocirun.spec.model import Config

pytestmark = [
    pytest.mark.root,
    pytest.mark.ocirun_only("runc 1.1.5 and crun 1.8 lack most of it"),
]
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}[platform.machine()]
# A cgroup of version 1 with CONFIG_RT_GROUP_SCHED has no real-time of its own unless it is given some.
REAL_TIME = {"cpu": {"realtimeRuntime": 10000, "realtimePeriod": 1000000}}
RESET = "SCHED_FLAG_RESET_ON_FORK"
MILLISECOND = 1000000


@pytest.fixture
def real_time(bundle: Bundle) -> Bundle:
    """A bundle whose cgroup has real-time, where that takes something."""
    if Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        bundle.linux(resources=REAL_TIME)
    return bundle


def set_policy(mode: int, nodes: int) -> int:
    """Set the memory policy of this thread; returns the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    mask = ctypes.c_ulong(nodes)
    size = 65 if nodes else 0
    return ctypes.get_errno() if libc.syscall(SET_MEMPOLICY, mode, ctypes.byref(mask) if nodes else None, size) else 0


@pytest.fixture
def numa() -> None:
    """A kernel with memory policies (CONFIG_NUMA)."""
    if set_policy(-1, 0) == errno.ENOSYS:
        pytest.skip("machine: the kernel has no memory policies")


# ---- scheduler -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_OTHER"}, {"policy": 0, "nice": 0, "flags": 0}),
        ({"policy": "SCHED_OTHER", "nice": 7}, {"policy": 0, "nice": 7}),
        ({"policy": "SCHED_OTHER", "nice": -20}, {"policy": 0, "nice": -20}),
        ({"policy": "SCHED_OTHER", "nice": 1, "flags": [RESET]}, {"policy": 0, "nice": 1, "flags": 1}),
        ({"policy": "SCHED_BATCH", "nice": 19}, {"policy": 3, "nice": 19, "flags": 0}),
        ({"policy": "SCHED_IDLE"}, {"policy": 5, "flags": 0}),
        ({"policy": "SCHED_FIFO", "priority": 1}, {"policy": 1, "priority": 1}),
        ({"policy": "SCHED_FIFO", "priority": 99, "flags": [RESET]}, {"policy": 1, "priority": 99, "flags": 1}),
        ({"policy": "SCHED_RR", "priority": 50}, {"policy": 2, "priority": 50}),
    ],
    ids=str,
)
def test_scheduler(
    runtime: RuntimeCommand, real_time: Bundle, scheduler: dict[str, Any], expected: dict[str, int]
) -> None:
    """Policy, nice value, priority and flags are the program's, whatever its user may do by itself."""
    real_time.process(scheduler=scheduler, user={"uid": 1000, "gid": 1000}, capabilities=None)
    got = runtime.report(real_time)["scheduler"]
    assert {key: got[key] for key in expected} == expected


@pytest.mark.parametrize("flags", [[], [RESET], [RESET, "SCHED_FLAG_RECLAIM"], ["SCHED_FLAG_DL_OVERRUN"]], ids=str)
def test_deadline_scheduler(runtime: RuntimeCommand, bundle: Bundle, flags: list[str]) -> None:
    """SCHED_DEADLINE with its three times in nanoseconds, and the flags that it alone has."""
    # Long enough for the whole report: an overrun is a fatal signal with one of the flags.
    times = {"runtime": 400 * MILLISECOND, "deadline": 900 * MILLISECOND, "period": 1000 * MILLISECOND}
    got = runtime.report(bundle.process(scheduler={"policy": "SCHED_DEADLINE", "flags": flags, **times}))["scheduler"]
    assert got["policy"] == 6
    assert {key: got[key] for key in times} == times
    assert got["flags"] == sum(SCHEDULER_FLAGS[flag] for flag in flags)


def test_keep_flags(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """sched_setattr(2): with the KEEP flags what the process has stays, whatever is said beside them."""
    keep = ["SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"]
    bundle.process(scheduler={"policy": "SCHED_BATCH", "nice": 5, "flags": keep})
    got = runtime.report(bundle, before_exec=lambda: os.nice(3))["scheduler"]
    assert (got["policy"], got["nice"]) == (0, 3)


@pytest.mark.parametrize("flag", ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"])
def test_utilisation_clamps(runtime: RuntimeCommand, bundle: Bundle, flag: str) -> None:
    """Applied where the kernel has them (CONFIG_UCLAMP_TASK); else its refusal names the place."""
    result = runtime.run(bundle.process(scheduler={"policy": "SCHED_OTHER", "flags": [flag]}))
    if Path("/proc/sys/kernel/sched_util_clamp_min").exists():
        assert result.ok().report["scheduler"]["flags"] & SCHEDULER_FLAGS[flag]
    else:
        result.refused("/process/scheduler: sched_setattr: ", "operation not supported")


def test_policy_that_the_kernel_lacks(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """SCHED_ISO is a number that Linux has reserved and never used."""
    result = runtime.run(bundle.process(scheduler={"policy": "SCHED_ISO"}))
    result.refused("/process/scheduler: sched_setattr: EINVAL")


@pytest.mark.userns
def test_real_time_in_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """CAP_SYS_NICE of a user namespace is not enough, and the refusal says so."""
    result = runtime.run(bundle.userns().process(scheduler={"policy": "SCHED_FIFO", "priority": 1}))
    result.refused("/process/scheduler: sched_setattr: EPERM", "CAP_SYS_NICE")


@pytest.mark.parametrize(
    ("scheduler", "pointer"),
    [
        ({"policy": "SCHED_NONSENSE"}, "policy"),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONSENSE"]}, "flags/0"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "nice"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "priority"),
        ({"policy": "SCHED_FIFO"}, "priority"),
        ({"policy": "SCHED_RR", "priority": 0}, "priority"),
        ({"policy": "SCHED_FIFO", "priority": 100}, "priority"),
        ({"policy": "SCHED_FIFO", "priority": -1}, "priority"),
        ({"policy": "SCHED_FIFO", "priority": 1, "runtime": 5000}, "runtime"),
        ({"policy": "SCHED_DEADLINE"}, ""),
        ({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 5000}, ""),
        ({"policy": "SCHED_DEADLINE", "runtime": 6000, "deadline": 5000}, ""),
        ({"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 5000, "period": 4000}, ""),
        ({"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 5000, "priority": 1}, "priority"),
    ],
    ids=str,
)
def test_scheduler_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, scheduler: dict[str, Any], pointer: str
) -> None:
    """What the kernel would answer with EINVAL is refused with words, before anything is made."""
    runtime.run(bundle.process(scheduler=scheduler)).refused(f"/process/scheduler{pointer and '/' + pointer}: ")


def test_deadline_cannot_fork(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """sched(7): startContainer hooks would be forked by a process that cannot; with RESET_ON_FORK it can."""
    bundle.patch({"hooks": {"startContainer": [{"path": "/probe", "args": ["probe", "exit", "0"]}]}})
    times = {"runtime": 2 * MILLISECOND, "deadline": 100 * MILLISECOND}
    bundle.process(scheduler={"policy": "SCHED_DEADLINE", **times})
    runtime.run(bundle).refused("/process/scheduler/flags", RESET)
    bundle.again().process(scheduler={"policy": "SCHED_DEADLINE", "flags": [RESET], **times})
    assert runtime.report(bundle)["scheduler"]["policy"] == 6


# ---- I/O priority --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "value"),
    [
        ({"class": "IOPRIO_CLASS_RT", "priority": 0}, 1 << 13),
        ({"class": "IOPRIO_CLASS_RT", "priority": 7}, 1 << 13 | 7),
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, 2 << 13 | 6),
        ({"class": "IOPRIO_CLASS_BE"}, 2 << 13),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 7}, 3 << 13 | 7),
    ],
    ids=str,
)
def test_io_priority(runtime: RuntimeCommand, bundle: Bundle, priority: dict[str, Any], value: int) -> None:
    """W30: ioPriority is that of the program and of its process group, whatever its user may do by itself."""
    bundle.process(ioPriority=priority, user={"uid": 1000, "gid": 1000}, capabilities=None)
    report = runtime.report(bundle)
    assert report["ioprio"] == report["ioprio_group"] == value


def test_io_priority_is_not_the_callers_groups(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The group is the container's: whoever called create keeps what they had."""
    # The shell leads a group of its own, in which ocirun is.
    shell = 'ionice -P $$ >&2; "$@"; code=$?; ionice -P $$ >&2; exit $code'
    bundle.process(ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 7})
    result = runtime.under("sh", "-c", shell, "sh").run(bundle).ok()
    before, after = result.stderr.splitlines()
    assert before == after
    assert "idle" not in after


@pytest.mark.parametrize(
    ("priority", "pointer"),
    [
        ({"class": "IOPRIO_CLASS_NONE", "priority": 0}, "class"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "priority"),
        ({"class": "IOPRIO_CLASS_BE", "priority": -1}, "priority"),
        ({"priority": 1}, "class"),
    ],
    ids=str,
)
def test_io_priority_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, priority: dict[str, Any], pointer: str
) -> None:
    """An unknown class, and a level that no class has, are refused."""
    runtime.run(bundle.process(ioPriority=priority)).refused(f"/process/ioPriority/{pointer}: ")


# ---- CPU affinity of exec ------------------------------------------------------------------------


def test_exec_cpu_affinity_is_not_inits(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """config.md: the affinity concerns exec alone; init has that of its cgroup, and config.json is kept for exec."""
    default = runtime.report(bundle)["affinity"]
    bundle.again().process(execCPUAffinity={"initial": "0", "final": "0"})
    assert runtime.report(bundle)["affinity"] == default
    container = runtime.create(bundle.again())
    kept = (runtime.root / container.id / "config.json").read_bytes()
    assert b'"execCPUAffinity"' in kept


@pytest.mark.parametrize("name", ["initial", "final"])
@pytest.mark.parametrize("cpus", ["x", "0-", "3-1", "0,,1", "8192", "99999999999", "-1"])
def test_exec_cpu_affinity_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, name: str, cpus: str) -> None:
    """A list that is none is refused by create, not only by the exec that would need it."""
    runtime.run(bundle.process(execCPUAffinity={name: cpus})).refused(f"/process/execCPUAffinity/{name}: ")


# ---- memory policy -------------------------------------------------------------------------------


@pytest.mark.usefixtures("numa")
@pytest.mark.parametrize(
    "policy",
    [
        {"mode": "MPOL_DEFAULT"},
        {"mode": "MPOL_LOCAL"},
        {"mode": "MPOL_PREFERRED"},
        *({"mode": mode, "nodes": "0"} for mode in sorted(MEMORY_POLICY_MODES) if mode[5:] not in ("DEFAULT", "LOCAL")),
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
        {"mode": "MPOL_BIND", "nodes": "0-0", "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"]},
    ],
    ids=str,
)
def test_memory_policy(runtime: RuntimeCommand, bundle: Bundle, policy: dict[str, Any]) -> None:
    """The NUMA policy is the program's, with its nodes and flags, also when the caller has another one."""
    report = runtime.report(bundle.linux(memoryPolicy=policy), before_exec=lambda: set_policy(1 | 1 << 15, 1))
    mode = MEMORY_POLICY_MODES[policy["mode"]]
    if policy["mode"] == "MPOL_PREFERRED" and "nodes" not in policy:
        mode = MEMORY_POLICY_MODES["MPOL_LOCAL"]  # the kernel makes it that
    assert report["mempolicy"] == mode | sum(MEMORY_POLICY_FLAGS[flag] for flag in policy.get("flags", ()))
    assert report["mempolicy_nodes"] == (1 if "nodes" in policy else 0)


@pytest.mark.usefixtures("numa")
def test_node_that_is_not_there(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A node that this machine has not is the kernel's refusal, at its place."""
    result = runtime.run(bundle.linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "1000-1023"}))
    result.refused("/linux/memoryPolicy: set_mempolicy: EINVAL")


@pytest.mark.parametrize(
    ("policy", "pointer"),
    [
        ({"mode": "MPOL_NONSENSE"}, "mode"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONSENSE"]}, "flags/0"),
        ({"mode": "MPOL_BIND", "nodes": "all"}, "nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0-99999999999"}, "nodes"),
        ({"mode": "MPOL_BIND", "nodes": "2-1"}, "nodes"),
        ({"mode": "MPOL_BIND"}, "nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "nodes"),
    ],
    ids=str,
)
def test_memory_policy_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, policy: dict[str, Any], pointer: str
) -> None:
    """Words that are none, and combinations that no kernel takes, are refused before anything is made."""
    runtime.run(bundle.linux(memoryPolicy=policy)).refused(f"/linux/memoryPolicy/{pointer}: ")


@pytest.mark.usefixtures("numa")
def test_rules_of_memory_policies_are_the_kernels() -> None:
    """The rules refuse no combination of mode, flags and nodes that this kernel takes, nor let one pass."""
    answers: dict[tuple[str, tuple[str, ...], bool], int] = {}

    def ask() -> None:  # in a thread of its own, whose policy is nobody else's
        for mode, number in MEMORY_POLICY_MODES.items():
            for size in range(4):
                for flags in itertools.combinations(sorted(MEMORY_POLICY_FLAGS), size):
                    for nodes in (False, True):
                        value = number | sum(MEMORY_POLICY_FLAGS[flag] for flag in flags)
                        answers[mode, flags, nodes] = set_policy(value, int(nodes))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(answers) == 7 * 8 * 2
    for (mode, flags, nodes), error in answers.items():
        policy: dict[str, Any] = {"mode": mode, "flags": list(flags)}
        if nodes:
            policy["nodes"] = "0"
        linux = {"namespaces": [{"type": "mount"}], "memoryPolicy": policy}
        config = {"ociVersion": "1.3.0", "root": {"path": "r"}, "process": {"args": ["a"], "cwd": "/"}, "linux": linux}
        assert bool(rules.check(Config.decode(config))) == bool(error), (policy, error)
