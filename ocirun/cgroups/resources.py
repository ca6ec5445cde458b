# SPDX-License-Identifier: Apache-2.0
"""`linux.resources` as a list of writes to cgroup files.  Pure: reads and writes nothing.

The field names of the specification are those of cgroup version 1.  For version 2 the values are
converted, each formula in the docstring of its function; what version 2 has no equivalent for is a
problem, never dropped.

Zero means "leave as it is" for `cpu.shares`, `quota`, `period`, `realtimeRuntime`, `realtimePeriod`
and for the weights: the kernel accepts it for none of them, and engines send it for "not set".
Everywhere else zero is a value.

Device rules are in `devices`.
"""

from __future__ import annotations

from .settings import POINTER, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ocirun.errors import Problem
    from ocirun.spec.resources import BlockIo, Cpu, Memory, Resources

    from .settings import Setting

DEFAULT_PERIOD_US = 100_000
_SWAP_BELOW_MEMORY = "the limit of memory + swap ({}) is below that of memory ({})"
_NO_LEAF_WEIGHTS = "the kernel has no leaf weights: they went with CFQ, in Linux 5.0"

# Files of `unified` that are not limits: writing them moves or stops processes or changes the tree.
_UNIFIED_REFUSED = (
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.type",
    "cgroup.subtree_control",
    "cgroup.freeze",
    "cgroup.kill",
)


def build_settings(
    resources: Resources,
    *,
    legacy: Collection[str],
    unified: bool,
    now: Mapping[str, str] | None = None,
    pointer: str = POINTER,
) -> tuple[list[Setting], list[Problem]]:
    """Return the writes, in the order to make them, and what this host's cgroup version cannot
    express.

    *legacy* are the controllers that version 1 hierarchies have here, *unified* says whether
    version 2 is mounted; a controller of neither is treated as version 1 if nothing else is
    mounted, so that the write fails with a reason.  *now* is what `limits_now` found in a cgroup
    that is there already: the other half of a pair of which *resources* have one.  *pointer* is
    where they stand in their document.

    Spec: config-linux.md#configLinuxCgroups
    """
    found = Settings(legacy, unified, now or {}, pointer)
    if resources.cpu is not None:
        _cpuset(found, resources.cpu)
        if found.is_legacy("cpu"):
            _cpu_legacy(found, resources.cpu)
        else:
            _cpu_unified(found, resources.cpu)
    if resources.memory is not None:
        if found.is_legacy("memory"):
            _memory_legacy(found, resources.memory)
        else:
            _memory_unified(found, resources.memory)
    if resources.pids is not None and resources.pids.limit is not None:
        found.add("pids", "pids.max", limit_or_max(resources.pids.limit), "/pids/limit")
    if resources.block_io is not None:
        if found.is_legacy("blkio"):
            _block_io_legacy(found, resources.block_io)
        else:
            _block_io_unified(found, resources.block_io)
    _hugepages(found, resources)
    _network(found, resources)
    _rdma(found, resources)
    _unified(found, resources)
    return found.writes, found.problems


def limit_or_max(limit: int) -> str:
    """Return *limit* for the kernel; negative is no limit.  Zero is a limit (peers write 1 or
    nothing).
    """
    return "max" if limit < 0 else str(limit)


def weight_of_shares(shares: int) -> int:
    """Convert cpu.shares (2..262144) to cpu.weight (1..10000).

    weight = ceil(10 ** ((L**2 + 125 * L) / 612 - 7 / 34)) with L = log2(shares); so 2 is 1, the
    default 1024 is the default 100, and 262144 is 10000.  Values outside the range count as its
    ends.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    from math import ceil, log2

    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def weight_of_block_io(weight: int) -> int:
    """Convert a blkio weight (10..1000) to io.weight (1..10000): 1 + (weight - 10) * 9999 / 990,
    rounded down.
    """
    return 1 + (weight - 10) * 9999 // 990


def _cpuset(found: Settings, cpu: Cpu) -> None:
    """`cpus` and `mems` are files of the same name in both versions."""
    # mems first: tasks then move once, to the new nodes, while the CPUs are still the old ones.
    if cpu.mems:
        found.add("cpuset", "cpuset.mems", cpu.mems, "/cpu/mems")
    if cpu.cpus:
        found.add("cpuset", "cpuset.cpus", cpu.cpus, "/cpu/cpus")


def _cpu_legacy(found: Settings, cpu: Cpu) -> None:
    """Version 1: the fields are files.  A period before its quota, idle before or after the shares
    it excludes.
    """
    if cpu.idle == 0:
        found.add("cpu", "cpu.idle", cpu.idle, "/cpu/idle")
    for value, file, name in (
        (cpu.shares, "cpu.shares", "shares"),
        (cpu.realtime_period, "cpu.rt_period_us", "realtimePeriod"),
        (cpu.realtime_runtime, "cpu.rt_runtime_us", "realtimeRuntime"),
        (cpu.period, "cpu.cfs_period_us", "period"),
        (cpu.quota, "cpu.cfs_quota_us", "quota"),
    ):
        if value:
            found.add("cpu", file, value, f"/cpu/{name}")
    if cpu.burst is not None:
        found.add("cpu", "cpu.cfs_burst_us", cpu.burst, "/cpu/burst")
    if cpu.idle:
        found.add("cpu", "cpu.idle", cpu.idle, "/cpu/idle")


def _cpu_unified(found: Settings, cpu: Cpu) -> None:
    """Version 2.

    shares -> cpu.weight (`weight_of_shares`); quota and period -> cpu.max = "<quota or max>
    [<period>]", where the kernel keeps the period if none is given and the present content supplies
    the quota if only a period is; burst -> cpu.max.burst; idle -> cpu.idle.  Realtime runtime and
    period have no equivalent.
    """
    for name, value in (
        ("realtimePeriod", cpu.realtime_period),
        ("realtimeRuntime", cpu.realtime_runtime),
    ):
        if value:
            found.impossible("cpu", f"/cpu/{name}", "a realtime limit")
    if cpu.idle == 0:
        found.add("cpu", "cpu.idle", cpu.idle, "/cpu/idle")
    if cpu.shares:
        found.add("cpu", "cpu.weight", weight_of_shares(cpu.shares), "/cpu/shares")
    if cpu.quota:
        period = f" {cpu.period}" if cpu.period else ""
        found.add("cpu", "cpu.max", limit_or_max(cpu.quota) + period, "/cpu/quota")
    elif cpu.period:
        quota = found.now.get("cpu.max", "max").split(" ")[0]
        found.add("cpu", "cpu.max", f"{quota} {cpu.period}", "/cpu/period")
    if cpu.burst is not None:
        found.add("cpu", "cpu.max.burst", cpu.burst, "/cpu/burst")
    if cpu.idle:
        found.add("cpu", "cpu.idle", cpu.idle, "/cpu/idle")


def _swap(found: Settings, memory: Memory) -> int | None:
    """Return the memory + swap limit to set, None to leave it.

    Not given, it follows a `limit` of -1 (unlimited memory would otherwise still meet the old sum).
    Less than the memory limit is refused, and so is a swap limit without a memory limit where the
    difference is needed.
    """
    limit, swap = memory.limit, memory.swap
    if swap is None:
        return -1 if limit is not None and limit < 0 else None
    if limit is not None and limit >= 0 and 0 <= swap < limit:
        found.refuse("/memory/swap", _SWAP_BELOW_MEMORY.format(swap, limit), gate="rule")
        return None
    return swap


def _memory_legacy(found: Settings, memory: Memory) -> None:
    """Version 1: the fields are files.

    The kernel keeps limit <= limit of memory + swap at every step.  The memory limit comes first;
    where that is the wrong order, because both grow, the write is refused with EINVAL and made
    again after the other (`limits`).
    """
    if memory.use_hierarchy is not None:
        # Before any child exists, and no more than a check since Linux 5.11, where it is always 1.
        found.add(
            "memory",
            "memory.use_hierarchy",
            int(memory.use_hierarchy),
            "/memory/useHierarchy",
        )
    swap = _swap(found, memory)
    for value, file, name in (
        (memory.limit, "memory.limit_in_bytes", "limit"),
        (swap, "memory.memsw.limit_in_bytes", "swap" if memory.swap is not None else "limit"),
        (memory.reservation, "memory.soft_limit_in_bytes", "reservation"),
        (memory.kernel, "memory.kmem.limit_in_bytes", "kernel"),
        (memory.kernel_tcp, "memory.kmem.tcp.limit_in_bytes", "kernelTCP"),
        (memory.swappiness, "memory.swappiness", "swappiness"),
    ):
        if value is not None:
            # Any negative number is "unlimited" to engines, only -1 is to the kernel.
            found.add("memory", file, max(value, -1), f"/memory/{name}")
    if memory.disable_oom_killer is not None:
        found.add(
            "memory",
            "memory.oom_control",
            int(memory.disable_oom_killer),
            "/memory/disableOOMKiller",
        )


def _memory_unified(found: Settings, memory: Memory) -> None:
    """Version 2.

    limit -> memory.max; reservation -> memory.low; swap -> memory.swap.max = swap - limit, since
    version 2 counts swap alone, with the present limit if none is given; -1 is "max" everywhere.  A
    limit that changes alone leaves memory.swap.max as it is, as in other runtimes.  kernel,
    kernelTCP, swappiness, disabling the OOM killer and switching the hierarchy off have no
    equivalent.
    """
    for value, name, what in (
        (memory.kernel, "kernel", "a limit of kernel memory"),
        (memory.kernel_tcp, "kernelTCP", "a limit of TCP buffers"),
        (memory.swappiness, "swappiness", "swappiness"),
        (memory.disable_oom_killer or None, "disableOOMKiller", "disabling the OOM killer"),
        (memory.use_hierarchy is False or None, "useHierarchy", "a cgroup without hierarchy"),
    ):
        if value is not None:
            found.impossible("memory", f"/memory/{name}", what)
    swap = _swap(found, memory)
    if swap is not None:
        pointer = "/memory/swap" if memory.swap is not None else "/memory/limit"
        limit = _memory_limit_now(found) if memory.limit is None else memory.limit
        if swap < 0:
            found.add("memory", "memory.swap.max", "max", pointer)
        elif limit is None:
            found.refuse(
                pointer,
                "cgroup version 2 limits swap alone: needs memory.limit, to subtract it",
            )
        elif swap < limit:
            # Below the limit that the cgroup has now: the document's own was compared before.
            found.refuse(pointer, _SWAP_BELOW_MEMORY.format(swap, limit))
        else:
            # Without a memory limit the sum can limit only its swap part.
            found.add("memory", "memory.swap.max", swap - max(limit, 0), pointer)
    # After swap: if memory shrinks, the kernel may have to swap out at once.
    if memory.limit is not None:
        found.add("memory", "memory.max", limit_or_max(memory.limit), "/memory/limit")
    if memory.reservation is not None:
        low = limit_or_max(memory.reservation)
        found.add("memory", "memory.low", low, "/memory/reservation")


def _memory_limit_now(found: Settings) -> int | None:
    text = found.now.get("memory.max", "max")
    return None if text == "max" else int(text)


def _throttles(block_io: BlockIo) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield (pointer, version 1 file, key in io.max, device, rate) of every throttled device."""
    for attribute, name, file, key in (
        ("throttle_read_bps_device", "throttleReadBpsDevice", "read_bps_device", "rbps"),
        ("throttle_write_bps_device", "throttleWriteBpsDevice", "write_bps_device", "wbps"),
        ("throttle_read_iops_device", "throttleReadIOPSDevice", "read_iops_device", "riops"),
        ("throttle_write_iops_device", "throttleWriteIOPSDevice", "write_iops_device", "wiops"),
    ):
        for index, entry in enumerate(getattr(block_io, attribute)):
            pointer = f"/blockIO/{name}/{index}"
            yield pointer, f"blkio.throttle.{file}", key, f"{entry.major}:{entry.minor}", entry.rate


def _block_io_legacy(found: Settings, block_io: BlockIo) -> None:
    """Version 1: the fields are files; since Linux 5.0 the weights are BFQ's and it has no leaf
    weights.
    """
    if block_io.leaf_weight:
        found.refuse("/blockIO/leafWeight", _NO_LEAF_WEIGHTS)
    if block_io.weight:
        fallback = ("blkio.bfq.weight", str(block_io.weight))
        found.add("blkio", "blkio.weight", block_io.weight, "/blockIO/weight", fallback)
    for index, entry in enumerate(block_io.weight_device):
        pointer = f"/blockIO/weightDevice/{index}"
        device = f"{entry.major}:{entry.minor}"
        if entry.weight:
            weight = f"{device} {entry.weight}"
            fallback = ("blkio.bfq.weight_device", weight)
            found.add("blkio", "blkio.weight_device", weight, f"{pointer}/weight", fallback)
        if entry.leaf_weight:
            found.refuse(f"{pointer}/leafWeight", _NO_LEAF_WEIGHTS)
    for pointer, file, _, device, rate in _throttles(block_io):
        found.add("blkio", file, f"{device} {rate}", pointer)


def _block_io_unified(found: Settings, block_io: BlockIo) -> None:
    """Version 2.

    weight -> io.bfq.weight as it is, or io.weight by `weight_of_block_io` where BFQ is not there;
    throttles -> io.max "<device> <key>=<rate>", where 0 (no limit in version 1) is "max".  Leaf
    weights have no equivalent.
    """
    if block_io.leaf_weight:
        found.impossible("blkio", "/blockIO/leafWeight", "a leaf weight")
    if block_io.weight:
        fallback = ("io.weight", str(weight_of_block_io(block_io.weight)))
        found.add("io", "io.bfq.weight", block_io.weight, "/blockIO/weight", fallback)
    for index, entry in enumerate(block_io.weight_device):
        pointer = f"/blockIO/weightDevice/{index}"
        device = f"{entry.major}:{entry.minor}"
        if entry.leaf_weight:
            found.impossible("blkio", f"{pointer}/leafWeight", "a leaf weight")
        if entry.weight:
            fallback = ("io.weight", f"{device} {weight_of_block_io(entry.weight)}")
            value = f"{device} {entry.weight}"
            found.add("io", "io.bfq.weight", value, f"{pointer}/weight", fallback)
    for pointer, _, key, device, rate in _throttles(block_io):
        found.add("io", "io.max", f"{device} {key}={rate or 'max'}", pointer)


def _hugepages(found: Settings, resources: Resources) -> None:
    """Reservations are limited, or faults where the kernel (before 5.7) does not count
    reservations.
    """
    suffix = "limit_in_bytes" if found.is_legacy("hugetlb") else "max"
    for index, entry in enumerate(resources.hugepage_limits):
        pointer = f"/hugepageLimits/{index}"
        size = entry.page_size
        if not (size[:-2].isascii() and size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")):
            found.refuse(f"{pointer}/pageSize", f"{size!r} is not a page size", gate="rule")
            continue
        fallback = (f"hugetlb.{size}.{suffix}", str(entry.limit))
        found.add("hugetlb", f"hugetlb.{size}.rsvd.{suffix}", entry.limit, pointer, fallback)


def _network(found: Settings, resources: Resources) -> None:
    """Network classes and priorities are controllers of version 1 alone."""
    network = resources.network
    if network is None:
        return
    if network.class_id is not None:
        if found.is_legacy("net_cls"):
            found.add("net_cls", "net_cls.classid", network.class_id, "/network/classID")
        else:
            found.impossible("net_cls", "/network/classID", "a network class")
    for index, entry in enumerate(network.priorities):
        pointer = f"/network/priorities/{index}"
        if not found.is_legacy("net_prio"):
            found.impossible("net_prio", pointer, "a network priority")
        elif not _is_word(entry.name):
            found.refuse(f"{pointer}/name", f"{entry.name!r} is not an interface", gate="rule")
        else:
            found.add("net_prio", "net_prio.ifpriomap", f"{entry.name} {entry.priority}", pointer)


def _rdma(found: Settings, resources: Resources) -> None:
    """rdma.max is the same in both versions."""
    for device, entry in resources.rdma.items():
        pointer = f"/rdma/{_token(device)}"
        words = [
            f"{key}={value}"
            for key, value in (
                ("hca_handle", entry.hca_handles),
                ("hca_object", entry.hca_objects),
            )
            if value is not None
        ]
        if not _is_word(device):
            found.refuse(pointer, f"{device!r} is not a device name", gate="rule")
        elif not words:
            found.refuse(pointer, "needs hcaHandles or hcaObjects", gate="rule")
        else:
            found.add("rdma", "rdma.max", " ".join([device, *words]), pointer)


def _unified(found: Settings, resources: Resources) -> None:
    """`unified` names files of version 2; after all others, so that it has the last word.

    A value of several lines is written line by line, as the kernel wants it (io.max).
    """
    for file, value in resources.unified.items():
        pointer = f"/unified/{_token(file)}"
        controller, dot, rest = file.partition(".")
        if not found.unified:
            found.refuse(pointer, "cgroup version 2 is not mounted")
        elif not (controller and dot and rest) or any(c in file for c in "/\0\n"):
            found.refuse(pointer, f"{file!r} is not the name of a cgroup file", gate="rule")
        elif file in _UNIFIED_REFUSED:
            found.refuse(pointer, f"{file} is not a limit", gate="rule")
        elif found.is_legacy(controller):
            found.refuse(pointer, f"the {controller} controller is one of version 1 here")
        else:
            for line in value.split("\n") if value else [""]:
                if line or not value:
                    found.add(controller, file, line, pointer)


def _is_word(text: str) -> bool:
    return bool(text) and len(text.split()) == 1 and text == text.strip() and "\0" not in text


def _token(key: str) -> str:
    """Escape an object key for a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
