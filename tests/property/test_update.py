# SPDX-License-Identifier: Apache-2.0
"""An update arrives whole or not at all, against a model of the files and of what the kernel holds them to."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocirun.cgroups import limits, update
from ocirun.cgroups.devices import legacy_changes
from ocirun.cgroups.settings import Setting
from ocirun.errors import CgroupError, InvalidConfig
from ocirun.spec.resources import Resources

MIB = 1 << 20
NO_LIMIT = 9223372036854771712
NOTHING = "rbps=max wbps=max riops=max wiops=max"
SEVEN = f"8:0 {NOTHING.replace('rbps=max', 'rbps=7')}"
#: What the parent has: a child must not have more of a period.
PARENT = (50_000, 100_000)


class Cgroup:
    """The files of one cgroup in version 1 or 2; a write that the kernel would refuse raises its error."""

    def __init__(self, unified: bool, files: dict[str, str]) -> None:
        self.unified = unified
        self.files = files
        self.fails_after: int | None = None  # so many writes, once
        self.states: list[dict[str, str]] = []

    # what limits.py asks for

    def legacy_controllers(self) -> tuple[str, ...]:
        return () if self.unified else ("cpu", "memory", "pids", "blkio")

    def has_unified(self) -> bool:
        return self.unified

    def directory_of(self, _controller: str) -> int:
        return 7

    def enable(self, _controller: str) -> bool:
        return False

    # the kernel

    def read(self, file: str, _directory: int) -> str:
        if file not in self.files:
            raise FileNotFoundError(errno.ENOENT, file)
        return self.files[file]

    def write(self, file: str, value: str, _directory: int) -> None:
        if file not in self.files:
            raise FileNotFoundError(errno.ENOENT, file)
        if len(self.states) == self.fails_after:
            self.fails_after = None
            raise OSError(errno.EIO, file)
        if file in ("cpu.shares", "cpu.weight") and self.files["cpu.idle"] == "1":
            raise OSError(errno.EINVAL, file)
        files = self.after(file, value)
        if not is_legal(files):
            raise OSError(errno.EINVAL, file)
        self.files = files
        self.states.append(files)

    def after(self, file: str, value: str) -> dict[str, str]:
        """Return the files after a write; an idle group has no weight of its own, and forgets the one that it had."""
        files = self.files | {file: self._as_shown(file, value)}
        if file == "cpu.idle" and value != self.files[file]:
            weight, default, none = ("cpu.weight", "100", "0") if self.unified else ("cpu.shares", "1024", "3")
            files[weight] = default if value == "0" else none
        return files

    def _as_shown(self, file: str, value: str) -> str:
        if file == "cpu.max":
            quota, _, period = value.partition(" ")
            return f"{quota} {period or self.files[file].split()[1]}"
        if file.endswith("limit_in_bytes") and value == "-1":
            return str(NO_LIMIT)
        if file in ("io.max", "blkio.throttle.read_bps_device"):
            return self._with_device(file, *value.split(" ", 1))
        return value.strip()

    def _with_device(self, file: str, device: str, words: str) -> str:
        table = dict(line.split(" ", 1) for line in self.files[file].splitlines())
        if file == "io.max":
            limits_of = dict(word.split("=") for word in (table.get(device, NOTHING) + " " + words).split())
            words = " ".join(f"{key}={rate}" for key, rate in limits_of.items())
        table[device] = words
        return "\n".join(f"{key} {text}" for key, text in sorted(table.items()) if text not in ("0", NOTHING))


def is_legal(files: dict[str, str]) -> bool:
    """Tell whether the kernel would have these files beside each other."""
    if "cpu.max" in files:
        quota_text, period_text = files["cpu.max"].split()
        burst = int(files["cpu.max.burst"])
    else:
        quota_text, period_text = files["cpu.cfs_quota_us"], files["cpu.cfs_period_us"]
        burst = int(files["cpu.cfs_burst_us"])
        if int(files["memory.limit_in_bytes"]) > int(files["memory.memsw.limit_in_bytes"]):
            return False
    if quota_text in ("max", "-1"):
        return True
    quota, period = int(quota_text), int(period_text)
    return quota * PARENT[1] <= PARENT[0] * period and burst <= quota


@contextmanager
def kernel(cgroup: Cgroup) -> Iterator[None]:
    """Have the files of the model in the place of those of the machine."""
    with (
        mock.patch.object(limits, "write_file", cgroup.write),
        mock.patch.object(limits, "read_file", cgroup.read),
        mock.patch.object(update, "read_file", cgroup.read),
    ):
        yield


PERIODS = st.sampled_from([10_000, 50_000, 100_000, 500_000])
QUOTAS = st.sampled_from([-1, 5_000, 25_000, 50_000, 100_000])
BURSTS = st.sampled_from([0, 2_500, 5_000, 25_000, 50_000])
SIZES = st.sampled_from([8 * MIB, 16 * MIB, 64 * MIB, -1])
DEVICES = st.lists(
    st.fixed_dictionaries({"major": st.just(8), "minor": st.sampled_from([0, 16]), "rate": st.sampled_from([0, 5, 9])}),
    max_size=2,
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


UPDATES = optional(
    cpu=optional(
        quota=QUOTAS, period=PERIODS, burst=BURSTS, idle=st.integers(0, 1), shares=st.sampled_from([2, 1024, 2048])
    ),
    memory=optional(limit=SIZES, swap=SIZES, reservation=SIZES),
    pids=optional(limit=st.sampled_from([-1, 0, 5])),
    blockIO=optional(throttleReadBpsDevice=DEVICES),
)


@st.composite
def cgroups(draw: st.DrawFn) -> Cgroup:
    """A cgroup in any state that the kernel allows."""
    unified = draw(st.booleans())
    quota, period, burst = draw(QUOTAS), draw(PERIODS), draw(BURSTS)
    idle = draw(st.integers(0, 1))
    common = {"cpu.idle": str(idle), "pids.max": draw(st.sampled_from(["max", "7"]))}
    if unified:
        limit, swap = draw(SIZES), draw(SIZES)
        files = common | {
            "cpu.max": f"{'max' if quota < 0 else quota} {period}",
            "cpu.max.burst": str(burst),
            "cpu.weight": draw(st.sampled_from(["100", "59"])),
            "memory.max": "max" if limit < 0 else str(limit),
            "memory.swap.max": "max" if swap < 0 else str(swap),
            "memory.low": "0",
            "io.max": draw(st.sampled_from(["", SEVEN, f"{SEVEN}\n8:16 {NOTHING.replace('rbps=max', 'rbps=8')}"])),
        }
    else:
        limit, swap = sorted(NO_LIMIT if size < 0 else size for size in (draw(SIZES), draw(SIZES)))
        files = common | {
            "cpu.cfs_quota_us": str(quota),
            "cpu.cfs_period_us": str(period),
            "cpu.cfs_burst_us": str(burst),
            "cpu.shares": draw(st.sampled_from(["1024", "512"])),
            "memory.limit_in_bytes": str(limit),
            "memory.memsw.limit_in_bytes": str(swap),
            "memory.soft_limit_in_bytes": str(NO_LIMIT),
            "blkio.throttle.read_bps_device": draw(st.sampled_from(["", "8:0 7", "8:0 7\n8:16 8"])),
        }
    if not is_legal(files):
        key, value = ("cpu.max.burst", "0") if unified else ("cpu.cfs_burst_us", "0")
        files[key] = value
    if not is_legal(files):
        key, value = ("cpu.max", f"max {period}") if unified else ("cpu.cfs_quota_us", "-1")
        files[key] = value
    assert is_legal(files)
    weight = "cpu.weight" if unified else "cpu.shares"
    if idle:
        files[weight] = "0" if unified else "3"
    return Cgroup(unified, files)


def wanted(cgroup: Cgroup, resources: Resources) -> tuple[list[Setting], dict[str, str]]:
    """Return the writes, and the files as they should be afterwards whatever the order."""
    with kernel(cgroup):
        settings = limits.limits_of(cgroup, resources, now=limits.limits_now(cgroup), pointer="")
    after = Cgroup(cgroup.unified, dict(cgroup.files))
    if any((setting.file, setting.value) == ("cpu.idle", "1") for setting in settings):
        # An idle group has none.
        settings = [setting for setting in settings if setting.file not in ("cpu.weight", "cpu.shares")]
    for setting in settings:
        after.files = after.after(setting.file, setting.value)
    return settings, after.files


@given(cgroups(), UPDATES)
def test_what_can_be_is_reached_whatever_the_order(cgroup: Cgroup, source: dict[str, Any]) -> None:
    """If the kernel would have the limits, from any state it is led to them; if not, nothing changes."""
    resources, before = Resources(source), dict(cgroup.files)
    try:
        settings, after = wanted(cgroup, resources)
    except InvalidConfig:
        return
    shares = any(setting.file in ("cpu.shares", "cpu.weight") for setting in settings)
    was_idle = before["cpu.idle"] == "1"
    # An idle group has no weight: it must stop being idle before, or become idle after.
    can_be = is_legal(after) and not (shares and was_idle and "idle" not in source["cpu"])
    with kernel(cgroup):
        if can_be:
            update.update_limits(cgroup, resources, False)
            assert cgroup.files == after
        else:
            with pytest.raises(CgroupError, match="the limits are as before"):
                update.update_limits(cgroup, resources, False)
            assert cgroup.files == before
    assert all(is_legal(state) for state in cgroup.states)


@hypothesis_settings(max_examples=500)
@given(cgroups(), UPDATES, st.data())
def test_a_failure_at_any_write_leaves_everything(
    cgroup: Cgroup, source: dict[str, Any], data: st.DataObject
) -> None:
    """Whichever write fails, all files that were written before are given back what they held."""
    resources, before = Resources(source), dict(cgroup.files)
    try:
        settings, _ = wanted(cgroup, resources)
    except InvalidConfig:
        return
    if not settings:
        return
    cgroup.fails_after = data.draw(st.integers(0, len(settings) - 1))
    with kernel(cgroup), pytest.raises(CgroupError, match="the limits are as before"):
        update.update_limits(cgroup, resources, False)
    assert cgroup.files == before


# ---- device lists --------------------------------------------------------------------------------

LISTS = st.dictionaries(
    st.sampled_from(["c 1:3", "c 1:*", "c *:*", "b 8:0"]),
    st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters))),
)


@given(LISTS, LISTS)
def test_device_list_changes_without_a_gap(before: dict[str, str], after: dict[str, str]) -> None:
    """The kernel's list becomes the wanted one, and at no moment lacks what both have."""
    lines = [("devices.deny", "a"), *[("devices.allow", f"{place} {letters}") for place, letters in after.items()]]
    listed = "\n".join(f"{place} {letters}" for place, letters in before.items())
    table = {place: set(letters) for place, letters in before.items()}
    for file, line in legacy_changes(lines, listed):
        place, _, letters = line.rpartition(" ")
        if file == "devices.allow":
            table[place] = table.get(place, set()) | set(letters)
        else:
            table[place] -= set(letters)
        for both in before.keys() & after.keys():
            assert table[both] >= set(before[both]) & set(after[both])
    assert {place: letters for place, letters in table.items() if letters} == {
        place: set(letters) for place, letters in after.items()
    }
