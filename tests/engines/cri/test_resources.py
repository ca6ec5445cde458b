# SPDX-License-Identifier: Apache-2.0
"""Limits, their change, what is counted, and what happens beyond."""

from __future__ import annotations

from pathlib import Path

import pytest
from cri.client import Cri
from cri.test_pods import host_pid
from harness import cgroups
from harness.engine import eventually

MEMORY = 64 << 20


@pytest.mark.core
def test_resources(cri: Cri) -> None:
    """The limits of a container are in its cgroup, which is below the pod's."""
    pod = cri.pod(linux={"cgroup_parent": "/tests/pod"})
    limits = {"cpu_period": 80000, "cpu_quota": 40000, "cpu_shares": 512, "memory_limit_in_bytes": MEMORY, "oom_score_adj": 500, "cpuset_cpus": "0", "cpuset_mems": "0"}
    container = pod.run("sleep", "1000", linux={"resources": limits})
    pid = host_pid(container)
    try:
        assert {path.endswith(f"/tests/pod/{container.id}") for path in cgroups.paths(pid)} == {True}
        found = cgroups.of(pid)
        assert (found.memory, found.cpu, found.shares, found.cpus) == (MEMORY, (40000, 80000), 512, "0")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "500"
        assert container.shell("cat /proc/self/oom_score_adj").strip() == "500"
    finally:
        cri.clean()
        cgroups.remove("tests/pod")
        cgroups.remove("tests")


def test_update_resources(cri: Cri) -> None:
    """Limits of a running container change, one at a time."""
    container = cri.pod().run("sleep", "1000", linux={"resources": {"memory_limit_in_bytes": MEMORY, "cpu_shares": 512}})
    pid = host_pid(container)
    container.update(memory_limit_in_bytes=2 * MEMORY)
    found = cgroups.of(pid)
    assert (found.memory, found.shares) == (2 * MEMORY, 512)
    container.update(cpu_quota=30000, cpu_period=60000, cpu_shares=256, cpuset_cpus="0")
    found = cgroups.of(pid)
    assert (found.memory, found.cpu, found.shares, found.cpus) == (2 * MEMORY, (30000, 60000), 256, "0")
    assert container.exec("true")[2] == 0


def test_stats(cri: Cri) -> None:
    """What a container takes is told, for one and for all."""
    container = cri.pod().run("sh", "-c", "head -c 3000000 /dev/zero >/file; while :; do :; done")
    stats = lambda: cri("ContainerStats", container_id=container.id)["stats"]  # noqa: E731
    first = eventually(lambda: (one := stats())["cpu"].get("usage_core_nano_seconds", {}).get("value") and one)
    assert first["attributes"]["id"] == container.id
    assert first["memory"]["working_set_bytes"]["value"] > 0
    eventually(lambda: stats()["cpu"]["usage_core_nano_seconds"]["value"] > first["cpu"]["usage_core_nano_seconds"]["value"])
    assert [one["attributes"]["id"] for one in cri("ListContainerStats")["stats"]] == [container.id]


def test_oom(cri: Cri) -> None:
    """What takes more memory than it may is killed, and its status says why."""
    container = cri.pod().run("sh", "-c", "exec tail /dev/zero", linux={"resources": {"memory_limit_in_bytes": 16 << 20}})
    status = container.ended()
    assert (status["exit_code"], status["reason"]) == (137, "OOMKilled")
