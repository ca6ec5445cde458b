# SPDX-License-Identifier: Apache-2.0
"""Limits, cgroups, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import cgroups
from harness.containerd import IMAGE, Ctr
from harness.engine import eventually


@pytest.mark.core
def test_memory_cpu(ctr: Ctr) -> None:
    """Limits of memory and cpu are in the container's cgroup."""
    words = ("--memory-limit", str(64 << 20), "--cpu-quota", "40000", "--cpu-period", "80000", "--cpu-shares", "512")
    ctr.start(*words, IMAGE, "limited", "sleep", "1000")
    limits = cgroups.of(ctr.pid("limited"))
    assert limits.memory == 64 << 20
    assert limits.cpu == (40000, 80000)
    assert limits.shares == 512
    ctr.start("--cpus", "1.5", IMAGE, "cpus", "sleep", "1000")
    quota, period = cgroups.of(ctr.pid("cpus")).cpu
    assert quota / period == 1.5


def test_oom_event(ctr: Ctr) -> None:
    """What takes more memory than it may is killed, and containerd tells who listens."""
    with ctr.session("events") as events:
        ctr.start("--memory-limit", str(16 << 20), IMAGE, "greedy", "sh", "-c", "x=$(yes | head -c 60000000); sleep 1000")
        assert '"container_id":"greedy"' in events.expect("/tasks/oom") + events.expect("\n")


def test_cgroup_path(ctr: Ctr) -> None:
    """The cgroup is the one that was named; an empty name means none of its own."""
    ctr.start("--cgroup", "/tests/named", IMAGE, "named", "sleep", "1000")
    paths = cgroups.paths(ctr.pid("named"))
    assert paths
    assert {path for path in paths if path.endswith("/tests/named")} == paths
    assert cgroups.exists("tests/named")
    ctr("task", "rm", "--force", "named")
    assert not cgroups.exists("tests/named")
    cgroups.remove("tests")


def test_cgroup_default(ctr: Ctr) -> None:
    """Unasked, the cgroup is named after namespace and container."""
    ctr.start(IMAGE, "unasked", "sleep", "1000")
    assert all(path.endswith("/default/unasked") for path in cgroups.paths(ctr.pid("unasked")))


def test_ps_metrics(ctr: Ctr) -> None:
    """The processes and what they take are told, by their numbers on the host."""
    ctr.start("--memory-limit", str(64 << 20), IMAGE, "told", "sh", "-c", "sleep 1000 & wait")
    eventually(lambda: len(ctr("task", "ps", "told").ok().lines) == 3)
    pids = {int(line.split()[0]) for line in ctr("task", "ps", "told").ok().lines[1:]}
    assert ctr.pid("told") in pids
    assert {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids} == {"sh", "sleep"}
    shown = ctr("task", "metrics", "told").ok().out
    assert "told" in shown
    assert "memory" in shown
    assert ctr("task", "metrics", "--format", "json", "told").ok().json


def test_device(ctr: Ctr) -> None:
    """A device is there and may be used; others may not be made."""
    done = ctr.run("--rm", "--device", "/dev/fuse", IMAGE, "device", "sh", "-c", "stat -c %t:%T /dev/fuse; : <>/dev/fuse; echo $?").ok()
    assert done.text.split() == ["a:e5", "0"]
    script = "ls /dev/fuse; mknod /dev/made c 10 229 && ( : <>/dev/made ); echo $?; head -c 4 /dev/zero | wc -c; echo x >/dev/null; echo $?"
    done = ctr.run("--rm", IMAGE, "devices", "sh", "-c", script).ok()
    assert done.lines == ["1", "4", "0"]
    assert "no such file" in done.err.lower()
    assert "not permitted" in done.err.lower()
