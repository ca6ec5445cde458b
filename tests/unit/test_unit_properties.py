# SPDX-License-Identifier: Apache-2.0
"""What systemd is told of a container's limits."""

from __future__ import annotations

from typing import Any

import pytest

from ocirun.cgroups.devices import effective_rules, legacy_lines
from ocirun.cgroups.resources import build_settings
from ocirun.cgroups.settings import Setting
from ocirun.cgroups.unit_properties import INFINITY, cpu_mask, device_properties, limit_properties, version_number
from ocirun.spec.resources import DeviceRule, Resources

V1 = ("cpu", "cpuset", "memory", "pids", "blkio", "devices")


def properties(resources: dict[str, Any], *, version: int = 255, legacy: bool = False, **more: Any) -> dict[str, Any]:
    settings, problems = build_settings(Resources.decode(resources), legacy=V1 if legacy else (), unified=not legacy)
    assert problems == []
    found = limit_properties(settings, version=version, has_bfq=more.pop("has_bfq", False), **more)
    return {name: value for name, ((_, (_, value)), _) in found.items()}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
        ({"cpu": {"quota": 50000, "period": 200000}}, {"CPUQuotaPerSecUSec": 250_000, "CPUQuotaPeriodUSec": 200_000}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100_000}),
        ({"cpu": {"quota": 12345}}, {"CPUQuotaPerSecUSec": 130_000, "CPUQuotaPeriodUSec": 100_000}),
        ({"cpu": {"cpus": "0-1,9", "mems": "0"}}, {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"}),
        ({"memory": {"limit": 100, "swap": 150, "reservation": 7}}, {"MemoryMax": 100, "MemorySwapMax": 50, "MemoryLow": 7}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"memory": {"limit": 100, "swap": 100}}, {"MemoryMax": 100, "MemorySwapMax": 0}),
        ({"pids": {"limit": 5}}, {"TasksMax": 5}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"blockIO": {"weight": 500}}, {"IOWeight": 4950}),
        ({"unified": {"memory.high": "4K", "memory.min": "max", "memory.zswap.max": "0"}},
         {"MemoryHigh": 4096, "MemoryMin": INFINITY, "MemoryZSwapMax": 0}),
        ({"unified": {"cpu.max": "max 50000", "io.weight": "default 200", "cpu.idle": "1"}},
         {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50_000, "IOWeight": 200, "CPUWeight": 0}),
        # systemd does not know them, or not without a path to the device
        ({"unified": {"cpu.max.burst": "5", "io.weight": "8:0 200", "io.max": "8:0 rbps=5", "hugetlb.2MB.max": "0"}}, {}),
        # the kernel says what is wrong with it
        ({"unified": {"memory.max": "lots", "pids.max": "-5", "cpuset.cpus": "0-8:2", "cpu.max": "all"}}, {}),
        ({"unified": {"memory.max": "9" * 99, "cpu.weight": "9" * 20}}, {}),
    ],
)  # fmt: skip
def test_version_2(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every limit that systemd would write itself."""
    assert properties(resources) == expected


def test_unified_has_the_last_word() -> None:
    """As with the files."""
    assert properties({"pids": {"limit": 5}, "unified": {"pids.max": "9"}}) == {"TasksMax": 9}


def test_version_1() -> None:
    """systemd's older properties; a weight that is out of the kernel's range counts as its end."""
    found = properties(
        {
            "cpu": {"shares": 1, "quota": 5000, "period": 10000},
            "memory": {"limit": 100},
            "pids": {"limit": 5},
            "blockIO": {"weight": 500},
        },
        legacy=True,
    )
    assert found == {
        "CPUShares": 2, "CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 10_000, "MemoryLimit": 100, "TasksMax": 5,
        "BlockIOWeight": 500,
    }  # fmt: skip


def test_what_an_update_leaves() -> None:
    """Only one of quota and period is given: the other is the present one."""
    assert properties({"cpu": {"quota": 5000}}, cpu_max_now=("max", 10000)) == {
        "CPUQuotaPerSecUSec": 500_000,
        "CPUQuotaPeriodUSec": 10_000,
    }


def test_bfq() -> None:
    """systemd makes BFQ's weight of IOWeight: what it makes is what was asked for."""
    for weight in (10, 100, 101, 500, 1000):
        value = properties({"blockIO": {"weight": weight}}, has_bfq=True)["IOWeight"]
        assert (value if value <= 100 else 100 + (value - 100) * 900 // 9900) == weight
    for weight, expected in ((50, 50), (150, 650), (181, 991), (182, 1000), (1000, 1000)):
        assert properties({"blockIO": {"weight": weight}}, legacy=True, has_bfq=True) == {"BlockIOWeight": expected}


def test_end_of_idleness() -> None:
    """systemd would make the group idle again with the next change, if it was not told."""
    assert properties({"cpu": {"idle": 0}}) == {}
    assert properties({"cpu": {"idle": 0}}, is_idle=True) == {"CPUWeight": 100}
    assert properties({"cpu": {"idle": 0, "shares": 2048}}, is_idle=True) == {"CPUWeight": 174}
    assert properties({"cpu": {"idle": 1, "shares": 2048}}, is_idle=True) == {"CPUWeight": 0}


def test_lifted_set() -> None:
    """No CPUs named means all of the parent's."""
    found = limit_properties([Setting("cpuset", "cpuset.cpus", "\n", "/cpu/cpus")], version=255, has_bfq=False)
    assert found["AllowedCPUs"][0] == ("AllowedCPUs", ("ay", b""))


def test_older_systemd() -> None:
    """What a version does not know is not sent."""
    everything = {"cpu": {"idle": 1, "quota": 5000, "cpus": "0"}, "unified": {"memory.zswap.max": "0"}}
    assert set(properties(everything, version=240)) == {"CPUQuotaPerSecUSec"}
    assert set(properties(everything, version=242)) == {"CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"}
    assert set(properties(everything, version=252)) >= {"AllowedCPUs", "CPUWeight"}


@pytest.mark.parametrize(
    ("text", "number"), [("252.39-1~deb12u2", 252), ("v245.4-4ubuntu3", 245), ("systemd 219", 219), ("257~rc1", 257), ("", 0)]
)
def test_versions(text: str, number: int) -> None:
    """As distributions write them."""
    assert version_number(text) == number


def test_pointers() -> None:
    """Each property knows where it comes from."""
    settings, _ = build_settings(Resources.decode({"cpu": {"shares": 5}, "pids": {"limit": 1}}), legacy=(), unified=True)
    found = limit_properties(settings, version=255, has_bfq=False)
    assert {name: pointer for name, (_, pointer) in found.items()} == {
        "CPUWeight": "/linux/resources/cpu/shares",
        "TasksMax": "/linux/resources/pids/limit",
    }


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0-3:2", "0,,1", "99999999"])
def test_what_is_no_mask(text: str) -> None:
    """Left to the kernel."""
    assert cpu_mask(text) is None


def devices(*rules: dict[str, Any]) -> list[Any]:
    found, problems = effective_rules([DeviceRule(rule) for rule in rules])
    assert problems == []
    return device_properties(legacy_lines(found)[0])


DENY_ALL = {"allow": False, "access": "rwm"}


def test_device_lists() -> None:
    """A list of what is allowed; systemd finds a device by its number, a driver by its major number."""
    policy, empty, allow = devices(
        DENY_ALL,
        {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"},
        {"allow": True, "type": "c", "major": 4, "access": "rw"},
    )
    assert policy == ("DevicePolicy", ("s", "strict"))
    assert empty == ("DeviceAllow", ("a(ss)", []))
    assert {("/dev/block/8:1", "rm"), ("char-4", "rwm"), ("char-*", "m"), ("block-*", "m"), ("/dev/char/1:3", "rwm")} <= set(
        allow[1][1]
    )


@pytest.mark.parametrize(
    "rules",
    [
        [{"allow": True, "access": "rwm"}],
        [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 4, "access": "rwm"}],
        [DENY_ALL, {"allow": True, "type": "c", "minor": 4, "access": "rw"}],
    ],
)
def test_what_systemd_cannot_know_of_devices(rules: list[dict[str, Any]]) -> None:
    """Then it does not filter at all; with the controller of version 1 its list has everything."""
    found, _ = effective_rules([DeviceRule(rule) for rule in rules])
    assert device_properties(legacy_lines(found)[0], legacy=True)[2][1] == ("a(ss)", [("char-*", "rwm"), ("block-*", "rwm")])
    assert devices(*rules) == [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
