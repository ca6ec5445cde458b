# SPDX-License-Identifier: Apache-2.0
"""Status is computed, from a record and the kernel (design D7)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocirun import procfs, status
from ocirun.spec.state import State, hook_state, state_around_pid
from ocirun.store import START_SOCKET, Entry, Store
from ocirun.strict_json import loads


def start_time(pid: int) -> int:
    found = procfs.process_stat(pid)
    assert found is not None
    return found[1]


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[Entry]:
    made = Store(str(tmp_path)).create("c1")
    yield made
    made.close()


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A record whose init is this process."""
    executable = os.stat("/proc/self/exe")
    return {
        "bootId": procfs.boot_id(),
        "creator": {"pid": os.getpid(), "startTime": start_time(os.getpid())},
        "init": {
            "pid": os.getpid(),
            "startTime": start_time(os.getpid()),
            "executable": [executable.st_dev, executable.st_ino],
        },
        "frozenFiles": [[str(tmp_path / "missing"), "FROZEN"], [str(tmp_path / "cgroup.freeze"), "1"]],
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00.000000000Z",
        "owner": "root",
        "annotations": {"k": "v"},
    }


def test_creating(entry: Entry, record: dict[str, Any]) -> None:
    """Without an identity of init, the container lives as long as whoever is creating it."""
    record["init"] = None
    assert status.compute(entry, record) == ("creating", 0)
    record["creator"]["startTime"] += 1
    assert status.compute(entry, record) == ("stopped", 0)


def test_created(entry: Entry, record: dict[str, Any]) -> None:
    """The start socket is there and ocirun-init still runs."""
    Path(entry.path, START_SOCKET).touch()
    assert status.compute(entry, record) == ("created", os.getpid())


def test_running_by_its_program(entry: Entry, record: dict[str, Any]) -> None:
    """R-01: a `start` that was killed after execve, before it took the socket away: running all the same."""
    Path(entry.path, START_SOCKET).touch()
    record["init"]["executable"][1] += 1
    assert status.compute(entry, record) == ("running", os.getpid())


def test_running_by_its_socket(entry: Entry, record: dict[str, Any]) -> None:
    """The socket is gone: started."""
    assert status.compute(entry, record) == ("running", os.getpid())


@pytest.mark.parametrize(("content", "paused"), [("1\n", True), ("0\n", False), ("", False)])
def test_paused(entry: Entry, record: dict[str, Any], tmp_path: Path, content: str, paused: bool) -> None:
    """The freezer of any hierarchy says so; files that are missing say nothing."""
    (tmp_path / "cgroup.freeze").write_text(content)
    assert status.compute(entry, record)[0] == ("paused" if paused else "running")


def test_stopped(entry: Entry, record: dict[str, Any]) -> None:
    """R-12, R-18: another start time is another process, another boot says that none of it is."""
    record["init"]["startTime"] -= 1
    assert status.compute(entry, record) == ("stopped", 0)
    record["init"]["startTime"] += 1
    record["bootId"] = "00000000-0000-0000-0000-000000000000"
    assert status.compute(entry, record) == ("stopped", 0)
    record["init"] = None
    assert status.compute(entry, record) == ("stopped", 0)


def test_stopped_as_a_zombie(entry: Entry, record: dict[str, Any]) -> None:
    """R-13: init has ended and nobody has reaped it."""
    child = subprocess.Popen(["/bin/true"])
    record["init"].update(pid=child.pid, startTime=start_time(child.pid))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    Path(entry.path, START_SOCKET).touch()
    assert status.compute(entry, record) == ("stopped", 0)
    child.wait()
    assert status.compute(entry, record) == ("stopped", 0)


def test_document(entry: Entry, record: dict[str, Any]) -> None:
    """The document holds what the record says, and the computed status and pid."""
    document = status.state_of(entry, record).to_json()
    assert document == {
        "ociVersion": "1.3.0",
        "id": "c1",
        "pid": os.getpid(),
        "status": "running",
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00.000000000Z",
        "annotations": {"k": "v"},
        "owner": "root",
    }
    assert list(document)[:4] == ["ociVersion", "id", "pid", "status"]


def test_document_without_annotations() -> None:
    """No annotations, no member; an error only where there is one."""
    assert "annotations" not in State("c1", "stopped").to_json()
    assert "error" not in State("c1", "stopped").to_json()
    assert State("c1", "unknown", error="x").to_json()["error"] == "x"


@pytest.mark.parametrize("annotations", [{}, {"a": 'quote " \\ and\nline', "b": "ü"}])
def test_hooks_read_json(annotations: dict[str, str]) -> None:
    """What a hook reads is JSON whatever the strings are, with the pid where init puts it."""
    document = loads(hook_state("c1", "creating", 42, '/b"\n', annotations))
    expected: dict[str, object] = {"ociVersion": "1.3.0", "id": "c1", "status": "creating", "pid": 42, "bundle": '/b"\n'}
    if annotations:
        expected["annotations"] = annotations
    assert document == expected
    before, after = state_around_pid("c1", "creating", '/b"\n', annotations)
    assert loads((before + "7" + after).encode()) == {**expected, "pid": 7}
    assert before.endswith('"pid":')
