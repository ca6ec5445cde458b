# SPDX-License-Identifier: Apache-2.0
"""Limits of resources."""

from __future__ import annotations

import resource

import pytest
from harness.docker import Docker
from harness.engine import eventually

UNIFIED = "/sys/fs/cgroup"


def cgroup(docker: Docker, name: str, first: str, second: str) -> str:
    """Read a limit inside the container: *first* is the file of cgroup version 1, *second* that of version 2."""
    script = f"if [ -e {UNIFIED}/cgroup.controllers ]; then cat {UNIFIED}/{second}; else cat {UNIFIED}/{first}; fi"
    return docker("exec", name, "sh", "-c", script).ok().text


def up(docker: Docker, *options: str) -> str:
    docker.up("--name", "one", *options, "busybox", "/probe", "sleep")
    return "one"


@pytest.mark.core
def test_memory(docker: Docker) -> None:
    """--memory and --memory-reservation are the cgroup's, and who takes more is killed."""
    one = up(docker, "--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "64m")
    assert cgroup(docker, one, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroup(docker, one, "memory/memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert docker("run", "--rm", "--memory", "32m", "--memory-swap", "32m", "busybox", "/probe", "touch-memory", "128").rc == 137


def test_cpus(docker: Docker) -> None:
    """--cpus, --cpu-shares and --cpuset-cpus are the cgroup's."""
    one = up(docker, "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0")
    if cgroup(docker, one, "cpu/cpu.cfs_quota_us", "cpu.max") != "50000":
        assert cgroup(docker, one, "", "cpu.max") == "50000 100000"
    else:
        assert cgroup(docker, one, "cpu/cpu.cfs_period_us", "") == "100000"
        assert cgroup(docker, one, "cpu/cpu.shares", "") == "512"
    assert cgroup(docker, one, "cpuset/cpuset.cpus", "cpuset.cpus") == "0"
    assert docker("exec", one, "nproc").ok().text == "1"


def test_pids_limit(docker: Docker) -> None:
    """--pids-limit: no process more."""
    one = up(docker, "--pids-limit", "20")
    assert cgroup(docker, one, "pids/pids.max", "pids.max") == "20"
    made = docker("run", "--rm", "--pids-limit", "20", "busybox", "/probe", "fork", "50").ok().json["made"]
    assert 10 <= made < 20


def test_cgroup_parent(docker: Docker) -> None:
    """--cgroup-parent: the container's cgroup is below it, and shares its limits."""
    one = docker.up("--name", "one", "--cgroup-parent", "/made/for-it", "--memory", "64m", "busybox", "/probe", "sleep")
    with open(f"/proc/{docker.pid('one')}/cgroup") as lines:
        paths = [line.strip().split(":", 2)[2] for line in lines if ":memory:" in line or line.startswith("0:")]
    assert any(path.endswith(f"/made/for-it/{one}") for path in paths), paths
    docker("rm", "--force", "one").ok()
    import os

    for top, _, _ in os.walk("/sys/fs/cgroup", topdown=False):  # the parents are the user's to remove
        if "/made" in top:
            os.rmdir(top)


def test_update(docker: Docker) -> None:
    """update changes the limits of what runs."""
    one = up(docker, "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "50", "--cpus", "0.5")
    docker("update", "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "60", "--cpus", "0.25", one).ok()
    assert cgroup(docker, one, "memory/memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert cgroup(docker, one, "pids/pids.max", "pids.max") == "60"
    assert cgroup(docker, one, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
    docker("update", "--restart", "no", one).ok()


def test_oom_killed(docker: Docker) -> None:
    """docker knows that the kernel killed for want of memory."""
    docker.up("--name", "one", "--memory", "32m", "--memory-swap", "32m", "busybox", "/probe", "touch-memory", "128")
    assert docker("wait", "one").ok().text == "137"
    eventually(lambda: docker.look("one", "{{.State.OOMKilled}}") == "true", "the event has not come")


def test_oom_score_adj(docker: Docker) -> None:
    """--oom-score-adj is that of the process."""
    assert docker.probe("--oom-score-adj", "500")["oom_score_adj"].strip() == "500"
    assert docker.probe("--oom-score-adj", "0")["oom_score_adj"].strip() == "0"


def test_oom_kill_disable(docker: Docker) -> None:
    """--oom-kill-disable: accepted where the kernel can, said to be discarded where not."""
    done = docker("run", "--rm", "--memory", "64m", "--oom-kill-disable", "busybox", "cat", "/sys/fs/cgroup/memory/memory.oom_control").ok()
    assert "oom_kill_disable 1" in done.out or "discarded" in done.err, done


def test_ulimit(docker: Docker) -> None:
    """--ulimit: soft and hard, for the container and for exec."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    one = up(docker, "--ulimit", "nofile=100:200", "--ulimit", "core=0")
    for limits in (docker("exec", one, "/probe", "report").ok().json["rlimits"], docker.probe("--ulimit", "nofile=100:200", "--ulimit", "core=0")["rlimits"]):
        assert limits["RLIMIT_NOFILE"] == [100, 200] and limits["RLIMIT_CORE"] == [0, 0]
    assert docker.probe("--ulimit", f"nofile={hard}")["rlimits"]["RLIMIT_NOFILE"] == [hard, hard]


def test_blkio(docker: Docker) -> None:
    """--device-write-bps is the cgroup's."""
    docker.up("--name", "one", "--device-write-bps", "/dev/vda:1mb", "busybox", "/probe", "sleep")
    assert cgroup(docker, "one", "blkio/blkio.throttle.write_bps_device", "io.max").split()[1].endswith("1048576")
