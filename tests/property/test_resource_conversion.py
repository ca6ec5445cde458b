# SPDX-License-Identifier: Apache-2.0
"""Laws of the conversions, on arbitrary resources."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocirun.cgroups.resources import build_settings, weight_of_block_io, weight_of_shares
from ocirun.spec.resources import Resources

ALL_LEGACY = ("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")
I64 = st.integers(-(2**63), 2**63 - 1)
U64 = st.integers(0, 2**64 - 1)
DEVICE = {"major": st.integers(0, 4095), "minor": st.integers(0, 1 << 20)}


def optional(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any subset of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


WEIGHT = st.integers(10, 1000)
THROTTLES = st.lists(st.fixed_dictionaries(DEVICE | {"rate": U64}), max_size=3)
SOURCES = optional(
    {
        "cpu": optional(
            {
                "shares": U64,
                "quota": I64,
                "period": U64,
                "burst": U64,
                "realtimeRuntime": I64,
                "realtimePeriod": U64,
                "cpus": st.sampled_from(["", "0", "0-3"]),
                "mems": st.sampled_from(["", "0"]),
                "idle": st.integers(0, 1),
            }
        ),
        "memory": optional(
            {
                "limit": I64,
                "reservation": I64,
                "swap": I64,
                "kernel": I64,
                "kernelTCP": I64,
                "swappiness": st.integers(0, 100),
                "disableOOMKiller": st.booleans(),
                "useHierarchy": st.booleans(),
            }
        ),
        "pids": optional({"limit": I64}),
        "blockIO": optional(
            {
                "weight": WEIGHT,
                "leafWeight": WEIGHT,
                "weightDevice": st.lists(
                    st.fixed_dictionaries(
                        DEVICE, optional={"weight": WEIGHT, "leafWeight": WEIGHT}
                    ),
                    max_size=3,
                ),
                "throttleReadBpsDevice": THROTTLES,
                "throttleWriteBpsDevice": THROTTLES,
                "throttleReadIOPSDevice": THROTTLES,
                "throttleWriteIOPSDevice": THROTTLES,
            }
        ),
        "unified": st.dictionaries(st.text(max_size=12), st.text(max_size=8), max_size=3),
        "rdma": st.dictionaries(
            st.text(max_size=6), optional({"hcaHandles": U64, "hcaObjects": U64}), max_size=2
        ),
        "hugepageLimits": st.lists(
            st.fixed_dictionaries({"pageSize": st.text(max_size=6), "limit": U64}), max_size=2
        ),
    }
)


@given(st.integers(0, 2**64), st.integers(0, 2**64))
def test_more_shares_never_mean_less_weight(one: int, other: int) -> None:
    """The conversion of shares is monotonic and stays in range."""
    low, high = sorted((one, other))
    assert 1 <= weight_of_shares(low) <= weight_of_shares(high) <= 10000


@given(WEIGHT, WEIGHT)
def test_more_block_io_weight_never_means_less(one: int, other: int) -> None:
    """The conversion of block I/O weights is monotonic and stays in range."""
    low, high = sorted((one, other))
    assert 1 <= weight_of_block_io(low) <= weight_of_block_io(high) <= 10000


@given(SOURCES, st.booleans())
def test_every_write_is_a_file_of_this_cgroup(source: dict[str, Any], pure: bool) -> None:
    """Whatever the configuration, no write leaves the directory, and each names its place."""
    settings, problems = build_settings(
        Resources(source), legacy=() if pure else ALL_LEGACY, unified=pure
    )
    for setting in settings:
        for name in (setting.file, *(setting.fallback or ())[:1]):
            assert "/" not in name
            assert "\0" not in name
            assert name.startswith(setting.controller + ".")
            assert name not in ("cgroup.procs", "cgroup.threads", "cgroup.kill")
        assert "\n" not in setting.value
        assert setting.pointer.startswith("/linux/resources/")
    for problem in problems:
        assert problem.pointer.startswith("/linux/resources/")


@given(SOURCES)
def test_nothing_is_dropped_silently(source: dict[str, Any]) -> None:
    """Each field that asks for something is a write or a problem, in either version.

    Exempt: zeros that mean "not set", and fields whose value is what version 2 does anyway.
    """
    zero_is_unset = {
        "shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "weight", "leafWeight",
    }  # fmt: skip
    asked = set()
    for part in ("cpu", "memory", "pids"):
        for name, value in source.get(part, {}).items():
            if value == "" or (value == 0 and name in zero_is_unset):
                continue
            if (name, value) in (("disableOOMKiller", False), ("useHierarchy", True)):
                continue
            asked.add(f"/linux/resources/{part}/{name}")
    for legacy, unified in ((ALL_LEGACY, False), ((), True)):
        settings, problems = build_settings(Resources(source), legacy=legacy, unified=unified)
        answered = {each.pointer for each in settings} | {each.pointer for each in problems}
        missing = asked - answered
        # A period goes with its quota into one file.
        if "/linux/resources/cpu/quota" in answered:
            missing.discard("/linux/resources/cpu/period")
        assert not missing


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_swap_of_version_2_adds_up(limit: int, extra: int) -> None:
    """memory.max and memory.swap.max together are the sum that was asked for."""
    resources = Resources({"memory": {"limit": limit, "swap": limit + extra}})
    settings, problems = build_settings(resources, legacy=(), unified=True)
    assert problems == []
    assert sum(int(setting.value) for setting in settings) == limit + extra


@given(I64, U64, st.sampled_from(["max 100000", "25000 50000"]))
def test_quota_and_period_of_version_2(quota: int, period: int, now: str) -> None:
    """cpu.max has what is given and keeps what is not: zero is not given, a negative quota is none."""
    resources = Resources({"cpu": {"quota": quota, "period": period}})
    settings, problems = build_settings(resources, legacy=(), unified=True, now={"cpu.max": now})
    assert problems == []
    if not quota and not period:
        assert settings == []
        return
    [setting] = settings
    shown_quota, _, shown_period = setting.value.partition(" ")
    before = now.split(" ", maxsplit=1)[0]
    assert shown_quota == (before if not quota else "max" if quota < 0 else str(quota))
    assert shown_period == (str(period) if period else "")  # the kernel keeps its own


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 1 << 20), U64), max_size=3))
def test_throttles_are_the_same_in_both_versions(entries: list[tuple[int, int, int]]) -> None:
    """Each rate of each device, in order; only what means "none" is written otherwise: 0, and max."""
    devices = [{"major": major, "minor": minor, "rate": rate} for major, minor, rate in entries]
    resources = Resources({"blockIO": {"throttleWriteBpsDevice": devices}})
    legacy, _ = build_settings(resources, legacy=ALL_LEGACY, unified=False)
    unified, _ = build_settings(resources, legacy=(), unified=True)
    assert [setting.value for setting in legacy] == [f"{major}:{minor} {rate}" for major, minor, rate in entries]
    translated = [setting.value.replace("wbps=max", "0").replace("wbps=", "") for setting in unified]
    assert translated == [setting.value for setting in legacy]


@given(st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_pids_are_as_they_are(limit: int, pure: bool) -> None:
    """No number is bent: zero and up are limits, below is none."""
    settings, _ = build_settings(Resources({"pids": {"limit": limit}}), legacy=() if pure else ALL_LEGACY, unified=pure)
    assert [setting.value for setting in settings] == ["max" if limit < 0 else str(limit)]


@given(SOURCES, st.booleans(), st.text(max_size=8).filter(lambda text: "/linux" not in text))
def test_places_are_relative_to_the_document(source: dict[str, Any], pure: bool, pointer: str) -> None:
    """Whatever the document, what is written and what is wrong have the same place in it."""
    hosts = {"legacy": () if pure else ALL_LEGACY, "unified": pure}
    whole = build_settings(Resources(source), **hosts)
    part = build_settings(Resources(source), **hosts, pointer=pointer)
    for there, here in zip(whole, part, strict=True):
        assert [each.pointer.removeprefix("/linux/resources") for each in there] == [
            each.pointer.removeprefix(pointer) for each in here
        ]
