# SPDX-License-Identifier: Apache-2.0
"""What resctrl says about the class and the monitoring group that a container is in, in the shape that runc prints.

Kernel: filesystems/resctrl.rst; /proc/PID/cpu_resctrl_groups is Linux 5.6
"""

from __future__ import annotations

import os

from ocirun.host import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_L3_INFO = ("min_cbm_bits", "num_closids")
_MB_INFO = ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")


def read_rdt(pid: int) -> dict[str, Any]:
    """Return what is known about the groups of a process; nothing where resctrl is not mounted."""
    root = HostFacts().resctrl
    groups = _read(f"/proc/{pid}/cpu_resctrl_groups")
    return read_groups(root, groups) if root and groups is not None else {}


def read_groups(root: str, groups: str) -> dict[str, Any]:
    """Return what the tree at *root* says about *groups*: the lines "res:CLASS" and "mon:GROUP"."""
    names = {key: value.strip("/") for key, _, value in (line.partition(":") for line in groups.splitlines())}
    own = os.path.join(root, names.get("res", ""))
    monitoring = os.path.join(own, "mon_groups", names["mon"]) if names.get("mon") else own
    found: dict[str, Any] = {}
    if (mask := _read(f"{root}/info/L3/cbm_mask")) is not None:
        found["l3_cache_info"] = {"cbm_mask": mask.strip(), **_numbers(f"{root}/info/L3", _L3_INFO)}
        found["l3_cache_schema_root"] = _schema(root, "L3")
        found["l3_cache_schema"] = _schema(own, "L3")
    if bandwidth := _numbers(f"{root}/info/MB", _MB_INFO):
        found["mem_bw_info"] = bandwidth
        found["mem_bw_schema_root"] = _schema(root, "MB")
        found["mem_bw_schema"] = _schema(own, "MB")
    nodes = [_numbers(f"{monitoring}/mon_data/{node}") for node in _names(f"{monitoring}/mon_data")]
    for key, counters in (("mbm_stats", ("mbm_total_bytes", "mbm_local_bytes")), ("cmt_stats", ("llc_occupancy",))):
        of_nodes = [{name: node[name] for name in counters if name in node} for node in nodes]
        if any(of_nodes):
            found[key] = of_nodes
    return {key: value for key, value in found.items() if value}


def _schema(group: str, resource: str) -> str:
    for line in (_read(f"{group}/schemata") or "").splitlines():
        if line.strip().startswith(f"{resource}:"):
            return line.strip()
    return ""


def _numbers(directory: str, names: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the numbers in the files of a directory; "Unavailable" and "Error" are none."""
    found = {}
    for name in names or _names(directory):
        text = (_read(f"{directory}/{name}") or "").strip()
        if text.isdigit():
            found[name] = int(text)
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
