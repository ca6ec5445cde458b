# SPDX-License-Identifier: Apache-2.0
"""linux.resources as writes: conversions, order, and what a cgroup version cannot express."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ocirun.cgroups import open_manager
from ocirun.cgroups.limits import apply_limits
from ocirun.cgroups.resources import build_settings, weight_of_block_io, weight_of_shares
from ocirun.errors import CgroupError
from ocirun.spec.resources import Resources

ALL_LEGACY = ("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")


def legacy(**source: Any) -> list[tuple[str, str]]:
    """Return the (file, value) writes of version 1; no problems expected."""
    settings, problems = build_settings(Resources(source), legacy=ALL_LEGACY, unified=False)
    assert problems == []
    return [(setting.file, setting.value) for setting in settings]


def unified(**source: Any) -> list[tuple[str, str]]:
    """Return the (file, value) writes of version 2; no problems expected."""
    settings, problems = build_settings(Resources(source), legacy=(), unified=True)
    assert problems == []
    return [(setting.file, setting.value) for setting in settings]


def refused(**source: Any) -> list[str]:
    """Return the pointers of what version 2 refuses."""
    _, problems = build_settings(Resources(source), legacy=(), unified=True)
    return [problem.pointer.removeprefix("/linux/resources") for problem in problems]


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (3, 2), (1024, 100), (262144, 10000), (10**6, 10000)]
)
def test_shares_formula_meets_ends_and_default(shares: int, weight: int) -> None:
    """The default of version 1 becomes the default of version 2."""
    assert weight_of_shares(shares) == weight


def test_block_io_weight_does_not_overflow() -> None:
    """The ends of both ranges meet; a 16-bit computation would wrap from 17 on."""
    assert [weight_of_block_io(weight) for weight in (10, 17, 1000)] == [1, 71, 10000]


def test_pids_limit_zero_is_a_limit() -> None:
    """0 means no process at all, -1 means no limit."""
    assert unified(pids={"limit": 0}) == legacy(pids={"limit": 0}) == [("pids.max", "0")]
    assert unified(pids={"limit": -1}) == legacy(pids={"limit": -1}) == [("pids.max", "max")]
    assert unified(pids={}) == []


def test_quota_of_minus_one_lifts_the_limit() -> None:
    """Also without a period, so that an update can lift it."""
    assert unified(cpu={"quota": -1}) == [("cpu.max", "max")]
    assert unified(cpu={"quota": -1, "period": 50000}) == [("cpu.max", "max 50000")]
    assert legacy(cpu={"quota": -1}) == [("cpu.cfs_quota_us", "-1")]


def test_period_alone_keeps_the_quota() -> None:
    """Version 2 has both in one file; the present quota is written again."""
    resources = Resources({"cpu": {"period": 50000}})
    settings, _ = build_settings(resources, legacy=(), unified=True, now={"cpu.max": "25000 100000"})
    assert [(each.file, each.value) for each in settings] == [("cpu.max", "25000 50000")]
    assert unified(cpu={"period": 50000}) == [("cpu.max", "max 50000")]


def test_zero_means_unset_for_cpu_times() -> None:
    """Engines send 0 for what the user did not set; the kernel takes it for none of them."""
    cpu = {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0}
    assert unified(cpu=cpu) == legacy(cpu=cpu) == []


def test_idle_and_shares_in_the_order_that_works() -> None:
    """An idle cgroup takes no weight: leave it first, or enter it last."""
    assert [file for file, _ in unified(cpu={"idle": 1, "shares": 10})] == [
        "cpu.weight",
        "cpu.idle",
    ]
    assert [file for file, _ in unified(cpu={"idle": 0, "shares": 10})] == [
        "cpu.idle",
        "cpu.weight",
    ]


def test_swap_of_version_2_is_the_difference() -> None:
    """Version 1 limits the sum, version 2 swap alone; equal limits mean no swap."""
    assert unified(memory={"limit": 100, "swap": 150}) == [
        ("memory.swap.max", "50"),
        ("memory.max", "100"),
    ]
    assert unified(memory={"limit": 100, "swap": 100})[0] == ("memory.swap.max", "0")
    assert unified(memory={"limit": 100, "swap": -1})[0] == ("memory.swap.max", "max")
    assert unified(memory={"limit": -1, "swap": 70}) == [
        ("memory.swap.max", "70"),
        ("memory.max", "max"),
    ]


def test_unlimited_memory_unlimits_swap() -> None:
    """Otherwise the old limit of the sum would still hold."""
    assert unified(memory={"limit": -1}) == [("memory.swap.max", "max"), ("memory.max", "max")]
    assert legacy(memory={"limit": -1}) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
    ]


def test_swap_below_memory_is_refused_in_both_versions() -> None:
    """The sum cannot be less than a part of it, 0 included."""
    for swap in (0, 99):
        assert refused(memory={"limit": 100, "swap": swap}) == ["/memory/swap"]
        source = Resources({"memory": {"limit": 100, "swap": swap}})
        _, problems = build_settings(source, legacy=ALL_LEGACY, unified=False)
        assert [problem.gate for problem in problems] == ["rule"]


def test_swap_without_memory_needs_version_1() -> None:
    """There is nothing to subtract."""
    assert refused(memory={"swap": 100}) == ["/memory/swap"]
    assert legacy(memory={"swap": 100}) == [("memory.memsw.limit_in_bytes", "100")]


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({"memory": {"kernel": 1}}, "/memory/kernel"),
        ({"memory": {"kernelTCP": 1}}, "/memory/kernelTCP"),
        ({"memory": {"swappiness": 0}}, "/memory/swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller"),
        ({"memory": {"useHierarchy": False}}, "/memory/useHierarchy"),
        ({"cpu": {"realtimeRuntime": 1}}, "/cpu/realtimeRuntime"),
        ({"cpu": {"realtimePeriod": 1}}, "/cpu/realtimePeriod"),
        ({"network": {"classID": 1}}, "/network/classID"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "/network/priorities/0"),
    ],
)
def test_impossible_in_version_2_is_refused(source: dict[str, Any], pointer: str) -> None:
    """Nothing that version 1 could limit is dropped silently (other runtimes do)."""
    assert refused(**source) == [pointer]
    settings, problems = build_settings(Resources(source), legacy=ALL_LEGACY, unified=False)
    assert len(settings) == 1
    assert problems == []


def test_harmless_values_of_impossible_fields_pass() -> None:
    """Engines send what is the only behaviour of version 2 anyway."""
    assert unified(memory={"disableOOMKiller": False, "useHierarchy": True}) == []


def test_all_problems_are_reported_together() -> None:
    """One refusal names every place."""
    found = refused(memory={"swappiness": 60, "kernel": 1}, blockIO={"leafWeight": 10})
    assert found == ["/memory/kernel", "/memory/swappiness", "/blockIO/leafWeight"]


def test_throttles_go_to_io_max() -> None:
    """One line for each device and key; a rate of 0 lifts the limit."""
    device = {"major": 8, "minor": 16, "rate": 1000}
    block_io = {
        "throttleReadBpsDevice": [device],
        "throttleWriteBpsDevice": [device | {"rate": 0}],
        "throttleReadIOPSDevice": [device],
        "throttleWriteIOPSDevice": [device],
    }
    assert unified(blockIO=block_io) == [
        ("io.max", "8:16 rbps=1000"),
        ("io.max", "8:16 wbps=max"),
        ("io.max", "8:16 riops=1000"),
        ("io.max", "8:16 wiops=1000"),
    ]
    assert legacy(blockIO=block_io)[0] == ("blkio.throttle.read_bps_device", "8:16 1000")


def test_block_io_weight_has_a_fallback() -> None:
    """BFQ's file takes the weight as it is, the other one converted."""
    resources = Resources({"blockIO": {"weight": 1000}})
    (setting,), _ = build_settings(resources, legacy=(), unified=True)
    assert (setting.file, setting.value) == ("io.bfq.weight", "1000")
    assert setting.fallback == ("io.weight", "10000")


def test_hugepages_limit_reservations_first() -> None:
    """Faults are the fallback; a size that is not one would name another file."""
    limits = [{"pageSize": "2MB", "limit": 9}]
    (setting,), _ = build_settings(Resources({"hugepageLimits": limits}), legacy=(), unified=True)
    assert (setting.file, setting.fallback) == ("hugetlb.2MB.rsvd.max", ("hugetlb.2MB.max", "9"))
    assert refused(hugepageLimits=[{"pageSize": "../2MB", "limit": 9}]) == [
        "/hugepageLimits/0/pageSize"
    ]


def test_rdma_is_the_same_in_both_versions() -> None:
    """At least one of the two limits, and a device name without spaces."""
    rdma = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}}
    expected = [("rdma.max", "mlx5_1 hca_handle=3 hca_object=4")]
    assert unified(rdma=rdma) == legacy(rdma=rdma) == expected
    assert refused(rdma={"mlx5_1": {}}) == ["/rdma/mlx5_1"]
    assert refused(rdma={"a b/c": {"hcaHandles": 3}}) == ["/rdma/a b~1c"]


@pytest.mark.parametrize(
    "file",
    [
        "../cgroup.procs",
        "cgroup.procs",
        "cgroup.kill",
        "cgroup.subtree_control",
        "a/b",
        "",
        "memory",
        ".max",
        "memory.max\0",
    ],
)
def test_unified_names_only_limits(file: str) -> None:
    """A key must be a file of this cgroup that sets a limit."""
    assert len(refused(unified={file: "1"})) == 1


def test_unified_comes_last_and_line_by_line() -> None:
    """It has the last word, and io.max takes one device at a time."""
    found = unified(
        pids={"limit": 5}, unified={"pids.max": "6", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"}
    )
    assert found == [
        ("pids.max", "5"),
        ("pids.max", "6"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:16 rbps=2"),
    ]


def test_unified_needs_version_2() -> None:
    """On a legacy host the map is refused, not ignored."""
    _, problems = build_settings(
        Resources({"unified": {"memory.high": "1"}}), legacy=ALL_LEGACY, unified=False
    )
    assert [problem.pointer for problem in problems] == ["/linux/resources/unified/memory.high"]


def test_hybrid_decides_controller_by_controller() -> None:
    """Where version 1 has pids and version 2 hugetlb, each is written in its own way."""
    resources = Resources(
        {"memory": {"swappiness": 1}, "hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}
    )
    settings, problems = build_settings(resources, legacy=("memory", "pids"), unified=True)
    assert problems == []
    assert [setting.file for setting in settings] == ["memory.swappiness", "hugetlb.2MB.rsvd.max"]


def test_unified_never_reaches_a_file_of_version_1() -> None:
    """pids.max has one name in both versions; the map is about version 2, which has no such controller then."""
    resources = Resources({"unified": {"pids.max": "5", "cgroup.max.depth": "3"}})
    settings, [problem] = build_settings(resources, legacy=("memory", "pids"), unified=True)
    assert [setting.file for setting in settings] == ["cgroup.max.depth"]
    assert problem.pointer == "/linux/resources/unified/pids.max"


def test_swap_alone_counts_from_the_present_limit() -> None:
    """Version 2 limits the difference: an update of the sum alone takes the memory limit that is in force."""
    resources = Resources({"memory": {"swap": 150}})

    def found(memory_max: str) -> tuple[list[tuple[str, str]], list[str]]:
        settings, problems = build_settings(
            resources, legacy=(), unified=True, now={"memory.max": memory_max}, pointer=""
        )
        return [(each.file, each.value) for each in settings], [each.pointer for each in problems]

    assert found("100") == ([("memory.swap.max", "50")], [])
    assert found("150") == ([("memory.swap.max", "0")], [])
    assert found("151") == ([], ["/memory/swap"])
    assert found("max") == ([], ["/memory/swap"])


def test_disabled_manager_refuses_limits_but_not_device_rules() -> None:
    """Engines send their device list always; a limit that nothing enforces is an error."""
    manager = open_manager("disabled", "unified", "x", None)
    manager.apply(Resources({"devices": [{"allow": False}]}), False)
    manager.apply(None, False)
    with pytest.raises(CgroupError) as info:
        manager.apply(Resources({"pids": {"limit": 5}}), False)
    assert info.value.json_pointer == "/linux/resources/pids/limit"
    with pytest.raises(CgroupError):
        manager.freeze()
    assert open_manager("x", "x", "x", None, recorded=manager.record()).paths() == []


class Directories:
    """One directory in the place of every cgroup."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def legacy_controllers(self) -> tuple[str, ...]:
        return ()

    def has_unified(self) -> bool:
        return True

    def directory_of(self, controller: str) -> int | None:
        return os.open(self.path, os.O_RDONLY)

    def enable(self, controller: str) -> bool:
        return False


@pytest.mark.parametrize(
    ("files", "written"),
    [
        (["hugetlb.2MB.rsvd.max", "hugetlb.2MB.max"], "hugetlb.2MB.rsvd.max"),
        (["hugetlb.2MB.max"], "hugetlb.2MB.max"),
        ([], None),
    ],
)
def test_huge_pages_where_reservations_are_not_counted(
    tmp_path: Path, files: list[str], written: str | None
) -> None:
    """W15: reservations if there is such a file, else faults; with neither the error says what is missing."""
    for file in files:
        (tmp_path / file).write_text("")
    resources = Resources({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]})
    if written is None:
        with pytest.raises(CgroupError, match="ENOENT") as info:
            apply_limits(Directories(tmp_path), resources)
        assert info.value.json_pointer == "/linux/resources/hugepageLimits/0"
        return
    apply_limits(Directories(tmp_path), resources)
    assert {file: (tmp_path / file).read_text() for file in files if (tmp_path / file).read_text()} == {
        written: "4194304"
    }
