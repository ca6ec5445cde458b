# SPDX-License-Identifier: Apache-2.0
"""What a container uses, from all that counts it: cgroups, resctrl, its network interfaces."""

from __future__ import annotations

import os

from ocirun import procfs
from ocirun.cgroups import open_manager
from ocirun.cgroups.stats import read_stats
from ocirun.errors import CgroupError
from ocirun.identity import is_this_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cgroups.hierarchies import Hierarchy
    from ocirun.cgroups.stats import NetworkInterface, Stats
    from ocirun.store import Record

# The columns of /proc/PID/net/dev that have a name in runc's shape.
_COLUMNS = {
    "RxBytes": 0, "RxPackets": 1, "RxErrors": 2, "RxDropped": 3,
    "TxBytes": 8, "TxPackets": 9, "TxErrors": 10, "TxDropped": 11,
}  # fmt: skip


def cgroup_places(record: Record, purpose: str) -> Sequence[Hierarchy]:
    """Return the container's places in the hierarchies.

    Errors: CgroupError, which says that *purpose* ("read statistics") needs one, if it has none.
    """
    manager = open_manager("", "", record["id"], None, record["cgroup"])
    places = manager.paths()
    manager.close()
    if not places:
        is_disabled = record["cgroup"]["manager"] == "disabled"
        raise CgroupError(
            f"cannot {purpose}: the container has no cgroup",
            op="cgroup",
            container_id=record["id"],
            hint="it was created with the cgroup manager 'disabled'" if is_disabled else None,
        )
    return places


def processes_of(record: Record) -> list[int]:
    """Return the pids of the container's processes; see Container.processes."""
    if not os.path.exists(cgroup_places(record, "list processes")[0].directory):
        return []  # systemd removes a scope that nobody is in any more
    manager = open_manager("", "", record["id"], None, record["cgroup"])
    try:
        return manager.pids()
    finally:
        manager.close()


def stats_of(record: Record) -> Stats:
    """Return what the container of a record uses.  Errors: CgroupError"""
    stats = read_stats(cgroup_places(record, "read statistics"))
    stats.setdefault("hugetlb", {})
    stats["intel_rdt"] = {}
    stats["network_interfaces"] = None
    init = record["init"]
    if init is not None and is_this_boot(record) and procfs.is_alive(init["pid"], init["startTime"]):
        if "intelRdt" in record:
            from ocirun.rdt_stats import read_rdt

            stats["intel_rdt"] = read_rdt(init["pid"])
        stats["network_interfaces"] = _interfaces(init["pid"])
    return stats


def _interfaces(pid: int) -> list[NetworkInterface] | None:
    """Return the counters of a container's interfaces, None where it has none of its own."""
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return None  # those of the host are nothing that the container uses
        return parse_interfaces(procfs.read(f"/proc/{pid}/net/dev").decode())
    except OSError:
        return None  # ended just now, or not ours to look at


def parse_interfaces(text: str) -> list[NetworkInterface]:
    """Parse /proc/PID/net/dev; the loopback is nobody's traffic.  Kernel: proc_pid_net(5)"""
    found: list[NetworkInterface] = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        words = rest.split()
        if name.strip() != "lo":
            counters = {key: int(words[column]) for key, column in _COLUMNS.items()}
            found.append({"Name": name.strip(), **counters})  # type: ignore[typeddict-item]  # mypy cannot see the keys
    return found
