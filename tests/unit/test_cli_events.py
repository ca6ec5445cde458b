# SPDX-License-Identifier: Apache-2.0
"""The pure halves of the commands events and ps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cli.events import parse_duration
from ocirun.cli.parser import Invocation, UsageError, parse
from ocirun.cli.processes import select_lines
from ocirun.errors import OcirunError

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("100ms", 0.1), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("1.s", 1), ("0", 0), ("-1s", -1), ("+2s", 2),
     ("0s", 0), ("-0", 0), ("00010s", 10)],
)  # fmt: skip
def test_durations_as_go_writes_them(text: str, seconds: float) -> None:
    """What time.ParseDuration takes."""
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(UNITS))), min_size=1))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    """Units may be combined at will."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert math.isclose(parse_duration(text), math.fsum(number * UNITS[unit] for number, unit in parts), rel_tol=1e-9)


@pytest.mark.parametrize(
    "text", ["5", "s", "5x", "5 s", " 5s", "1e3s", "1..5s", ".s", "-", "+", "--5s", "5s0", "\u0665s", "inf", "nan", "5S", "1s2"]
)
def test_what_is_no_duration(text: str) -> None:
    """A number needs a unit, as it does for runc."""
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)


PS = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 10:00 ?        00:00:01 /sbin/init 12
root          12       1  0 10:00 ?        00:00:00 sleep 1
systemd-very-long  123 1  0 10:00 ?        00:00:00 sleep 12
"""


@given(st.sets(st.sampled_from([1, 12, 123])))
def test_lines_of_the_container(pids: set[int]) -> None:
    """The heading, and the lines whose PID it is; numbers elsewhere do not count."""
    heading, *lines = PS.splitlines()
    expected = [heading, *(line for line in lines if int(line.split()[1]) in pids)]
    assert select_lines(PS, pids).splitlines() == expected


@pytest.mark.parametrize("text", ["", "COMMAND\nsh\n", "COMMAND     PID\nmy program 12\n", "UID PID\nroot\n"])
def test_lines_without_a_pid(text: str) -> None:
    """What cannot be assigned is an error, and nothing is left out silently."""
    with pytest.raises(OcirunError, match=r"PID|pid"):
        select_lines(text, {12})


@pytest.mark.parametrize(
    ("words", "arguments", "form"),
    [
        (["ps", "c1"], ["c1"], None),
        (["ps", "-f", "json", "c1"], ["c1"], "json"),
        (["ps", "--format=table", "c1", "-o", "pid,args"], ["c1", "-o", "pid,args"], "table"),
        (["ps", "c1", "-ef", "--format", "json"], ["c1", "-ef", "--format", "json"], None),
        (["ps", "c1", "--help"], ["c1", "--help"], None),
        (["ps", "--", "c1", "aux"], ["c1", "aux"], None),
    ],
)
def test_words_behind_the_id_belong_to_ps(words: list[str], arguments: list[str], form: str | None) -> None:
    """runc stops at the ID as well: ps(1) has options of the same names."""
    invocation = Invocation()
    parse(words, invocation)
    assert invocation.arguments == arguments
    assert invocation.value("format") == form
    assert not invocation.asks


def test_ps_needs_an_id() -> None:
    """Without one it is the usual error."""
    with pytest.raises(UsageError, match="ID is missing"):
        parse(["ps", "-f", "json"], Invocation())
