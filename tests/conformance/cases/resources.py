# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: each resource, seen in the file of the cgroup, and by what it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context

MIB = 1 << 20


def limit(c: Context, controller: str, name: str) -> str:
    """Create the container, and return what the file of a limit says."""
    c.need_controller(controller)
    container = c.create()
    path = machine.cgroup_of(container.pid, controller) / name
    c.need(path.exists(), f"the kernel has no {name}")
    return " ".join(path.read_text().split())


def check(c: Context, resources: dict[str, Any], controller: str, v1: tuple[str, str], v2: tuple[str, str]) -> None:
    """Set a resource, and compare its file; an empty name: the version of cgroups that is here has none."""
    name, wanted = v2 if machine.PURE else v1
    c.need(name, f"cgroup version {'2' if machine.PURE else '1'} has no such limit")
    c.linux(resources=resources)
    probe_file(c, controller, name)
    c.equal(name, limit(c, controller, name), wanted)


def probe_file(c: Context, controller: str, name: str) -> None:
    """Say so where the kernel does not have the file at all: it is looked for in a cgroup of ours."""
    c.need_controller(controller)
    root = machine.CGROUP if machine.PURE else machine.hierarchies()[controller]
    place = root / f"{c.id}probe"
    place.mkdir()
    try:
        c.need((place / name).exists(), f"the kernel has no {name}")
    finally:
        place.rmdir()


MEMORY = {
    "limit": ({"limit": 64 * MIB}, ("memory.limit_in_bytes", str(64 * MIB)), ("memory.max", str(64 * MIB))),
    "reservation": (
        {"limit": 64 * MIB, "reservation": 32 * MIB},
        ("memory.soft_limit_in_bytes", str(32 * MIB)), ("memory.low", str(32 * MIB)),
    ),
    "swap": (
        {"limit": 64 * MIB, "swap": 96 * MIB},
        ("memory.memsw.limit_in_bytes", str(96 * MIB)), ("memory.swap.max", str(32 * MIB)),
    ),
    "unlimited": ({"limit": -1}, ("memory.limit_in_bytes", str((1 << 63) - 4096)), ("memory.max", "max")),
    "swap-unlimited": (
        {"limit": 64 * MIB, "swap": -1},
        ("memory.memsw.limit_in_bytes", str((1 << 63) - 4096)), ("memory.swap.max", "max"),
    ),
}  # fmt: skip


@case("memory-limit", each=MEMORY)
def memory(c: Context, values: dict[str, int], v1: tuple[str, str], v2: tuple[str, str]) -> None:
    """The limit is in its file."""
    check(c, {"memory": values}, "memory", v1, v2)


@case("memory-limit")
def memory_limit_holds(c: Context) -> None:
    """A program that uses more memory than it may is killed."""
    c.need_controller("memory")
    c.linux(resources={"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    output = c.run(["touch-memory", "8"], ["touch-memory", "128"])
    c.equal("allocations that were made", len(output.all("touch-memory")), 1)
    c.within("exit status", output.status, (137, -1))


@case("memory-kernel", each={"kernelTCP": ("kernelTCP", "memory.kmem.tcp.limit_in_bytes")})
def memory_kernel(c: Context, name: str, file: str) -> None:
    """The limit of version 1 is in its file."""
    check(c, {"memory": {name: 32 * MIB}}, "memory", (file, str(32 * MIB)), ("", ""))


@case("memory-swappiness", each={"0": 0, "60": 60, "100": 100})
def memory_swappiness(c: Context, value: int) -> None:
    """The value is in its file."""
    check(c, {"memory": {"swappiness": value}}, "memory", ("memory.swappiness", str(value)), ("", ""))


@case("memory-oom-killer", each={"true": (True, 1), "false": (False, 0)})
def memory_oom_killer(c: Context, value: bool, wanted: int) -> None:
    """The OOM killer is off where it is disabled."""
    c.need(not machine.PURE, "cgroup version 2 has no such setting")
    c.linux(resources={"memory": {"disableOOMKiller": value}})
    seen = limit(c, "memory", "memory.oom_control").split()
    c.equal("oom_kill_disable", seen[seen.index("oom_kill_disable") + 1], str(wanted))


CPU = {
    "quota": ({"quota": 25000, "period": 50000}, ("cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 50000")),
    "period": ({"quota": 25000, "period": 50000}, ("cpu.cfs_period_us", "50000"), ("cpu.max", "25000 50000")),
}  # fmt: skip


@case("cpu-quota", each=CPU)
def cpu_quota(c: Context, values: dict[str, int], v1: tuple[str, str], v2: tuple[str, str]) -> None:
    """The limit is in its file."""
    check(c, {"cpu": values}, "cpu", v1, v2)


@case("cpu-shares", each={"512": 512, "2": 2, "4096": 4096})
def cpu_shares(c: Context, value: int) -> None:
    """The share is in its file; version 2 has a weight instead, which grows with it."""
    c.linux(resources={"cpu": {"shares": value}})
    if machine.PURE:
        seen = int(limit(c, "cpu", "cpu.weight"))
        c.true("the weight is on the right side of the default", (seen < 100) == (value < 1024), seen)
    else:
        c.equal("cpu.shares", limit(c, "cpu", "cpu.shares"), str(value))


@case("cpu-burst")
def cpu_burst(c: Context) -> None:
    """The burst is in its file."""
    values = {"quota": 25000, "period": 50000, "burst": 10000}
    check(c, {"cpu": values}, "cpu", ("cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000"))


@case("cpu-burst", "create-cannot-apply")
def cpu_burst_above_quota(c: Context) -> None:
    """A burst above the quota is an error."""
    probe_file(c, "cpu", "cpu.max.burst" if machine.PURE else "cpu.cfs_burst_us")
    c.linux(resources={"cpu": {"quota": 25000, "period": 50000, "burst": 50000}})
    c.refused(why="a burst above the quota")


@case("cpu-idle")
def cpu_idle(c: Context) -> None:
    """The cgroup is idle."""
    check(c, {"cpu": {"idle": 1}}, "cpu", ("cpu.idle", "1"), ("cpu.idle", "1"))


@case("cpu-realtime")
def cpu_realtime(c: Context) -> None:
    """The times are in their files."""
    values = {"realtimeRuntime": 1000, "realtimePeriod": 1000000}
    check(c, {"cpu": values}, "cpu", ("cpu.rt_runtime_us", "1000"), ("", ""))


@case("cpu-sets", each={"cpus": ({"cpus": "0"}, "cpuset.cpus"), "mems": ({"mems": "0"}, "cpuset.mems")})
def cpu_sets(c: Context, values: dict[str, str], name: str) -> None:
    """The set is in its file."""
    check(c, {"cpu": values}, "cpuset", (name, "0"), (name, "0"))


@case("cpu-sets")
def cpu_set_holds(c: Context) -> None:
    """The program may use these CPUs only."""
    c.need_controller("cpuset")
    c.linux(resources={"cpu": {"cpus": "0"}})
    c.equal("CPUs of the program", c.report()["affinity"], 1)


@case("cpu-sets", "create-cannot-apply", each={"missing": "9999", "nonsense": "nonsense"})
def cpu_set_impossible(c: Context, cpus: str) -> None:
    """CPUs that are not there are an error."""
    c.need_controller("cpuset")
    c.linux(resources={"cpu": {"cpus": cpus}})
    c.refused(why="CPUs that are not there")


# -- block I/O ---------------------------------------------------------------------------------------------------------


def block_device(c: Context) -> tuple[int, int]:
    """Return the numbers of a whole disk."""
    found = sorted(Path("/sys/block").glob("*/dev")) if os.path.isdir("/sys/block") else []
    c.need(found, "no block device")
    major, minor = found[0].read_text().split(":")
    return int(major), int(minor)


THROTTLES = {
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}


@case("block-io-throttle", each={name: (name, *row) for name, row in THROTTLES.items()})
def block_io_throttle(c: Context, name: str, file: str, word: str) -> None:
    """The limit of a device is in its file."""
    controller = "io" if machine.PURE else "blkio"
    probe_file(c, controller, "io.max" if machine.PURE else file)
    major, minor = block_device(c)
    c.linux(resources={"blockIO": {name: [{"major": major, "minor": minor, "rate": 123456}]}})
    seen = limit(c, controller, "io.max" if machine.PURE else file)
    if machine.PURE:
        c.true(f"io.max has {word}=123456", f"{word}=123456" in seen.split(), seen)
    else:
        c.equal(file, seen, f"{major}:{minor} 123456")


@case("block-io-weight")
def block_io_weight(c: Context) -> None:
    """The weight is in its file."""
    controller = "io" if machine.PURE else "blkio"
    c.need_controller(controller)
    names = ("io.bfq.weight", "io.weight") if machine.PURE else ("blkio.bfq.weight", "blkio.weight")
    root = machine.CGROUP if machine.PURE else machine.hierarchies()[controller]
    place = root / f"{c.id}probe"
    place.mkdir()
    there = [name for name in names if (place / name).exists()]
    place.rmdir()
    c.need(there, "the kernel shares out no I/O by weight")
    c.linux(resources={"blockIO": {"weight": 500}})
    c.may_be_refused()
    c.true("the weight is set", limit(c, controller, there[0]).split()[-1] != "100")


@case("block-io-weight-device", "invalid-values")
def block_io_weight_device_without_weight(c: Context) -> None:
    """A device without a weight is an error."""
    major, minor = block_device(c)
    c.linux(resources={"blockIO": {"weightDevice": [{"major": major, "minor": minor}]}})
    c.refused(why="a device without a weight")


# -- the others --------------------------------------------------------------------------------------------------------


@case("pids-limit")
def pids_limit(c: Context) -> None:
    """The limit is in its file."""
    check(c, {"pids": {"limit": 77}}, "pids", ("pids.max", "77"), ("pids.max", "77"))


@case("pids-limit-none")
def pids_limit_none(c: Context) -> None:
    """-1 is no limit."""
    check(c, {"pids": {"limit": -1}}, "pids", ("pids.max", "max"), ("pids.max", "max"))


@case("pids-limit")
def pids_limit_holds(c: Context) -> None:
    """The program cannot have more processes."""
    c.need_controller("pids")
    seen = c.linux(resources={"pids": {"limit": 10}}).run(["fork", "50"]).one("fork")
    c.equal("processes that could be made", (seen["made"], seen.get("errno")), (9, "EAGAIN"))


@case("pids-limit-zero")
def pids_limit_zero(c: Context) -> None:
    """0 is a limit, and not the same as none: since version 1.3; engines wrote it before to say none."""
    c.set({"ociVersion": "1.3.0"})
    check(c, {"pids": {"limit": 0}}, "pids", ("pids.max", "0"), ("pids.max", "0"))


@case("hugepage-limits")
def hugepage_limit(c: Context) -> None:
    """The limit is in the file of reservations, where there is one."""
    c.need_controller("hugetlb")
    c.need(os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB"), "no huge pages of 2 MiB")
    name = "hugetlb.2MB.rsvd.max" if machine.PURE else "hugetlb.2MB.rsvd.limit_in_bytes"
    c.linux(resources={"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]})
    c.equal(name, limit(c, "hugetlb", name), str(4 * MIB))


@case("hugepage-size", "create-cannot-apply", each={"nonsense": "nonsense", "unknown": "3MB", "path": "../x"})
def hugepage_size(c: Context, size: str) -> None:
    """A size that the kernel does not have is an error."""
    c.linux(resources={"hugepageLimits": [{"pageSize": size, "limit": 4 * MIB}]})
    c.refused(why="a size that there is not")


@case("network-class")
def network_class(c: Context) -> None:
    """The class is in its file."""
    check(c, {"network": {"classID": 1048577}}, "net_cls", ("net_cls.classid", "1048577"), ("", ""))


@case("network-class")
def network_priorities(c: Context) -> None:
    """The priority of an interface is in its file."""
    c.need(not machine.PURE, "cgroup version 2 has no such limit")
    c.linux(resources={"network": {"priorities": [{"name": "lo", "priority": 5}]}})
    seen = limit(c, "net_prio", "net_prio.ifpriomap").split()
    c.equal("priority of lo", seen[seen.index("lo") + 1], "5")


@case("rdma", "invalid-values")
def rdma_without_limits(c: Context) -> None:
    """An entry that sets nothing is an error."""
    c.linux(resources={"rdma": {"mlx5_1": {}}})
    c.refused(why="an entry without limits")


@case("rdma")
def rdma_limit(c: Context) -> None:
    """The limits are in their file."""
    c.need_controller("rdma")
    devices = os.listdir("/sys/class/infiniband") if os.path.isdir("/sys/class/infiniband") else []
    c.need(devices, "no RDMA device")
    c.linux(resources={"rdma": {devices[0]: {"hcaHandles": 3, "hcaObjects": 100}}})
    seen = limit(c, "rdma", "rdma.max")
    c.true("limits of the device", "hca_handle=3" in seen and "hca_object=100" in seen, seen)


# -- version 2 ---------------------------------------------------------------------------------------------------------

UNIFIED = {"memory.high": ("memory", "33554432"), "pids.max": ("pids", "77"), "memory.min": ("memory", "1048576")}


@case("unified-controllers", "unified-unknown", each={name: (name, *row) for name, row in UNIFIED.items()})
def unified(c: Context, name: str, controller: str, value: str) -> None:
    """The file has the value."""
    c.need(machine.PURE, "cgroup version 1")
    c.linux(resources={"unified": {name: value}})
    c.equal(name, limit(c, controller, name), value)


@case("unified-absent", each={"controller": "nonsense.max", "file": "memory.nonsense"})
def unified_unknown(c: Context, name: str) -> None:
    """A controller or file that is not there is an error."""
    c.need(machine.PURE, "cgroup version 1")
    c.linux(resources={"unified": {name: "1"}})
    c.refused(why=f"{name} is not there")


CONVERSIONS = {
    "network": {"network": {"classID": 1048577}},
    "kernelTCP": {"memory": {"kernelTCP": 32 * MIB}},
    "swappiness": {"memory": {"swappiness": 10}},
    "realtime": {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}},
}


@case("unified-no-conversion", each=CONVERSIONS)
def unified_no_conversion(c: Context, resources: dict[str, Any]) -> None:
    """What version 2 has no file for is an error."""
    c.need(machine.PURE, "cgroup version 1")
    c.linux(resources=resources)
    c.refused(why="a limit that version 2 does not have")


@case("memory-check")
def memory_check_before_update(c: Context) -> None:
    """checkBeforeUpdate is understood."""
    c.need_controller("memory")
    c.linux(resources={"memory": {"limit": 64 * MIB, "checkBeforeUpdate": True}})
    c.equal("exit status", c.run(["exit", "3"]).status, 3)


@case("memory-limit", "invalid-values")
def memory_swap_below_limit(c: Context) -> None:
    """Memory and swap together below memory alone is an error."""
    c.need_controller("memory")
    c.linux(resources={"memory": {"limit": 64 * MIB, "swap": 32 * MIB}})
    c.refused(why="swap below memory")
