# SPDX-License-Identifier: Apache-2.0
"""linux.resources as Python objects: see `ocirun.spec.model`."""

from __future__ import annotations

from ocirun.spec.part import Part, decode_all, decode_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.spec.part import JsonObject


class DeviceRule(Part):
    """A device cgroup rule; None (type, major, minor, access) means any.

    Spec: config-linux.md#allowed-device-list
    """

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.allow: bool = source["allow"]
        self.type: str | None = get("type") or None
        self.major: int | None = get("major")
        self.minor: int | None = get("minor")
        self.access: str | None = get("access") or None


class Memory(Part):
    """In bytes; -1 means unlimited.  Spec: config-linux.md#memory"""

    __slots__ = (
        "check_before_update",
        "disable_oom_killer",
        "kernel",
        "kernel_tcp",
        "limit",
        "reservation",
        "swap",
        "swappiness",
        "use_hierarchy",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.limit: int | None = get("limit")
        self.reservation: int | None = get("reservation")
        self.swap: int | None = get("swap")
        self.kernel: int | None = get("kernel")
        self.kernel_tcp: int | None = get("kernelTCP")
        self.swappiness: int | None = get("swappiness")
        self.disable_oom_killer: bool | None = get("disableOOMKiller")
        self.use_hierarchy: bool | None = get("useHierarchy")
        self.check_before_update: bool | None = get("checkBeforeUpdate")


class Cpu(Part):
    """Times are in microseconds.  Spec: config-linux.md#cpu"""

    __slots__ = (
        "burst",
        "cpus",
        "idle",
        "mems",
        "period",
        "quota",
        "realtime_period",
        "realtime_runtime",
        "shares",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.shares: int | None = get("shares")
        self.quota: int | None = get("quota")
        self.burst: int | None = get("burst")
        self.period: int | None = get("period")
        self.realtime_runtime: int | None = get("realtimeRuntime")
        self.realtime_period: int | None = get("realtimePeriod")
        self.cpus: str | None = get("cpus") or None
        self.mems: str | None = get("mems") or None
        self.idle: int | None = get("idle")


class Pids(Part):
    """Spec: config-linux.md#pids"""

    __slots__ = ("limit",)

    def __init__(self, source: JsonObject) -> None:
        self.limit: int | None = source.get("limit")


class WeightDevice(Part):
    """Spec: config-linux.md#block-io"""

    __slots__ = ("leaf_weight", "major", "minor", "weight")

    def __init__(self, source: JsonObject) -> None:
        self.major: int = source["major"]
        self.minor: int = source["minor"]
        self.weight: int | None = source.get("weight")
        self.leaf_weight: int | None = source.get("leafWeight")


class ThrottleDevice(Part):
    """`rate` is in bytes or operations per second.  Spec: config-linux.md#block-io"""

    __slots__ = ("major", "minor", "rate")

    def __init__(self, source: JsonObject) -> None:
        self.major: int = source["major"]
        self.minor: int = source["minor"]
        self.rate: int = source["rate"]


class BlockIo(Part):
    """Spec: config-linux.md#block-io"""

    __slots__ = (
        "leaf_weight",
        "throttle_read_bps_device",
        "throttle_read_iops_device",
        "throttle_write_bps_device",
        "throttle_write_iops_device",
        "weight",
        "weight_device",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.weight: int | None = get("weight")
        self.leaf_weight: int | None = get("leafWeight")
        self.weight_device: tuple[WeightDevice, ...] = decode_all(WeightDevice, get("weightDevice"))
        self.throttle_read_bps_device: tuple[ThrottleDevice, ...] = decode_all(
            ThrottleDevice, get("throttleReadBpsDevice")
        )
        self.throttle_write_bps_device: tuple[ThrottleDevice, ...] = decode_all(
            ThrottleDevice, get("throttleWriteBpsDevice")
        )
        self.throttle_read_iops_device: tuple[ThrottleDevice, ...] = decode_all(
            ThrottleDevice, get("throttleReadIOPSDevice")
        )
        self.throttle_write_iops_device: tuple[ThrottleDevice, ...] = decode_all(
            ThrottleDevice, get("throttleWriteIOPSDevice")
        )


class HugepageLimit(Part):
    """`page_size` is like "2MB", `limit` is in bytes.  Spec: config-linux.md#huge-page-limits"""

    __slots__ = ("limit", "page_size")

    def __init__(self, source: JsonObject) -> None:
        self.page_size: str = source["pageSize"]
        self.limit: int = source["limit"]


class InterfacePriority(Part):
    """Spec: config-linux.md#network"""

    __slots__ = ("name", "priority")

    def __init__(self, source: JsonObject) -> None:
        self.name: str = source["name"]
        self.priority: int = source["priority"]


class Network(Part):
    """Spec: config-linux.md#network"""

    __slots__ = ("class_id", "priorities")

    def __init__(self, source: JsonObject) -> None:
        self.class_id: int | None = source.get("classID")
        self.priorities: tuple[InterfacePriority, ...] = decode_all(
            InterfacePriority, source.get("priorities")
        )


class Rdma(Part):
    """Spec: config-linux.md#rdma"""

    __slots__ = ("hca_handles", "hca_objects")

    def __init__(self, source: JsonObject) -> None:
        self.hca_handles: int | None = source.get("hcaHandles")
        self.hca_objects: int | None = source.get("hcaObjects")


class Resources(Part):
    """`unified` is kept as the map file name -> content.  Spec: config-linux.md#control-groups"""

    __slots__ = (
        "block_io",
        "cpu",
        "devices",
        "hugepage_limits",
        "memory",
        "network",
        "pids",
        "rdma",
        "unified",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.devices: tuple[DeviceRule, ...] = decode_all(DeviceRule, get("devices"))
        self.memory: Memory | None = decode_one(Memory, get("memory"))
        self.cpu: Cpu | None = decode_one(Cpu, get("cpu"))
        self.pids: Pids | None = decode_one(Pids, get("pids"))
        self.block_io: BlockIo | None = decode_one(BlockIo, get("blockIO"))
        self.hugepage_limits: tuple[HugepageLimit, ...] = decode_all(
            HugepageLimit, get("hugepageLimits")
        )
        self.network: Network | None = decode_one(Network, get("network"))
        self.rdma: dict[str, Rdma] = {
            name: Rdma(limit) for name, limit in (get("rdma") or {}).items()
        }
        self.unified: dict[str, str] = get("unified") or {}
