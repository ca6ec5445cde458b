# SPDX-License-Identifier: Apache-2.0
"""Laws of what systemd is told: what it makes of it is never tighter than asked, and hardly looser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ocirun.cgroups.settings import Setting
from ocirun.cgroups.unit_annotations import annotation_properties
from ocirun.cgroups.unit_properties import cpu_mask, limit_properties, quota_per_second


@given(st.integers(1000, 10**9), st.integers(1000, 1_000_000))
def test_quota(quota: int, period: int) -> None:
    """Through systemd's whole percentages the quota is what was asked for, or up to one percent of a CPU more."""
    per_second = quota_per_second(quota, period)
    kept = per_second // 10_000 * 10_000  # what the unit's file says after a daemon-reload
    assert kept == per_second
    assert quota * 1_000_000 <= kept * period
    assert (kept - 10_000) * period < quota * 1_000_000


@given(st.sets(st.integers(0, 500), min_size=1))
def test_mask(numbers: set[int]) -> None:
    """Bit N is CPU N, whatever way the list is written."""
    expected = sum(1 << number for number in numbers)
    for text in (",".join(map(str, numbers)), ",".join(f"{number}-{number}" for number in sorted(numbers))):
        mask = cpu_mask(text)
        assert mask is not None
        assert int.from_bytes(mask, "little") == expected


@given(st.lists(st.tuples(st.sampled_from(("memory.max", "memory.low", "pids.max", "cpu.weight", "cpu.max", "cpu.idle",
                                           "cpuset.cpus", "io.weight", "io.bfq.weight", "cpu.shares", "cpu.cfs_quota_us",
                                           "cpu.cfs_period_us", "memory.swap.max")), st.text(max_size=12))))  # fmt: skip
def test_any_text(writes: list[tuple[str, str]]) -> None:
    """No text of `unified` is an error here, and no number leaves D-Bus's range."""
    settings = [Setting(file.split(".")[0], file, value, "/x") for file, value in writes]
    for (_, (signature, value)), pointer in limit_properties(settings, version=255, has_bfq=True).values():
        assert pointer.endswith("/x")
        assert isinstance(value, bytes) if signature == "ay" else 0 <= value < 1 << 64


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_annotation(name: str, text: str) -> None:
    """Either a property or a problem."""
    found, problems = annotation_properties({f"org.systemd.property.{name}": text})
    assert len(found) + len(problems) == 1


@given(st.text().filter(lambda text: "\0" not in text))
def test_strings(text: str) -> None:
    """What is quoted comes back."""
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert annotation_properties({"org.systemd.property.Abc": quoted})[0] == [("Abc", ("s", text))]
