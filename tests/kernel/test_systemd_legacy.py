# SPDX-License-Identifier: Apache-2.0
"""The systemd cgroup manager where cgroups are of version 1, alone or beside version 2: on a real systemd of our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import ROOT, until
from support.command import RuntimeCommand
from support.private_systemd import missing, private_systemd

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("the names, properties and errors of ocirun")]
MIB = 1 << 20
COUNT = int(os.environ.get("OCIRUN_PARALLEL", "20"))
Run = Callable[..., str]


@pytest.fixture(params=["hybrid", "legacy"])
def under(request: pytest.FixtureRequest, runtime: RuntimeCommand) -> Iterator[tuple[str, ...]]:
    """The words that run a command where a systemd of our own is PID 1."""
    if reason := missing():
        pytest.skip(reason)
    with private_systemd(hybrid=request.param == "hybrid") as words:
        yield words
        runtime.cleanup()


@pytest.fixture
def scoped(runtime: RuntimeCommand, under: tuple[str, ...]) -> RuntimeCommand:
    """The runtime with the systemd manager, there."""
    runtime.wrapper = under
    runtime.argv = (*runtime.argv, "--systemd-cgroup")
    return runtime


@pytest.fixture
def systemctl(under: tuple[str, ...]) -> Run:
    """systemctl, there; what it prints."""

    def run(*words: str) -> str:
        return subprocess.run([*under, "systemctl", *words], check=True, capture_output=True, text=True).stdout

    return run


def created(scoped: RuntimeCommand, bundle: Bundle) -> int:
    """Create the container and return init's pid as we see it: `state` has that of systemd's pid namespace."""
    bundle.write()
    scoped.remember(bundle.id)
    scoped.call("create", "--bundle", str(bundle.path), bundle.id).ok()
    inside = scoped.state(bundle.id)["pid"]
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{name}/status").read_text()
            cgroup = Path(f"/proc/{name}/cgroup").read_text()
        except OSError:
            continue
        if re.search(rf"^NSpid:.*\t{inside}\t1$", status, re.MULTILINE) and bundle.id in cgroup:
            return int(name)
    raise AssertionError(f"no process {inside} of {bundle.id}")


def directories(pid: int) -> dict[str, Path]:
    """Return the cgroup of a process in each hierarchy: controller -> directory, "" for version 2."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            tree = ROOT / (name.removeprefix("name=") or "unified")
            if tree.is_dir():
                found[name] = tree / path.lstrip("/")
    return found


def contents(pid: int, *files: str) -> dict[str, str]:
    """Return what files like "cpu.shares" hold."""
    found = directories(pid)
    return {file: (found[file.partition(".")[0]] / file).read_text().strip() for file in files}


LIMITS = {
    "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"},
    "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB, "swappiness": 10},
    "pids": {"limit": 77},
    "blockIO": {"weight": 150},
}
PROPERTIES = {
    "CPUShares": "512", "CPUQuotaPerSecUSec": "500ms", "CPUQuotaPeriodUSec": "50ms", "MemoryLimit": str(64 * MIB),
    "TasksMax": "77", "Delegate": "yes", "CPUAccounting": "yes", "MemoryAccounting": "yes", "BlockIOAccounting": "yes",
    "TasksAccounting": "yes", "DevicePolicy": "strict", "Slice": "system.slice",
}  # fmt: skip
FILES = {
    "cpu.shares": "512", "cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "50000", "cpuset.cpus": "0", "cpuset.mems": "0",
    "memory.limit_in_bytes": str(64 * MIB), "memory.memsw.limit_in_bytes": str(96 * MIB),
    "memory.soft_limit_in_bytes": str(32 * MIB), "memory.swappiness": "10", "pids.max": "77",
}  # fmt: skip


def test_everywhere_in_the_scope(scoped: RuntimeCommand, systemctl: Run, bundle: Bundle) -> None:
    """In each hierarchy init is in the scope's cgroup: systemd's by systemd, the others by itself; delete removes all."""
    bundle.linux(cgroupsPath=f"a-b.slice:pre:{bundle.id}")
    pid = created(scoped, bundle)
    found = directories(pid)
    assert {"cpu", "memory", "freezer", "devices", "cpuset", "name=systemd"} <= set(found)
    ours = {name: path for name, path in found.items() if path.parent.name == "a-b.slice"}
    # A tree that the systemd under test has not mounted is none of the container's.
    assert {name for name in found if name not in ours} <= {"", "net_prio", "net_cls", "perf_event", "hugetlb"}
    assert all(path.name == f"pre-{bundle.id}.scope" for path in ours.values())
    assert "active" in systemctl("is-active", f"pre-{bundle.id}.scope")
    scoped.call("delete", "--force", bundle.id).ok()
    assert not [path for path in ours.values() if path.exists()]
    assert bundle.id not in systemctl("list-units", "--all", "--plain", "--no-legend")


def test_limits(scoped: RuntimeCommand, systemctl: Run, bundle: Bundle) -> None:
    """The properties of version 1, and the files; a daemon-reload changes nothing."""
    pid = created(scoped, bundle.linux(resources=LIMITS))
    unit = f"ocirun-{bundle.id}.scope"
    shown = dict(line.split("=", 1) for line in systemctl("show", unit).splitlines())
    assert {name: shown[name] for name in PROPERTIES} == PROPERTIES
    weight = "blkio.bfq.weight" if (directories(pid)["blkio"] / "blkio.bfq.weight").exists() else "blkio.weight"
    assert shown["BlockIOWeight"] == ("650" if weight == "blkio.bfq.weight" else "150")
    devices = (directories(pid)["devices"] / "devices.list").read_text()
    expected = FILES | {weight: "150"}
    assert contents(pid, *expected) == expected
    systemctl("daemon-reload")
    assert contents(pid, *expected) == expected
    assert sorted((directories(pid)["devices"] / "devices.list").read_text().split("\n")) == sorted(devices.split("\n"))


def test_devices_that_systemd_would_allow(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """What systemd's list cannot say is refused: a daemon-reload would undo it."""
    rules: list[dict[str, Any]] = [
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
    ]
    scoped.try_create(bundle.linux(resources={"devices": rules})).refused("/linux/resources/devices", "version 1")


def test_life(scoped: RuntimeCommand, systemctl: Run, bundle: Bundle) -> None:
    """Start, pause, resume, kill: as with the other manager; delete leaves no unit, where systemd hears of no end."""
    pid = created(scoped, bundle.seq("ready", "sleep"))
    scoped.call("start", bundle.id).ok()
    scoped.call("pause", bundle.id).ok()
    assert scoped.state(bundle.id)["status"] == "paused"
    scoped.call("resume", bundle.id).ok()
    assert scoped.state(bundle.id)["status"] == "running"
    scoped.call("kill", bundle.id, "KILL").ok()
    until(lambda: scoped.state(bundle.id)["status"] == "stopped", f"process {pid} ends")
    scoped.call("delete", bundle.id).ok()
    assert bundle.id not in systemctl("list-units", "--all", "--plain", "--no-legend")


def test_validate(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """The gate of the host finds nothing wrong; a plan shows the scope's cgroups."""
    bundle.namespaces(without=("cgroup",)).mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro").write()
    assert scoped.call("validate", str(bundle.path)).ok().stdout == b""
    assert b"/sys/fs/cgroup/memory/system.slice/ocirun-ID.scope" in scoped.call("plan", "--format", "json", str(bundle.path)).ok().stdout


def test_many_at_once(
    runtime: RuntimeCommand, under: tuple[str, ...], systemctl: Run, bundle: Bundle, workdir: Path
) -> None:
    """As tests/library/test_parallel.py, by a bus or by systemd's own socket: all succeed, and nothing is left."""
    bundle.seq("ready", "sleep").write()
    program = Path(__file__).parents[1] / "library/parallel.py"
    command = [sys.executable, "-P", str(program), str(workdir / "state"), str(bundle.path), "systemd", str(COUNT)]
    done = subprocess.run(
        [*under, *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OCIRUN_TEST_PREFIX": bundle.id, "PYTHONPATH": str(program.parents[1])},
    )
    result = json.loads(done.stdout)
    print(COUNT, result)
    assert (result["errors"], result["there"], result["left"]) == ([], COUNT, [])
    assert bundle.id not in systemctl("list-units", "--all", "--plain", "--no-legend")
    assert not list(ROOT.glob(f"*/*systemd*/system.slice/*{bundle.id}*"))
