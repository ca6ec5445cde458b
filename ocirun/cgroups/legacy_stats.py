# SPDX-License-Identifier: Apache-2.0
"""The counters of cgroup version 1.

Kernel: admin-guide/cgroup-v1/{cpuacct,cpusets,memory,blkio-controller,hugetlb,pids}.rst
"""

from __future__ import annotations

from .keyed import flat, integer, known, nested, numbers
from .unified_stats import read_pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .stats import CgroupFiles

_TICK_NS = 10_000_000  # USER_HZ is 100 on every architecture that containers run on
_CPUSET_FLAGS = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip

# Each number from the first file that has any.  Which there are depends on the scheduler of the disk: CFQ until Linux
# 5.0, bfq; the throttling policy counts for every disk.
_BLKIO = {
    "ioServiceBytesRecursive": (
        "io_service_bytes_recursive", "bfq.io_service_bytes_recursive", "throttle.io_service_bytes_recursive",
        "throttle.io_service_bytes",
    ),
    "ioServicedRecursive": (
        "io_serviced_recursive", "bfq.io_serviced_recursive", "throttle.io_serviced_recursive", "throttle.io_serviced",
    ),
    "ioQueueRecursive": ("io_queued_recursive", "bfq.io_queued_recursive"),
    "ioServiceTimeRecursive": ("io_service_time_recursive", "bfq.io_service_time_recursive"),
    "ioWaitTimeRecursive": ("io_wait_time_recursive", "bfq.io_wait_time_recursive"),
    "ioMergedRecursive": ("io_merged_recursive", "bfq.io_merged_recursive"),
    "ioTimeRecursive": ("time_recursive", "bfq.time_recursive"),
    "sectorsRecursive": ("sectors_recursive", "bfq.sectors_recursive"),
}  # fmt: skip


def read_legacy(controllers: Sequence[str], files: CgroupFiles) -> dict[str, dict[str, Any]]:
    """Return what the files of a cgroup in the hierarchy of *controllers* say, by the names of `Stats`."""
    stats: dict[str, dict[str, Any]] = {}
    for controller in controllers:
        reader = _READERS.get(controller)
        if reader is not None:
            name, read = reader
            stats.setdefault(name, {}).update(read(files))
    return {name: value for name, value in stats.items() if value}


def _cpuacct(files: CgroupFiles) -> dict[str, Any]:
    counters = flat(files.read("cpuacct.stat"))
    per_cpu = files.read("cpuacct.usage_percpu")
    # "cpu user system", then a line for each CPU (Linux 4.9).
    table = [line.split() for line in (files.read("cpuacct.usage_all") or "").splitlines()[1:]]
    usage = known(
        total=integer(files.read("cpuacct.usage")),
        percpu=None if per_cpu is None else [int(word) for word in per_cpu.split()],
        percpu_kernel=[int(row[2]) for row in table] or None,
        percpu_user=[int(row[1]) for row in table] or None,
        kernel=counters["system"] * _TICK_NS if "system" in counters else None,
        user=counters["user"] * _TICK_NS if "user" in counters else None,
    )
    return known(usage=usage or None)


def _cpu(files: CgroupFiles) -> dict[str, Any]:
    counters = flat(files.read("cpu.stat"))
    throttling = known(
        periods=counters.get("nr_periods"),
        throttledPeriods=counters.get("nr_throttled"),
        throttledTime=counters.get("throttled_time"),
    )
    burst = known(periods=counters.get("nr_bursts"), time=counters.get("burst_time"))
    return known(throttling=throttling or None, burst=burst or None)


def _cpuset(files: CgroupFiles) -> dict[str, Any]:
    return known(
        cpus=numbers(files.read("cpuset.cpus")),
        mems=numbers(files.read("cpuset.mems")),
        **{name: integer(files.read(f"cpuset.{name}")) for name in _CPUSET_FLAGS},
    )


def _memory(files: CgroupFiles) -> dict[str, Any]:
    def entry(prefix: str) -> dict[str, Any] | None:
        found = known(
            limit=integer(files.read(f"{prefix}.limit_in_bytes")),
            usage=integer(files.read(f"{prefix}.usage_in_bytes")),
            max=integer(files.read(f"{prefix}.max_usage_in_bytes")),
            failcnt=integer(files.read(f"{prefix}.failcnt")),
        )
        return found or None

    counters = flat(files.read("memory.stat"))
    swap_only = known(usage=counters.get("total_swap"))
    kills = known(oom_kill=flat(files.read("memory.oom_control")).get("oom_kill"))  # Linux 4.13
    return known(
        cache=counters.get("cache"),
        usage=entry("memory"),
        swap=entry("memory.memsw"),
        swapOnly=swap_only or None,
        kernel=entry("memory.kmem"),
        kernelTCP=entry("memory.kmem.tcp"),
        raw=counters or None,
        event_count=kills or None,
    )


def _blkio(files: CgroupFiles) -> dict[str, Any]:
    found = {}
    for key, names in _BLKIO.items():
        for name in names:
            entries = parse_blkio(files.read(f"blkio.{name}"))
            if entries:
                found[key] = entries
                break
    return found


def parse_blkio(text: str | None) -> list[dict[str, Any]]:
    """Parse lines such as "8:0 Read 4096", or "8:0 12" where there is one number of a device.

    The last line, the total of all devices, is left out: runc does not have it either.
    """
    found: list[dict[str, Any]] = []
    for line in (text or "").splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if not colon or not words:
            continue
        entry: dict[str, Any] = {"major": int(major), "minor": int(minor)}
        if len(words) > 1:
            entry["op"] = words[0]
        found.append({**entry, "value": int(words[-1])})
    return found


def _hugetlb(files: CgroupFiles) -> dict[str, Any]:
    def entry(prefix: str) -> dict[str, Any]:
        return known(
            usage=integer(files.read(f"{prefix}.usage_in_bytes")),
            max=integer(files.read(f"{prefix}.max_usage_in_bytes")),
            failcnt=integer(files.read(f"{prefix}.failcnt")),
            limit=integer(files.read(f"{prefix}.limit_in_bytes")),
        )

    found = {}
    for name in files.names():
        kind, *size = name.removesuffix(".usage_in_bytes").split(".")
        if kind == "hugetlb" and len(size) == 1:
            reserved = entry(f"hugetlb.{size[0]}.rsvd")  # Linux 5.7
            found[size[0]] = known(**entry(f"hugetlb.{size[0]}"), reserved=reserved or None)
    return found


def _rdma(files: CgroupFiles) -> dict[str, Any]:
    return {"current": nested(files.read("rdma.current")), "limit": nested(files.read("rdma.max"))}


_READERS = {
    "cpuacct": ("cpu", _cpuacct),
    "cpu": ("cpu", _cpu),
    "cpuset": ("cpuset", _cpuset),
    "memory": ("memory", _memory),
    "pids": ("pids", read_pids),
    "blkio": ("blkio", _blkio),
    "hugetlb": ("hugetlb", _hugetlb),
    "rdma": ("rdma", _rdma),
}
