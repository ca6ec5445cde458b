# SPDX-License-Identifier: Apache-2.0
"""How a cgroup file is given back what it held.  Pure.

What is read from these files is not always what can be written: some have a line for each device, and no
line where nothing is set.
"""

from __future__ import annotations

# What takes a device's line away, where the file has one for each.
_NOTHING_SET = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.latency": "target=0",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "blkio.weight_device": "0",
    "blkio.bfq.weight_device": "default",
    "blkio.throttle.read_bps_device": "0",
    "blkio.throttle.write_bps_device": "0",
    "blkio.throttle.read_iops_device": "0",
    "blkio.throttle.write_iops_device": "0",
    "rdma.max": "hca_handle=max hca_object=max",
    "misc.max": "max",
    "dmem.max": "max",
}


def restoring(file: str, written: str, before: str) -> str | None:
    """Return what gives *file* back its content *before*, now that *written* was written; None if that is not known.

    Kernel: admin-guide/cgroup-v2.rst, "Interface Files"
    """
    lines = before.splitlines()
    if file == "memory.oom_control":
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill_disable":
                return value
        return None
    key, _, rest = written.partition(" ")
    if rest and (file in _NOTHING_SET or file == "net_prio.ifpriomap" or ":" in key or "=" in rest):
        for line in lines:
            if line.partition(" ")[0] == key:
                return line
        return f"{key} {_NOTHING_SET[file]}" if file in _NOTHING_SET else None
    if len(lines) == 1:
        return lines[0]
    if lines:
        # A weight for all devices, with those for some of them below it.
        return lines[0] if lines[0].startswith("default ") else None
    return "\n"  # an empty cpuset: the kernel does not see a write of nothing
