# SPDX-License-Identifier: Apache-2.0
"""The counters of cgroup version 2.

Kernel: admin-guide/cgroup-v2.rst, "Controllers"
"""

from __future__ import annotations

from .keyed import UNLIMITED, bound, flat, integer, known, nested, numbers, pressure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .stats import CgroupFiles

_NANOSECONDS = 1000  # in a microsecond


def read_unified(files: CgroupFiles) -> dict[str, dict[str, Any]]:
    """Return what the files of a cgroup say, by the names of `Stats`; nothing of a controller that is off."""
    stats = {
        "cpu": _cpu(files),
        "cpuset": known(
            cpus=numbers(files.read("cpuset.cpus.effective")), mems=numbers(files.read("cpuset.mems.effective"))
        ),
        "memory": _memory(files),
        "pids": read_pids(files),
        "blkio": _blkio(files),
    }
    controllers = (files.read("cgroup.controllers") or "").split()
    if "hugetlb" in controllers:
        stats["hugetlb"] = _hugetlb(files)
    if "rdma" in controllers:
        stats["rdma"] = {"current": nested(files.read("rdma.current")), "limit": nested(files.read("rdma.max"))}
    return {name: value for name, value in stats.items() if value}


def _cpu(files: CgroupFiles) -> dict[str, Any]:
    counters = flat(files.read("cpu.stat"))

    def nanoseconds(name: str) -> int | None:
        return counters[name] * _NANOSECONDS if name in counters else None

    usage = known(
        total=nanoseconds("usage_usec"), kernel=nanoseconds("system_usec"), user=nanoseconds("user_usec")
    )
    throttling = known(
        periods=counters.get("nr_periods"),
        throttledPeriods=counters.get("nr_throttled"),
        throttledTime=nanoseconds("throttled_usec"),
    )
    burst = known(periods=counters.get("nr_bursts"), time=nanoseconds("burst_usec"))
    return known(
        usage=usage or None,
        throttling=throttling or None,
        burst=burst or None,
        psi=pressure(files.read("cpu.pressure")),
    )


def _memory(files: CgroupFiles) -> dict[str, Any]:
    counters = flat(files.read("memory.stat"))
    events = flat(files.read("memory.events"))
    usage = known(
        limit=bound(files.read("memory.max")),
        usage=integer(files.read("memory.current")),
        max=integer(files.read("memory.peak")),  # Linux 5.19
        failcnt=events.get("max"),
    )
    swap = known(
        limit=bound(files.read("memory.swap.max")),
        usage=integer(files.read("memory.swap.current")),
        max=integer(files.read("memory.swap.peak")),  # Linux 6.5
        failcnt=flat(files.read("memory.swap.events")).get("max"),
    )
    kernel = known(usage=counters.get("kernel"))  # Linux 5.18
    sockets = known(usage=counters.get("sock"))
    return known(
        cache=counters.get("file"),
        usage=usage or None,
        swap=_both(usage, swap) or None,
        swapOnly=swap or None,
        kernel=kernel or None,
        kernelTCP=sockets or None,
        raw=counters or None,
        event_count=events or None,
        psi=pressure(files.read("memory.pressure")),
    )


def _both(memory: dict[str, int], swap: dict[str, int]) -> dict[str, int]:
    """Return usage and limit of memory and swap together, which is how version 1 counts and engines expect it."""
    return {
        name: min(memory[name] + swap[name], UNLIMITED)
        for name in ("limit", "usage")
        if name in memory and name in swap
    }


def read_pids(files: CgroupFiles) -> dict[str, Any]:
    """Return what the pids controller says: its files are the same in both versions."""
    return known(
        current=integer(files.read("pids.current")),
        limit=integer(files.read("pids.max")),  # "max" is no number, and then there is none
        peak=integer(files.read("pids.peak")),
        event_count=flat(files.read("pids.events")) or None,
    )


def _blkio(files: CgroupFiles) -> dict[str, Any]:
    devices = nested(files.read("io.stat"))

    def entries(**keys: str) -> list[dict[str, Any]] | None:
        found = []
        for device, values in devices.items():
            major, _, minor = device.partition(":")
            found += [
                {"major": int(major), "minor": int(minor), "op": op, "value": values[key]}
                for op, key in keys.items()
                if key in values and minor
            ]
        return found or None

    return known(
        ioServiceBytesRecursive=entries(Read="rbytes", Write="wbytes", Discard="dbytes"),
        ioServicedRecursive=entries(Read="rios", Write="wios", Discard="dios"),
        raw=devices or None,
        psi=pressure(files.read("io.pressure")),
    )


def _hugetlb(files: CgroupFiles) -> dict[str, Any]:
    sizes = [name.split(".")[1] for name in files.names() if name.startswith("hugetlb.") and name.count(".") == 2]
    found = {}
    for size in dict.fromkeys(sizes):
        pages = f"hugetlb.{size}"
        reserved = known(
            usage=integer(files.read(f"{pages}.rsvd.current")), limit=bound(files.read(f"{pages}.rsvd.max"))
        )
        found[size] = known(
            usage=integer(files.read(f"{pages}.current")),
            limit=bound(files.read(f"{pages}.max")),
            failcnt=flat(files.read(f"{pages}.events")).get("max"),
            reserved=reserved or None,
        )
    return found
