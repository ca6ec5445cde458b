# SPDX-License-Identifier: Apache-2.0
"""org.systemd.property annotations."""

from __future__ import annotations

from typing import Any

import pytest

from ocirun.cgroups.unit_annotations import annotation_properties


def read(name: str, text: str) -> Any:
    found, problems = annotation_properties({f"org.systemd.property.{name}": text})
    assert problems == [], [str(each) for each in problems]
    return found[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)),
        (" false ", ("b", False)),
        ("boolean true", ("b", True)),
        ("7", ("i", 7)),
        ("-7", ("i", -7)),
        ("+0x1F", ("i", 31)),
        ("017", ("i", 15)),
        ("uint64 7", ("t", 7)),
        ("uint64 18446744073709551615", ("t", 2**64 - 1)),
        ("@t 7", ("t", 7)),
        ("int64 -7", ("x", -7)),
        ("uint32 4294967295", ("u", 2**32 - 1)),
        ("byte 255", ("y", 255)),
        ("'a b'", ("s", "a b")),
        ('"it\'s"', ("s", "it's")),
        (r"'\'\\\n\u00e9\U0001f600'", ("s", "'\\\n\u00e9\U0001f600")),
        ("string 'x'", ("s", "x")),
        ("['a', \"b\"]", ("as", ["a", "b"])),
        ("@as []", ("as", [])),
        ("[]", ("as", [])),
    ],
)
def test_values(text: str, value: tuple[str, object]) -> None:
    """GVariant text of the types that properties have."""
    assert read("SomeThing", text) == ("SomeThing", value)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("90", 90_000_000), ("uint64 5", 5_000_000), ("1.5", 1_500_000), ("double 0.000001", 1), ("0", 0)],
)
def test_seconds(text: str, microseconds: int) -> None:
    """A name in seconds becomes the property in microseconds."""
    assert read("TimeoutStopSec", text) == ("TimeoutStopUSec", ("t", microseconds))
    assert read("TimeoutStopUSec", "uint64 5") == ("TimeoutStopUSec", ("t", 5))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ab", "1"), ("a.b.c", "1"), ("Abc1", "1"), ("", "1"), ("Délai", "1"),
        ("Slice", "'a.slice'"), ("PIDs", "[1]"), ("Delegate", "false"), ("Description", "'x'"),
        ("Some", ""), ("Some", "word"), ("Some", "1 2"), ("Some", "'a"), ("Some", "'a' b"), ("Some", "[1]"),
        ("Some", "['a' 'b']"), ("Some", "['a',"), ("Some", "2147483648"), ("Some", "uint64 -1"), ("Some", "byte 256"),
        ("Some", "1.5"), ("Some", "double 1.5"), ("Some", "<1>"), ("Some", "{}"), ("Some", "()"), ("Some", "@o '/'"),
        ("Some", "uint64"), ("Some", "boolean 1"), ("Some", "string 1"), ("Some", "0x"), ("Some", "08"), ("Some", "--1"),
        ("Some", r"'\u12'"), ("Some", r"'\ud800'"), ("Some", "'a\0'"), ("Some", "\u0661"), ("Some", "1" * 5000),
        ("StopSec", "-1"), ("StopSec", "1.5.2"), ("StopSec", "'1'"), ("StopSec", "99999999999999"), ("StopSec", "inf"),
    ],
)  # fmt: skip
def test_what_is_no_property(name: str, text: str) -> None:
    """Refused at the annotation."""
    found, problems = annotation_properties({f"org.systemd.property.{name}": text})
    assert found == []
    assert [problem.pointer for problem in problems] == [f"/annotations/org.systemd.property.{name}"]


def test_other_annotations_are_left_alone() -> None:
    """All that is wrong is told at once; what is none of ours is not looked at."""
    found, problems = annotation_properties(
        {"a": "(", "org.systemd.property.Abc": "(", "x.org.systemd.property.Abc": "(", "org.systemd.property.x": "1"}
    )
    assert found == []
    assert len(problems) == 2
