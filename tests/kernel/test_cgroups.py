# SPDX-License-Identifier: Apache-2.0
"""linux.cgroupsPath and linux.resources: seen in the cgroup's files and by what they do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import TAG, Bundle, unique
from support.cgroup import PURE, ROOT, directory, words
from support.command import RuntimeCommand
from support.oracle import cgroups
from support.report import mounts

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]


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
    assert words(pid, "memory", "memory.limit_in_bytes", "memory.max") == [str(64 << 20)]
    assert words(pid, "memory", "memory.soft_limit_in_bytes", "memory.low") == [str(32 << 20)]
    assert words(pid, "pids", "pids.max", "pids.max") == ["77"]
    assert words(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == ["0"]
    if PURE:
        assert words(pid, "cpu", "", "cpu.max") == ["25000", "50000"]
    else:
        assert words(pid, "cpu", "cpu.shares", "") == ["512"]
        assert words(pid, "cpu", "cpu.cfs_quota_us", "") == ["25000"]
        assert words(pid, "cpu", "cpu.cfs_period_us", "") == ["50000"]


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
    # Others come and go in the root of version 2; ours would have one of the names of the path.
    assert not (set(os.listdir(ROOT)) - before) & set(shape.split("/"))
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


@pytest.mark.skipif(PURE, reason="machine: no cgroup v1")
@pytest.mark.ocirun_only("runc leaves them out without a word")
@pytest.mark.parametrize("namespace", [True, False])
def test_options_of_a_cgroup_mount(runtime: RuntimeCommand, bundle: Bundle, namespace: bool) -> None:
    """What a mount of version 1 can have, each of its parts has; what belongs to a file system is left out, and said."""
    if not namespace:
        bundle.namespaces(without=("cgroup",))
    bundle.mount("/cgroups", "cgroup", "cgroup", "noatime", "rnoexec", "rshared", "sync", "xattr").seq("report")
    result = runtime.run(bundle).ok()
    found = [each for each in mounts(result.report["mountinfo"]) if each.target.startswith("/cgroups")]
    assert len(found) > 2
    for each in found:
        assert {"noatime", "noexec"} <= each.options, each
        assert "shared" in each.propagation, each  # what is bound is the host's slave as well
    index = len(bundle.spec["mounts"]) - 1
    for word in ("sync", "xattr"):
        assert f"/mounts/{index}/options: {word}: left out" in result.stderr


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


def test_pids_limit_of_zero_before_1_3(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Engines that write a version before 1.3 mean no limit: podman does for who comes through Docker's API."""
    pid = runtime.create(bundle.patch({"ociVersion": "1.2.1"}).linux(resources={"pids": {"limit": 0}})).pid
    assert words(pid, "pids", "pids.max", "pids.max") == ["max"]


@pytest.mark.ocirun_only("written as 1, or ignored")
def test_pids_limit_of_zero(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """W7: since 1.3 a limit of 0 is legal and arrives as 0."""
    bundle.patch({"ociVersion": "1.3.0"})
    pid = runtime.create(bundle.linux(resources={"pids": {"limit": 0}})).pid
    assert words(pid, "pids", "pids.max", "pids.max") == ["0"]


def test_unlimited(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """-1 means no limit."""
    resources = {"pids": {"limit": -1}, "memory": {"limit": -1}, "cpu": {"quota": -1}}
    pid = runtime.create(bundle.linux(resources=resources)).pid
    assert words(pid, "pids", "pids.max", "pids.max") == ["max"]


@pytest.mark.unified
@pytest.mark.peer_fails(runc="1.1.5 mounts anew", crun="1.8 mounts anew")
def test_options_of_the_hosts_hierarchy_stay(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A cgroup mount in the host's cgroup namespace takes nothing from the host: its options are the hierarchy's."""

    def options() -> set[str]:
        [found] = [m for m in mounts(Path("/proc/self/mountinfo").read_text()) if m.target == str(ROOT)]
        return found.data

    def remount(*words: str) -> None:
        # With the source given, mount(8) does not add the options that are there.
        subprocess.run(["mount", "-o", ",".join(["remount", *words]), "cgroup2", ROOT], check=True)

    before = options()
    remount("nsdelegate", "memory_recursiveprot")
    try:
        assert options() > {"nsdelegate", "memory_recursiveprot"}
        bundle.namespaces(without=("cgroup",)).mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
        runtime.run(bundle).ok()
        assert options() > {"nsdelegate", "memory_recursiveprot"}
    finally:
        remount(*before)


@pytest.mark.ocirun_only("the peers warn, or say nothing")
@pytest.mark.parametrize("state", ["populated", "frozen"])
def test_cgroup_in_use_is_refused(runtime: RuntimeCommand, mkbundle: MkBundle, state: str) -> None:
    """Two containers cannot have one cgroup, nor one that a stranger froze; the first one goes on."""
    name = unique("used")
    first = runtime.create(mkbundle().linux(cgroupsPath=f"/{name}").seq("ready", "sleep")).start()
    place = directory(first.pid, "freezer")
    if state == "frozen":
        first.kill()
        first.wait()
        frozen = place / ("cgroup.freeze" if (place / "cgroup.freeze").exists() else "freezer.state")
        frozen.write_text("1" if frozen.name == "cgroup.freeze" else "FROZEN")
    second = mkbundle().linux(cgroupsPath=f"/{name}")
    try:
        runtime.run(second).refused("/linux/cgroupsPath", "frozen" if state == "frozen" else "not empty")
    finally:
        if state == "frozen":
            frozen.write_text("0" if frozen.name == "cgroup.freeze" else "THAWED")
    assert first.status() == ("stopped" if state == "frozen" else "running")
    assert place.is_dir()
