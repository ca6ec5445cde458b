# SPDX-License-Identifier: Apache-2.0
"""linux.cgroupsPath and linux.resources: seen in the cgroup's files and by what they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import TAG, Bundle, unique
from support.command import RuntimeCommand
from support.oracle import cgroups
from support.report import mounts

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]
ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()


def directory(pid: int, controller: str) -> Path:
    """Return the cgroup directory of a process: of a v1 controller, or of the unified tree."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if PURE and controllers == "":
            return ROOT / path.lstrip("/")
        if controller in controllers.split(","):
            return ROOT / controller / path.lstrip("/")
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def value(pid: int, controller: str, v1: str, v2: str) -> list[str]:
    """Return the words of a limit's file."""
    return (directory(pid, controller) / (v2 if PURE else v1)).read_text().split()


def test_default_path(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without cgroupsPath the container has a cgroup of its own that carries its ID."""
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    path = directory(container.pid, "pids")
    assert bundle.id in str(path)
    assert str(container.pid) in (path / "cgroup.procs").read_text().split()
    assert directory(os.getpid(), "pids") != path
    container.delete("--force").ok()
    assert not path.exists()


@pytest.mark.parametrize("shape", ["/{}", "/{}/a/b", "{}", "//{}//x/./y/"])
def test_given_path(runtime: RuntimeCommand, bundle: Bundle, shape: str) -> None:
    """An absolute path is below the root of the hierarchy; all directories made are removed."""
    name = unique("cg")
    bundle.linux(cgroupsPath=shape.format(name)).seq("ready", "sleep")
    container = runtime.create(bundle)
    path = directory(container.pid, "pids")
    if shape.startswith("/{}"):
        assert str(path).endswith(shape.format(name))
    assert name in str(path)
    container.delete("--force").ok()
    assert not path.exists()
    if runtime.name != "ocirun":
        for left in sorted(cgroups(name), key=len, reverse=True):
            os.rmdir(left)


def test_limits_in_the_files(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Each common limit is in its file when create returns."""
    bundle.linux(
        resources={
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 77},
        }
    )
    pid = runtime.create(bundle).pid
    assert value(pid, "memory", "memory.limit_in_bytes", "memory.max") == [str(64 << 20)]
    assert value(pid, "memory", "memory.soft_limit_in_bytes", "memory.low") == [str(32 << 20)]
    assert value(pid, "pids", "pids.max", "pids.max") == ["77"]
    assert value(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == ["0"]
    if PURE:
        assert value(pid, "cpu", "", "cpu.max") == ["25000", "50000"]
    else:
        assert value(pid, "cpu", "cpu.shares", "") == ["512"]
        assert value(pid, "cpu", "cpu.cfs_quota_us", "") == ["25000"]
        assert value(pid, "cpu", "cpu.cfs_period_us", "") == ["50000"]


def test_pids_limit_holds(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The program cannot have more processes than pids.limit."""
    bundle.linux(resources={"pids": {"limit": 10}}).args("fork", "50")
    fork = runtime.run(bundle).ok().one("fork")
    assert (fork["made"], fork["errno"]) == (9, "EAGAIN")


def test_memory_limit_holds(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A program that touches more memory than its limit is killed."""
    bundle.linux(resources={"memory": {"limit": 32 << 20, "swap": 32 << 20}})
    bundle.seq(["touch-memory", "8"], ["touch-memory", "128"])
    result = runtime.run(bundle)
    assert result.rc == 137
    assert len(result.all("touch-memory")) == 1


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": 64 << 20, "swap": 32 << 20}},
        {"cpu": {"cpus": "9999"}},
        {"cpu": {"cpus": "nonsense"}},
        {"pids": {"limit": "many"}},
        {"hugepageLimits": [{"pageSize": "../x", "limit": 1}]},
        {"unified": {"../cgroup.procs": "1"}},
        {"unified": {"a/b": "1"}},
    ],
    ids=str,
)
def test_limits_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, resources: dict[str, Any]) -> None:
    """A limit that the kernel or the specification refuses fails the create and leaves nothing."""
    runtime.run(bundle.linux(resources=resources)).refused()


@pytest.mark.skipif(PURE, reason="machine: no cgroup v1")
def test_unified_needs_version_2(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """resources.unified is an error where the hierarchy is version 1."""
    runtime.run(bundle.linux(resources={"unified": {"memory.high": "max"}})).refused("unified")


BAD_PATHS = ["/../../x", "a/../../b", "/..", "..", "a\nb", "/" + "n" * 300, "/a/../../../b", "./.."]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_odd_paths(runtime: RuntimeCommand, bundle: Bundle, path: str) -> None:
    """S-44: odd paths are refused or confined to the hierarchy."""
    name = unique("odd")
    shape = path.replace("x", name).replace("b", name)
    bundle.linux(cgroupsPath=shape).args("exit", "0")
    before = set(os.listdir(ROOT))
    if runtime.name == "crun":
        pytest.skip("peer: crun makes plain directories above the hierarchies")
    result = runtime.run(bundle)
    if result.rc != 0:
        result.refused()
    assert set(os.listdir(ROOT)) == before
    assert not Path("/", name).exists()
    for left in sorted(cgroups(TAG), key=len, reverse=True):
        if runtime.name != "ocirun":
            os.rmdir(left)


def test_nul_in_path(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-44: a NUL in the path is refused, not a place to cut."""
    runtime.run(bundle.linux(cgroupsPath=f"/{bundle.id}\0x")).refused()


def test_cgroup_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """In a cgroup namespace the container's own cgroup is the root; without one it is not."""
    report = runtime.report(bundle)
    assert {line.split(":", 2)[2] for line in report["cgroup"].splitlines()} == {"/"}
    bundle.again().namespaces(without=("cgroup",))
    report = runtime.report(bundle)
    assert any(bundle.id in line for line in report["cgroup"].splitlines())


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("option", ["ro", "rw"])
@pytest.mark.parametrize("namespace", [True, False])
def test_cgroup_mount(
    runtime: RuntimeCommand, bundle: Bundle, namespace: bool, option: str, userns: bool
) -> None:
    """S-45: a cgroup mount shows the container's cgroup, and can be written as far as the configuration says so and the
    cgroup is the container's: read-only never, and in a user namespace with a cgroup namespace of version 2 alone."""
    if runtime.name != "ocirun" and userns:
        pytest.skip("peer: mounts the version 1 hierarchies with options that a user namespace forbids")
    if not namespace:
        bundle.namespaces(without=("cgroup",))
    if userns:
        bundle.userns()
    name = unique("cg")
    bundle.linux(cgroupsPath=f"/{name}")
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", option)
    # Version 1 has the container's own cgroup in each place, version 2 the tree as the cgroup namespace has it.
    where = "/sys/fs/cgroup" + ("/pids" if not PURE else "" if namespace else f"/{name}")
    bundle.seq(
        "report",
        ["ls", "/sys/fs/cgroup"],
        ["read", f"{where}/cgroup.procs"],
        ["open", f"{where}/cgroup.procs", "wronly"],
        ["open", f"{where}/pids.max", "wronly"],
        ["syscall", "mkdirat", "-100", f"str:{where}/new", "0755"],
    )
    result = runtime.run(bundle).ok()
    assert result.reads[f"{where}/cgroup.procs"].split() == ["1"]
    readonly = option == "ro" or (PURE and userns and not namespace)
    if readonly:
        # Whose the file is is looked at first.
        expected = (*("EACCES" if userns else "EROFS",) * 2, "EROFS")
    elif not userns:
        expected = ("ok", "ok", "ok")
    elif PURE:
        expected = ("ok", "EACCES", "ok")
    else:
        expected = ("EACCES", "EACCES", "EACCES")
    opened, made = result.outcomes("open"), result.one("syscall").get("errno", "ok")
    assert (opened[f"{where}/cgroup.procs"], opened[f"{where}/pids.max"], made) == expected
    found = [m for m in mounts(result.report["mountinfo"]) if m.target.startswith("/sys/fs/cgroup")]
    shown = [m for m in found if m.type.startswith("cgroup")]
    assert shown
    assert all({"nosuid", "noexec", "nodev"} <= m.options for m in found)
    assert all(("ro" in m.options) == readonly for m in shown)
    if not PURE:
        assert {"pids", "memory", "cpu"} <= set(result.one("ls")["names"])


DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


@pytest.mark.unified
@pytest.mark.parametrize(
    ("option", "namespace", "user", "userns", "owner"),
    [
        ("rw", True, 0, True, 100000),
        ("rw", True, 1000, True, 101000),
        ("rw", True, 1000, False, 1000),
        ("rw", True, 0, False, 0),
        ("ro", True, 0, True, 0),
        ("rw", False, 1000, False, 0),
        (None, True, 0, True, 0),
    ],
)
def test_owner_of_the_cgroup(
    runtime: RuntimeCommand, bundle: Bundle, option: str | None, namespace: bool, user: int, userns: bool, owner: int
) -> None:
    """config-linux.md#cgroup-ownership: with a cgroup namespace and a writable mount the cgroup belongs to the process's
    user on the host, and of its files those that the kernel says can be given away; else all is the runtime's."""
    if userns:
        bundle.userns()
    if not namespace:
        bundle.namespaces(without=("cgroup",))
    bundle.mount("/sys", "sysfs", "sysfs", "ro")
    if option:
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", option)
    bundle.process(user={"uid": user, "gid": 0}).linux(resources={"pids": {"limit": 100}, "memory": {"limit": 1 << 26}})
    pid = runtime.create(bundle.seq("sleep")).pid
    path = directory(pid, "pids")
    given = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert set(DELEGATED) <= given
    owners = {entry.name: entry.stat().st_uid for entry in path.iterdir()}
    assert path.stat().st_uid == owner
    assert path.stat().st_gid == 0
    assert {name for name, uid in owners.items() if uid == owner and owner} <= given
    for name in DELEGATED:
        assert owners[name] == owner
    for name in ("pids.max", "memory.max"):
        assert owners[name] == 0


@pytest.mark.skipif(PURE, reason="machine: no cgroup v1")
def test_legacy_cgroups_are_never_given_away(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Version 1 is not safe to delegate: the directories stay the runtime's, whatever is mounted."""
    bundle.userns().mount("/sys", "sysfs", "sysfs", "ro").mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    pid = runtime.create(bundle.seq("sleep")).pid
    for controller in ("pids", "memory"):
        path = directory(pid, controller)
        assert {path.stat().st_uid, *(entry.stat().st_uid for entry in path.iterdir())} == {0}


def test_program_is_in_its_cgroup_from_the_start(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-47: the limits count for the program's first instruction: with one process no fork works."""
    bundle.linux(resources={"pids": {"limit": 1}}).args("fork", "1")
    fork = runtime.run(bundle).ok().one("fork")
    assert (fork["made"], fork["errno"]) == (0, "EAGAIN")


@pytest.mark.ocirun_only("written as 1, or ignored")
def test_pids_limit_of_zero(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """W7: a limit of 0 is legal and arrives as 0."""
    pid = runtime.create(bundle.linux(resources={"pids": {"limit": 0}})).pid
    assert value(pid, "pids", "pids.max", "pids.max") == ["0"]


def test_unlimited(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """-1 means no limit."""
    resources = {"pids": {"limit": -1}, "memory": {"limit": -1}, "cpu": {"quota": -1}}
    pid = runtime.create(bundle.linux(resources=resources)).pid
    assert value(pid, "pids", "pids.max", "pids.max") == ["max"]
