# SPDX-License-Identifier: Apache-2.0
"""Every field of linux.resources: the file that it is in, and what the kernel says there after create and after update.

The one source of docs/resources.md (a test of tests/lint compares them) and of tests/kernel/test_resource_table.py, which
asks the kernel.  `python tests/support/resource_table.py` prints the table.

"{device}" is a disk that nobody else uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MIB = 1 << 20
ONE = {"major": "{major}", "minor": "{minor}"}


class Place(NamedTuple):
    """Where a value is: the controller by its name in that version, the file, and what is read after each step.

    Of a file with a line for each device, interface or default, `key` says which line is read; `says` is for a value that
    is in no file, where this one shows that nothing else has changed.
    """

    controller: str
    file: str
    created: str
    updated: str
    key: str = ""
    says: str = ""


class Refused(NamedTuple):
    """What both create and update say of the field, besides its pointer."""

    words: str
    cell: str


class Property(NamedTuple):
    """A property of the scope, and what `systemctl show` says of it after each step."""

    name: str
    created: str
    updated: str


class Row(NamedTuple):
    """A field, resources that set it at create and at update, and what is so in version 1 and in version 2.

    `needs` is what the machine must have: a disk, a controller that is not mounted by itself.  `property` is what systemd
    is told, None where it knows no such limit.
    """

    field: str
    create: dict[str, Any]
    update: dict[str, Any]
    legacy: Place | Refused
    unified: Place | Refused
    needs: str = ""
    property: Property | None = None


def _throttle(member: str, file: str, key: str) -> Row:
    def at(rate: int) -> dict[str, Any]:
        return {"blockIO": {member: [{**ONE, "rate": rate}]}}

    nothing = ("rbps=max", "wbps=max", "riops=max", "wiops=max")

    def line(rate: int) -> str:
        return " ".join(f"{key}={rate}" if word.startswith(f"{key}=") else word for word in nothing)

    return Row(
        f"blockIO.{member}",
        at(MIB),
        at(2 * MIB),
        Place("blkio", f"blkio.throttle.{file}", str(MIB), str(2 * MIB), key="{device}"),
        Place("io", "io.max", line(MIB), line(2 * MIB), key="{device}"),
        needs="disk",
    )


_NO_EQUIVALENT = Refused("cannot be expressed in cgroup version 2", "refused: version 2 has nothing like it")
_NO_CFQ = Refused("no leaf weights", "refused: the kernel has none since Linux 5.0")
_PAIR = {"cpu": {"quota": 20000, "period": 50000, "burst": 5000}}

ROWS = (
    Row("cpu.shares", {"cpu": {"shares": 512}}, {"cpu": {"shares": 2048}},
        Place("cpu", "cpu.shares", "512", "2048"), Place("cpu", "cpu.weight", "59", "174"),
        property=Property("CPUWeight", "59", "174")),
    Row("cpu.quota", _PAIR, {"cpu": {"quota": 10000}},
        Place("cpu", "cpu.cfs_quota_us", "20000", "10000"), Place("cpu", "cpu.max", "20000 50000", "10000 50000"),
        property=Property("CPUQuotaPerSecUSec", "400ms", "200ms")),
    Row("cpu.period", _PAIR, {"cpu": {"period": 100000}},
        Place("cpu", "cpu.cfs_period_us", "50000", "100000"), Place("cpu", "cpu.max", "20000 50000", "20000 100000"),
        property=Property("CPUQuotaPeriodUSec", "50ms", "100ms")),
    Row("cpu.burst", _PAIR, {"cpu": {"burst": 2500}},
        Place("cpu", "cpu.cfs_burst_us", "5000", "2500"), Place("cpu", "cpu.max.burst", "5000", "2500")),
    Row("cpu.idle", {"cpu": {"idle": 1}}, {"cpu": {"idle": 0}},
        Place("cpu", "cpu.idle", "1", "0"), Place("cpu", "cpu.idle", "1", "0"),
        property=Property("CPUWeight", "idle", "100")),
    Row("cpu.realtimeRuntime", {"cpu": {"realtimeRuntime": 5000}}, {"cpu": {"realtimeRuntime": 2500}},
        Place("cpu", "cpu.rt_runtime_us", "5000", "2500"), _NO_EQUIVALENT),
    Row("cpu.realtimePeriod", {"cpu": {"realtimePeriod": 500000}}, {"cpu": {"realtimePeriod": 250000}},
        Place("cpu", "cpu.rt_period_us", "500000", "250000"), _NO_EQUIVALENT),
    Row("cpu.cpus", {"cpu": {"cpus": "0"}}, {"cpu": {"cpus": "0-1"}},
        Place("cpuset", "cpuset.cpus", "0", "0-1"), Place("cpuset", "cpuset.cpus", "0", "0-1"),
        property=Property("AllowedCPUs", "0", "0-1")),
    Row("cpu.mems", {"cpu": {"mems": "0"}}, {"cpu": {"mems": "0-0"}},
        Place("cpuset", "cpuset.mems", "0", "0"), Place("cpuset", "cpuset.mems", "0", "0"),
        property=Property("AllowedMemoryNodes", "0", "0")),
    Row("memory.limit", {"memory": {"limit": 64 * MIB}}, {"memory": {"limit": 32 * MIB}},
        Place("memory", "memory.limit_in_bytes", str(64 * MIB), str(32 * MIB)),
        Place("memory", "memory.max", str(64 * MIB), str(32 * MIB)),
        property=Property("MemoryMax", "67108864", "33554432")),
    Row("memory.reservation", {"memory": {"reservation": 16 * MIB}}, {"memory": {"reservation": 8 * MIB}},
        Place("memory", "memory.soft_limit_in_bytes", str(16 * MIB), str(8 * MIB)),
        Place("memory", "memory.low", str(16 * MIB), str(8 * MIB)),
        property=Property("MemoryLow", "16777216", "8388608")),
    Row("memory.swap", {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, {"memory": {"swap": 80 * MIB}},
        Place("memory", "memory.memsw.limit_in_bytes", str(96 * MIB), str(80 * MIB)),
        Place("memory", "memory.swap.max", str(32 * MIB), str(16 * MIB)),
        property=Property("MemorySwapMax", "33554432", "16777216")),
    Row("memory.swappiness", {"memory": {"swappiness": 7}}, {"memory": {"swappiness": 70}},
        Place("memory", "memory.swappiness", "7", "70"), _NO_EQUIVALENT),
    Row("memory.disableOOMKiller", {"memory": {"disableOOMKiller": True}}, {"memory": {"disableOOMKiller": False}},
        Place("memory", "memory.oom_control", "1", "0", key="oom_kill_disable"), _NO_EQUIVALENT),
    Row("memory.useHierarchy", {"memory": {"useHierarchy": True}}, {"memory": {"useHierarchy": True}},
        Place("memory", "memory.use_hierarchy", "1", "1"), Place("memory", "memory.max", "max", "max", says="nothing to do")),
    Row("memory.kernel", {"memory": {"kernel": MIB}}, {"memory": {"kernel": MIB}},
        Refused("do nothing about it", "refused: no effect since Linux 5.16"), _NO_EQUIVALENT),
    Row("memory.kernelTCP", {"memory": {"kernelTCP": 8 * MIB}}, {"memory": {"kernelTCP": 4 * MIB}},
        Place("memory", "memory.kmem.tcp.limit_in_bytes", str(8 * MIB), str(4 * MIB)), _NO_EQUIVALENT),
    Row("pids.limit", {"pids": {"limit": 20}}, {"pids": {"limit": 0}},
        Place("pids", "pids.max", "20", "0"), Place("pids", "pids.max", "20", "0"),
        property=Property("TasksMax", "20", "1")),
    Row("blockIO.weight", {"blockIO": {"weight": 200}}, {"blockIO": {"weight": 300}},
        Place("blkio", "blkio.bfq.weight", "200", "300"),
        Place("io", "io.bfq.weight", "200", "300", key="default"),
        property=Property("IOWeight", "1200", "2300")),
    Row("blockIO.leafWeight", {"blockIO": {"leafWeight": 200}}, {"blockIO": {"leafWeight": 300}},
        _NO_CFQ, _NO_EQUIVALENT),
    Row("blockIO.weightDevice", {"blockIO": {"weightDevice": [{**ONE, "weight": 200}]}},
        {"blockIO": {"weightDevice": [{**ONE, "weight": 300}]}},
        Place("blkio", "blkio.bfq.weight_device", "200", "300", key="{device}"),
        Place("io", "io.bfq.weight", "200", "300", key="{device}"), needs="bfq"),
    _throttle("throttleReadBpsDevice", "read_bps_device", "rbps"),
    _throttle("throttleWriteBpsDevice", "write_bps_device", "wbps"),
    _throttle("throttleReadIOPSDevice", "read_iops_device", "riops"),
    _throttle("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
    Row("hugepageLimits", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]},
        Place("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", str(4 * MIB), str(2 * MIB)),
        Place("hugetlb", "hugetlb.2MB.rsvd.max", str(4 * MIB), str(2 * MIB)), needs="hugetlb"),
    Row("network.classID", {"network": {"classID": 0x100001}}, {"network": {"classID": 0x100002}},
        Place("net_cls", "net_cls.classid", str(0x100001), str(0x100002)), _NO_EQUIVALENT, needs="net_cls"),
    Row("network.priorities", {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
        {"network": {"priorities": [{"name": "lo", "priority": 6}]}},
        Place("net_prio", "net_prio.ifpriomap", "5", "6", key="lo"), _NO_EQUIVALENT, needs="net_prio"),
    Row("rdma", {"rdma": {"mlx5_1": {"hcaHandles": 3}}}, {"rdma": {"mlx5_1": {"hcaHandles": 2}}},
        Refused("controller", "refused: no such controller or device"), Refused("", "refused: no such controller or device")),
    Row("unified", {"unified": {"pids.max": "30"}}, {"unified": {"pids.max": "31"}},
        Refused("version", "refused: no version 2"), Place("pids", "pids.max", "30", "31"),
        property=Property("TasksMax", "30", "31")),
)  # fmt: skip

LAYOUTS = ("version 1", "hybrid", "version 2")


def place_in(row: Row, layout: str) -> Place | Refused:
    """Return what is so in a layout.  A hybrid machine has version 1 of what is mounted, and version 2 of the rest."""
    if layout == "version 2" or (layout == "hybrid" and row.needs == "hugetlb"):
        return row.unified
    if layout == "hybrid" and row.field == "unified":
        return Refused("controller is one of version 1", "refused: the controller is one of version 1")
    return row.legacy


def cell(place: Place | Refused) -> str:
    """Return what the document says."""
    if isinstance(place, Refused):
        return place.cell
    if place.says:
        return place.says
    name = f"`{place.file}`" + (f" ({place.key.strip('{}')})" if place.key else "")
    return f"{name}: {place.created} → {place.updated}"


def markdown() -> str:
    """Return the table."""
    heads = [*LAYOUTS, "with systemd, version 2"]
    lines = [f"| field | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for row in ROWS:
        cells = [cell(place_in(row, layout)) for layout in LAYOUTS]
        known = row.property
        same = "refused" if isinstance(row.unified, Refused) else "the same"
        cells.append(f"{same}, and `{known.name}`: {known.created} → {known.updated}" if known else same)
        lines.append(f"| `{row.field}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
