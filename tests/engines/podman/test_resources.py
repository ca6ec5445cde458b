# SPDX-License-Identifier: Apache-2.0
"""Resources: limits and what is seen of their use."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.cgroups import listed, paths
from harness.engine import Engine, eventually
from harness.podman import background, inside, limit, processes, state


def own_cgroups(podman: Engine, name: str = "one") -> set[str]:
    """Return the cgroups of a container as the host sees them."""
    return paths(state(podman, name)["Pid"])


def test_top_stats(podman: Engine) -> None:
    """`top` lists the processes; `stats` counts what they use."""
    background(podman, "--memory", "64m")
    podman("exec", "--detach", "one", "sleep", "2000").ok()
    eventually(lambda: "sleep 2000" in processes(podman))
    assert podman("top", "one", "user", "args").ok().lines[1].split() == ["root", "sleep", "1000"]
    stats = podman("stats", "--no-stream", "--format", "json", "one").ok().json[0]
    assert int(stats["pids"]) == 2
    assert stats["name"] == "one"


def test_ps(podman: Engine) -> None:
    """`ps` lists containers with their states."""
    background(podman)
    podman("create", "--name", "two", "busybox", "true").ok()
    podman("run", "--name", "three", "busybox", "sh", "-c", "exit 3").fails(3)
    found = {one["Names"][0]: one["State"] for one in podman("ps", "--all", "--format", "json").ok().json}
    assert found == {"one": "running", "two": "created", "three": "exited"}
    assert [one["Names"] for one in podman("ps", "--format", "json").ok().json] == [["one"]]


@pytest.mark.core
def test_memory(podman: Engine) -> None:
    """A limit of memory is in the cgroup, with swap, reservation; what exceeds it is killed."""
    background(podman, "--memory", "48m", "--memory-swap", "48m", "--memory-reservation", "32m")
    assert limit(podman, "memory/memory.limit_in_bytes", "memory.max") == str(48 << 20)
    assert limit(podman, "memory/memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    podman("exec", "one", "/probe", "touch-memory", "8").ok()
    podman("exec", "one", "/probe", "touch-memory", "200").fails(137)


def test_oom_killed(podman: Engine) -> None:
    """podman is told when a container exceeded its limit, and not otherwise."""
    told = Path("/tmp/oom")  # Debian's conmon writes it where podman was started, and not where podman 4.3 looks for it
    told.unlink(missing_ok=True)
    background(podman, "--memory", "32m", "--memory-swap", "32m")
    podman("exec", "one", "/probe", "touch-memory", "200").fails(137)
    podman("stop", "--time", "0", "one").ok()
    assert state(podman)["OOMKilled"] or told.exists()
    told.unlink(missing_ok=True)
    podman("run", "--name", "two", "--memory", "32m", "busybox", "sh", "-c", "exit 137").fails(137)
    assert not state(podman, "two")["OOMKilled"]
    assert not told.exists()


def test_cpus(podman: Engine) -> None:
    """Processor time, shares and sets."""
    background(podman, "--cpus", "0.5", "--cpuset-cpus", "0")
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        assert inside(podman, "cat", "/sys/fs/cgroup/cpu.max") == "50000 100000"
    else:
        assert inside(podman, "cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us") == "50000"
        assert inside(podman, "cat", "/sys/fs/cgroup/cpu/cpu.cfs_period_us") == "100000"
    assert limit(podman, "cpuset/cpuset.cpus", "cpuset.cpus") == "0"
    assert "Cpus_allowed_list:\t0\n" in podman("exec", "one", "cat", "/proc/self/status").ok().out
    background(podman, "--cpu-shares", "512", name="two")
    assert limit(podman, "cpu/cpu.shares", "cpu.weight", "two") in ("512", "20", "59")  # by the older formula and the newer


def test_pids_limit(podman: Engine) -> None:
    """No more processes than were allowed."""
    background(podman, "--pids-limit", "20")
    assert limit(podman, "pids/pids.max", "pids.max") == "20"
    made = json.loads(podman("exec", "one", "/probe", "fork", "50").ok().lines[-1])
    assert 0 < made["made"] < 20
    assert made["errno"] == "EAGAIN"


def test_no_limits_default(podman: Engine) -> None:
    """Without options: no limit of memory and time, podman's limit of processes, and none where the user says so."""
    background(podman)
    memory = limit(podman, "memory/memory.limit_in_bytes", "memory.max")
    assert memory == "max" or int(memory) > 1 << 60
    assert limit(podman, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
    assert limit(podman, "pids/pids.max", "pids.max") == "2048"
    background(podman, "--pids-limit", "-1", name="two")
    assert limit(podman, "pids/pids.max", "pids.max", "two") == "max"


def test_update(podman: Engine) -> None:
    """Limits change while a container runs."""
    background(podman, "--memory", "64m")
    podman("update", "--memory", "128m", "--memory-swap", "128m", "--cpus", "0.25", "--cpuset-cpus", "0", "one").ok()
    assert limit(podman, "memory/memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert limit(podman, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
    assert limit(podman, "cpuset/cpuset.cpus", "cpuset.cpus") == "0"


def test_cgroup_parent(podman: Engine) -> None:
    """A container below a cgroup of the user's choice."""
    is_systemd = os.environ["OCIRUN_ENGINES_CGROUP_MANAGER"] == "systemd"
    chosen = "chosen.slice" if is_systemd else "chosen"
    background(podman, "--cgroup-parent", chosen if is_systemd else f"/{chosen}")
    try:
        assert all(path.startswith(f"/{chosen}/libpod-") for path in own_cgroups(podman))
        podman("rm", "--force", "--time", "0", "one").ok()
        below = f"/{chosen}/libpod-"  # conmon ends, and so has a cgroup there, a moment later
        eventually(lambda: not any(below in top for top, _, _ in os.walk("/sys/fs/cgroup")), "a cgroup is left")
    finally:
        podman("rm", "--force", "--time", "0", "one")
        if is_systemd:
            subprocess.run(["systemctl", "stop", chosen], check=True)
        for top, _, _ in os.walk("/sys/fs/cgroup", topdown=False):  # podman leaves what the user named
            if "/chosen" in top:
                os.rmdir(top)


def test_cgroups_disabled(podman: Engine) -> None:
    """--cgroups disabled: the container stays in the cgroup of podman."""
    background(podman, "--cgroups", "disabled")
    assert own_cgroups(podman) == paths(os.getpid())
    assert inside(podman, "echo", "hello") == "hello"
    podman("stop", "--time", "0", "one").ok()


def test_cgroupns(podman: Engine) -> None:
    """With a cgroup namespace of its own a container sees itself at the top."""
    private = podman("run", "--rm", "--cgroupns", "private", "busybox", "cat", "/proc/self/cgroup").ok()
    assert listed(private.out) == {"/"}
    host = podman("run", "--rm", "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup").ok()
    assert all("libpod" in path for path in listed(host.out))


def test_ulimit(podman: Engine) -> None:
    """Limits of a process, soft and hard."""
    words = ("--ulimit", "nofile=100:200", "--ulimit", "nproc=300:400", "--ulimit", "core=0")
    script = "ulimit -Sn; ulimit -Hn; ulimit -Su; ulimit -Hu; ulimit -c"
    assert podman("run", "--rm", *words, "busybox", "sh", "-c", script).ok().lines == ["100", "200", "300", "400", "0"]


def test_rlimit_default(podman: Engine) -> None:
    """What containers.conf says holds for who says nothing, and for exec."""
    background(podman)
    assert inside(podman, "sh", "-c", "ulimit -Sn; ulimit -Hn").split() == ["1024", "1024"]
    limits = Path(f"/proc/{state(podman)['Pid']}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["1024", "1024"]]


def test_oom_score_adj(podman: Engine) -> None:
    """How likely the kernel is to kill it."""
    assert podman("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj").ok().text == "500"
