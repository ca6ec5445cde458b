# SPDX-License-Identifier: Apache-2.0
"""The limits that systemd knows, as properties of a unit.  Pure.

systemd writes its own idea of a unit's limits into the cgroup's files whenever it likes, `systemctl daemon-reload`
included.  So whatever it would write must be a property as well.  The files are written after the properties, because
they say exactly what is asked for, and for what systemd does not know: burst, hugetlb, rdma, io.max, the network.  (Of
devices' I/O it writes only what it has been told, and what is in io.max stays.)

Properties are made from the writes to files that `resources.build_settings` returns, so that the conversions and the
last word of `unified` are the same for both managers.

Manual: systemd.resource-control(5), org.freedesktop.systemd1(5)
"""

from __future__ import annotations

from .resources import DEFAULT_PERIOD_US, weight_of_block_io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .settings import Setting
    from .systemd_bus import Property

INFINITY = (1 << 64) - 1
#: From which version of systemd on.
CPUSET_SINCE = 244
PERIOD_SINCE = 242
IDLE_SINCE = 252
ZSWAP_SINCE = 253
DEFAULT_WEIGHT = 100
_PERCENT_US = 10_000


def version_number(text: str) -> int:
    """Return the number of systemd's Version property: 252 of "252.39-1~deb12u2", 245 of "v245.4"; 0 if it has none."""
    digits = ""
    for letter in text:
        if letter.isdigit():
            digits += letter
        elif digits:
            break
    return int(digits or 0)


def limit_properties(
    settings: Sequence[Setting],
    *,
    version: int,
    has_bfq: bool,
    cpu_max_now: tuple[str, int] | None = None,
    is_idle: bool = False,
) -> dict[str, tuple[Property, str]]:
    """Return name -> (property, JSON pointer) for the writes that systemd can know of.

    *version* is systemd's; *has_bfq* whether the cgroup has BFQ's file of a weight.  *cpu_max_now* is the present quota
    ("max" for none) and period, of which *settings* may change one alone; *is_idle* whether the cgroup is idle now.

    What is no number is left to the kernel, which refuses it with a reason.
    """
    found: dict[str, tuple[Property, str]] = {}
    idle: Setting | None = None
    bandwidth = _Bandwidth(*cpu_max_now or ("max", DEFAULT_PERIOD_US))
    for setting in settings:
        file, value = setting.file, setting.value
        name, signature = "", "t"
        content: int | bytes | None = None
        if bandwidth.take(setting):
            continue
        if file in _LIMITS:
            name, read, since = _LIMITS[file]
            content = read(value) if version >= since else None
        elif file in _SETS and version >= CPUSET_SINCE:
            name, signature, content = _SETS[file], "ay", cpu_mask(value) if value.strip() else b""
        elif file == "cpu.idle" and version >= IDLE_SINCE:
            idle = setting
        elif file in ("io.bfq.weight", "io.weight"):
            name, content = "IOWeight", _io_weight(file, value, has_bfq)
        elif file == "blkio.weight":
            name, content = "BlockIOWeight", _block_io_weight(value, has_bfq)
        if content is not None:
            found[name] = ((name, (signature, content)), setting.pointer)
    found.update(bandwidth.properties(version))
    if idle is not None and idle.value.strip() == "1":
        found["CPUWeight"] = ("CPUWeight", ("t", 0)), idle.pointer
    elif idle is not None and idle.value.strip() == "0" and is_idle:
        # The kernel has the default weight then, and systemd must not make it idle with the next change.
        found.setdefault("CPUWeight", (("CPUWeight", ("t", DEFAULT_WEIGHT)), idle.pointer))
    return found


class _Bandwidth:
    """The quota of CPU time, which is in one file or in two."""

    def __init__(self, quota: str, period: int) -> None:
        self._quota, self._period = quota, period
        self._pointer = ""

    def take(self, setting: Setting) -> bool:
        """Take what *setting* says about it; False if that is nothing."""
        value = setting.value
        if setting.file == "cpu.max":
            self._quota, _, period = value.strip().partition(" ")
        elif setting.file == "cpu.cfs_quota_us":
            self._quota, period = ("max" if value.startswith("-") else value), ""
        elif setting.file == "cpu.cfs_period_us":
            period = value
        else:
            return False
        self._period = _number(period) or self._period
        self._pointer = setting.pointer
        return True

    def properties(self, version: int) -> dict[str, tuple[Property, str]]:
        """Return the properties; none where nothing was said."""
        quota = INFINITY if self._quota == "max" else _number(self._quota)
        if not self._pointer or quota is None:
            return {}
        if quota != INFINITY:
            quota = quota_per_second(quota, self._period)
        found = {"CPUQuotaPerSecUSec": quota}
        if version >= PERIOD_SINCE:
            found["CPUQuotaPeriodUSec"] = self._period
        return {name: ((name, ("t", number)), self._pointer) for name, number in found.items()}


def quota_per_second(quota_us: int, period_us: int) -> int:
    """Convert a quota of CPU time in each period to one in each second, rounded up to a whole percent of a CPU.

    systemd keeps a transient unit as a file in which the quota is a whole percentage, rounded down: after a
    daemon-reload 12.3456 % would be 12 %, and 0.5 % no limit at all.
    """
    per_second = -(-quota_us * 1_000_000 // period_us)
    return -(-per_second // _PERCENT_US) * _PERCENT_US


def cpu_mask(text: str) -> bytes | None:
    """Return a list of numbers ("0-3,8") as systemd takes it: bit N of the bytes; None for what is no such list.

    Format: cpuset(7), "List format"; a stride ("0-10:2") is none that systemd has a form for.
    """
    mask = 0
    for part in text.replace("\n", ",").split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or not (last.isdecimal() if dash else True):
            return None
        low, high = int(first), int(last or first)
        if not low <= high < 1 << 16:
            return None
        mask |= (1 << (high + 1)) - (1 << low)
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _number(text: str) -> int | None:
    text = text.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 20:
        return None
    number = int(text)
    return number if number <= INFINITY else None


def _bytes(text: str) -> int | None:
    """Read what the kernel reads as an amount of memory: "max", or a number with a unit (memparse)."""
    text = text.strip()
    if text in ("max", "-1"):
        return INFINITY
    shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:].upper(), 0)
    number = _number(text[:-1] if shift else text)
    return None if number is None else min(number << shift, INFINITY)


def _limit(text: str) -> int | None:
    """Read a limit of which systemd takes no zero."""
    number = _bytes(text)
    return None if number is None else max(number, 1)


def _shares(text: str) -> int | None:
    """Read cpu.shares; the kernel takes values outside of its range for the ends of it, systemd does not take them."""
    number = _number(text)
    return None if number is None else min(max(number, 2), 262144)


def _tasks(text: str) -> int | None:
    """Read pids.max.  Zero is none of systemd's values; 1 means the same to a container that has a process."""
    if text.strip() == "max":
        return INFINITY
    number = _number(text)
    return None if number is None else max(number, 1)


def _io_weight(file: str, value: str, has_bfq: bool) -> int | None:
    """Return the IOWeight from which systemd makes the weight that was asked for, None for what is per device.

    With BFQ systemd writes io.bfq.weight = 100 + (IOWeight - 100) * 900 / 9900 for weights above 100 and the weight
    itself up to there: the inverse of it is used.  Without BFQ, IOWeight is io.weight.
    """
    weight = _number(value.removeprefix("default "))
    if weight is None:
        return None
    if file == "io.weight":
        return weight
    if not has_bfq:
        return weight_of_block_io(weight)
    return weight if weight <= 100 else 100 + (weight - 100) * 11


def _block_io_weight(value: str, has_bfq: bool) -> int | None:
    """The same for version 1, where the property ends at 1000: with BFQ systemd cannot keep a weight above 181."""
    weight = _number(value)
    if weight is None or not has_bfq or weight <= 100:
        return weight
    return min(100 + (weight - 100) * 11, 1000)


#: cgroup file -> (property, how its value is read, since which version)
_LIMITS: dict[str, tuple[str, Callable[[str], int | None], int]] = {
    "memory.max": ("MemoryMax", _limit, 0),
    "memory.high": ("MemoryHigh", _limit, 0),
    "memory.low": ("MemoryLow", _bytes, 0),
    "memory.min": ("MemoryMin", _bytes, 0),
    "memory.swap.max": ("MemorySwapMax", _bytes, 0),
    "memory.zswap.max": ("MemoryZSwapMax", _bytes, ZSWAP_SINCE),
    "pids.max": ("TasksMax", _tasks, 0),
    "cpu.weight": ("CPUWeight", _number, 0),
    # version 1
    "memory.limit_in_bytes": ("MemoryLimit", _limit, 0),
    "cpu.shares": ("CPUShares", _shares, 0),
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def device_properties(lines: Sequence[tuple[str, str]] | None, *, legacy: bool = False) -> list[Property]:
    """Return DevicePolicy and DeviceAllow for the lines of `devices.legacy_lines`.

    systemd has nothing but a list of what is allowed.  None, or a list of what is denied, is more than it can know:
    then it shall not filter, and our own filter alone does.  With *legacy* (the devices controller of version 1) it is
    told to allow all: a unit without a list has no cgroup of that controller, and it would remove ours.
    """
    if lines is None or lines[0] != ("devices.deny", "a"):
        if legacy:
            return _allowed([("char-*", "rwm"), ("block-*", "rwm")])
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    allowed = []
    for _, line in lines[1:]:
        kind, numbers, rights = line.split(" ")
        major, _, minor = numbers.partition(":")
        name = {"b": "block", "c": "char"}[kind]
        if minor != "*":
            if major == "*":
                return device_properties(None, legacy=legacy)
            allowed.append((f"/dev/{name}/{major}:{minor}", rights))
        else:
            allowed.append((f"{name}-{major}", rights))
    return _allowed(allowed)


def _allowed(allowed: list[tuple[str, str]]) -> list[Property]:
    return [
        ("DevicePolicy", ("s", "strict")),
        ("DeviceAllow", ("a(ss)", [])),  # empties the list
        ("DeviceAllow", ("a(ss)", allowed)),
    ]
