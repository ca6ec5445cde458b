# SPDX-License-Identifier: Apache-2.0
"""What a container uses: the counters of its cgroups, in the shape that runc prints and engines parse.

A key that is not there is not known: its controller is off, or the kernel does not count it.  On a hybrid host the
resources are counted in version 1, and pressure in version 2.

`legacy_stats` and `unified_stats` know the files of the two versions.
"""

from __future__ import annotations

import os
from errno import EACCES, ENODEV, ENOENT, EOPNOTSUPP, EPERM

from ocirun.errors import CgroupError

from .files import failure, open_directory, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    from .hierarchies import Hierarchy

    class PressureData(TypedDict, total=False):
        """Percent of the time that tasks waited, over 10, 60 and 300 s; and in all, in microseconds."""

        avg10: float
        avg60: float
        avg300: float
        total: int

    class Pressure(TypedDict, total=False):
        """Kernel: accounting/psi.rst; `full` where all tasks waited."""

        some: PressureData
        full: PressureData

    class CpuUsage(TypedDict, total=False):
        """Nanoseconds; those of each CPU in version 1 alone."""

        total: int
        percpu: list[int]
        percpu_kernel: list[int]
        percpu_user: list[int]
        kernel: int
        user: int

    class Throttling(TypedDict, total=False):
        """Periods, and nanoseconds."""

        periods: int
        throttledPeriods: int
        throttledTime: int

    class Burst(TypedDict, total=False):
        """Periods with a burst, and nanoseconds above the quota; not in runc's shape."""

        periods: int
        time: int

    class Cpu(TypedDict, total=False):
        """The cpu and cpuacct controllers."""

        usage: CpuUsage
        throttling: Throttling
        burst: Burst
        psi: Pressure

    class Cpuset(TypedDict, total=False):
        """The cpuset controller: what may be used.  The flags exist in version 1 alone."""

        cpus: list[int]
        mems: list[int]
        cpu_exclusive: int
        mem_hardwall: int
        mem_exclusive: int
        memory_migrate: int
        memory_spread_page: int
        memory_spread_slab: int
        memory_pressure: int
        sched_load_balance: int
        sched_relax_domain_level: int

    class MemoryEntry(TypedDict, total=False):
        """Bytes.  `max` is the most that was used; `failcnt` counts how often the limit was in the way."""

        limit: int
        usage: int
        max: int
        failcnt: int

    class Memory(TypedDict, total=False):
        """The memory controller.

        `swap` is memory and swap together, as version 1 counts; `swapOnly` and `event_count` (memory.events) are not in
        the shape of every runc.
        """

        cache: int
        usage: MemoryEntry
        swap: MemoryEntry
        swapOnly: MemoryEntry
        kernel: MemoryEntry
        kernelTCP: MemoryEntry
        raw: dict[str, int]
        event_count: dict[str, int]
        psi: Pressure

    class Pids(TypedDict, total=False):
        """The pids controller.  Without a limit there is no `limit`; runc has no `peak` and no `event_count`."""

        current: int
        limit: int
        peak: int
        event_count: dict[str, int]

    class BlkioEntry(TypedDict, total=False):
        """A number of one block device; `op` is Read, Write, Discard, Sync, Async or Total."""

        major: int
        minor: int
        op: str
        value: int

    class Blkio(TypedDict, total=False):
        """The blkio or io controller.  `raw` is io.stat, by device, and not in runc's shape."""

        ioServiceBytesRecursive: list[BlkioEntry]
        ioServicedRecursive: list[BlkioEntry]
        ioQueueRecursive: list[BlkioEntry]
        ioServiceTimeRecursive: list[BlkioEntry]
        ioWaitTimeRecursive: list[BlkioEntry]
        ioMergedRecursive: list[BlkioEntry]
        ioTimeRecursive: list[BlkioEntry]
        sectorsRecursive: list[BlkioEntry]
        raw: dict[str, dict[str, int]]
        psi: Pressure

    class Hugetlb(TypedDict, total=False):
        """Bytes in huge pages of one size that were faulted in; `reserved` is the same of reservations."""

        usage: int
        max: int
        failcnt: int
        limit: int
        reserved: dict[str, int]

    class NetworkInterface(TypedDict):
        """A network interface as the container sees it, with runc's names."""

        Name: str
        RxBytes: int
        RxPackets: int
        RxErrors: int
        RxDropped: int
        TxBytes: int
        TxPackets: int
        TxErrors: int
        TxDropped: int

    class Stats(TypedDict, total=False):
        """What a container uses; see the module's first lines."""

        cpu: Cpu
        cpuset: Cpuset
        memory: Memory
        pids: Pids
        blkio: Blkio
        hugetlb: dict[str, Hugetlb]
        rdma: dict[str, dict[str, dict[str, int]]]
        intel_rdt: dict[str, Any]
        network_interfaces: list[NetworkInterface] | None
else:
    Stats = dict


# EOPNOTSUPP: pressure is off (psi=0, cgroup.pressure), or the cgroup is threaded.  ENODEV: it is being removed.
_ABSENT = (ENOENT, ENODEV, EOPNOTSUPP, EACCES, EPERM)


class CgroupFiles:
    """The files in a directory of a cgroup (a borrowed descriptor)."""

    def __init__(self, directory: int) -> None:
        self._directory = directory

    def read(self, name: str) -> str | None:
        """Return the content of a file, None where there is none for us."""
        try:
            return read_file(name, self._directory)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise failure(f"read {name}", error) from error

    def names(self) -> list[str]:
        """Return the names of the files."""
        try:
            return sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []


def read_stats(hierarchies: Sequence[Hierarchy]) -> Stats:
    """Return the counters of the container that has these places.

    Errors: CgroupError if the cgroup is in none of them, or for what no file should answer.
    """
    stats: Any = {}
    is_there = False
    for hierarchy in hierarchies:
        try:
            fd = open_directory(hierarchy.directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise failure(f"open {hierarchy.directory}", error) from error
        is_there = True
        try:
            found = _read_hierarchy(hierarchy, CgroupFiles(fd))
        finally:
            os.close(fd)
        for key, value in found.items():
            stats.setdefault(key, {}).update(value)
    if not is_there:
        where = hierarchies[0].directory if hierarchies else ""
        raise CgroupError(f"there is no cgroup {where}", op="open")
    return stats  # type: ignore[no-any-return]


def _read_hierarchy(hierarchy: Hierarchy, files: CgroupFiles) -> dict[str, dict[str, Any]]:
    if hierarchy.version == 2:
        from .unified_stats import read_unified

        return read_unified(files)
    from .legacy_stats import read_legacy

    return read_legacy(hierarchy.controllers, files)
