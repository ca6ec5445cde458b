# SPDX-License-Identifier: Apache-2.0
"""Lists of CPUs and memory nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.spec.ranges import LAST_CPU, parse_ranges


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 100)), min_size=1, max_size=6))
def test_ranges(pairs: list[tuple[int, int]]) -> None:
    """cpuset(7) lists: single numbers and ranges, in any order, with blanks."""
    ranges = [(first, first + more) for first, more in pairs]
    text = ",".join(str(first) if first == last else f" {first}-{last}" for first, last in ranges)
    assert parse_ranges(text, LAST_CPU) == ranges


@pytest.mark.parametrize(
    "text",
    ["", ",", "0,", ",0", "0,,1", "-", "1-", "-1", "3-1", "0-1-2", "a", "0x1", "٣", "1e3", "8192", "0-8192", "9" * 400],
)
def test_what_is_no_list(text: str) -> None:
    """Anything else, and a number that no kernel has, which would only cost memory."""
    with pytest.raises(ValueError, match=r"list|range|kernel"):
        parse_ranges(text, LAST_CPU)


@given(st.text(alphabet="0123456789,- x\n", max_size=12))
def test_any_text(text: str) -> None:
    """Nothing but ValueError, and what is understood is in order and in bounds."""
    try:
        ranges = parse_ranges(text, 100)
    except ValueError:
        return
    assert ranges
    assert all(0 <= first <= last <= 100 for first, last in ranges)
