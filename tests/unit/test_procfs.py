# SPDX-License-Identifier: Apache-2.0
"""Processes as /proc shows them: the identity that outlives the reuse of pids (V-20)."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun import procfs

# The kernel shows a name's bytes as they are, but for NUL and, since 5.x, line ends and backslashes, which it escapes.
NAMES = st.binary(max_size=64).map(lambda name: name.replace(b"\0", b""))
NUMBER = st.integers(-(2**63), 2**64 - 1)


@given(NAMES, st.sampled_from("RSDZTtXIP"), st.integers(0, 2**64 - 1), st.lists(NUMBER, min_size=30, max_size=30))
def test_any_name(name: bytes, state: str, start: int, others: list[int]) -> None:
    """Whatever the process calls itself, ") Z 1" too, state and start time are those of the kernel."""
    numbers = [str(each).encode() for each in others]
    numbers.insert(18, str(start).encode())
    content = b"42 (%s) %s %s\n" % (name, state.encode(), b" ".join(numbers))
    assert procfs.parse_stat(content) == (state, start)


def test_hostile_name() -> None:
    """A name that looks like the end of the field does not move the fields behind it."""
    with open("/proc/self/stat", "rb") as file:
        content = file.read()
    end = content.rindex(b")")
    hostile = re.sub(rb"\(.*\)", lambda _: b"() Z 1 1 1 1)", content[: end + 1]) + content[end + 1 :]
    assert procfs.parse_stat(hostile) == procfs.parse_stat(content)


def test_this_process_is_alive() -> None:
    """A running process is known by pid and start time together."""
    found = procfs.process_stat(os.getpid())
    assert found is not None
    state, start = found
    assert state in "RS"
    assert procfs.is_alive(os.getpid(), start)
    assert not procfs.is_alive(os.getpid(), start + 1)
    assert not procfs.is_alive(os.getpid(), start - 1)


def test_a_zombie_is_not_alive() -> None:
    """R-13: a process that has ended is gone, whether or not its parent has noticed."""
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = procfs.process_stat(child.pid)
    assert found is not None
    assert found[0] == "Z"
    assert not procfs.is_alive(child.pid, found[1])
    child.wait()
    assert procfs.process_stat(child.pid) is None
    assert not procfs.is_alive(child.pid, found[1])


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**31 - 1])
def test_no_such_process(pid: int) -> None:
    """A number that no process has is nobody's."""
    assert procfs.process_stat(pid) is None


def test_boot_id() -> None:
    """The boot has a random name of the usual shape, without a line end."""
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", procfs.boot_id())
    assert procfs.boot_id() == procfs.boot_id()
