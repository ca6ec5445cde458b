# SPDX-License-Identifier: Apache-2.0
"""One definition of the wire: what Python repeats of abi.h is what abi.h says."""

from __future__ import annotations

import re
from pathlib import Path

from ocirun._native import ffi, lib, site_name
from ocirun.plan import ops

NATIVE = Path(__file__).resolve().parents[2] / "ocirun" / "_native"


def test_sizes() -> None:
    """The structs have the sizes that the C pins."""
    assert ffi.sizeof("struct ocirun_header") == 32
    assert ffi.sizeof("struct ocirun_op") == 80
    assert ffi.sizeof("struct ocirun_message") == 32


def test_flags() -> None:
    """Every flag of abi.h has its twin in plan/ops.py, with the same value."""
    text = (NATIVE / "abi.h").read_text(encoding="utf-8")
    flags = {name: int(value) for name, value in re.findall(r"#define OCIRUN_FLAG_(\w+) (\d+)", text)}
    assert flags
    for name, value in flags.items():
        assert getattr(ops, name) == value, name


def test_barriers() -> None:
    """The barriers are the same numbers on both sides."""
    for name, value in vars(ops).items():
        if name.startswith("BARRIER_"):
            assert getattr(lib, f"OCIRUN_{name}") == value


def test_sites_have_names() -> None:
    """Every call site has a name for messages."""
    names = {site_name(number) for number in range(1, lib.OCIRUN_SITE_COUNT)}
    assert len(names) == lib.OCIRUN_SITE_COUNT - 1
    assert {"openat2", "move_mount", "execve"} <= names
