# SPDX-License-Identifier: Apache-2.0
"""What exec was asked for, as the document that passes the gates; and where in the cgroups it goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cgroups.disabled import DisabledManager
from ocirun.cgroups.hierarchies import Hierarchy
from ocirun.cgroups.subgroups import join_files, open_birthplace
from ocirun.errors import CgroupError, InvalidConfig
from ocirun.exec_options import describe_process, parse_subgroups
from ocirun.rdt import tasks_files
from ocirun.spec.model import IntelRdt

OWN: dict[str, Any] = {
    "cwd": "/own",
    "args": ["own"],
    "env": ["A=1"],
    "terminal": True,
    "consoleSize": {"height": 1, "width": 2},
    "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 0o77},
    "capabilities": {"bounding": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "noNewPrivileges": True,
    "apparmorProfile": "own",
    "selinuxLabel": "a:b:c:d",
    "oomScoreAdj": 5,
    "scheduler": {"policy": "SCHED_BATCH"},
    "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
    "execCPUAffinity": {"final": "0"},
}
CAPABILITIES = st.lists(st.sampled_from(["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]), max_size=3)


def described(given: dict[str, Any] | None = None, args: Sequence[str] = ("x",), **changes: Any) -> dict[str, Any]:
    document, _ = describe_process(OWN, given, args, changes)  # type: ignore[arg-type]
    return document


def test_own_process_is_the_base() -> None:
    """Everything as for the container's process but the program and the terminal; nothing of it is changed."""
    before = repr(OWN)
    expected = {**OWN, "args": ["x"], "terminal": False}
    del expected["consoleSize"]
    assert described() == expected
    described(user=(9, 9), env=["B=2"], capabilities=["CAP_KILL"], additional_gids=[7])
    assert repr(OWN) == before


def test_document_is_completed() -> None:
    """What it leaves out, or says nothing in, is the container's; identity, environment and directory are its own."""
    least = {"cwd": "/", "args": ["y"]}
    document, pointer = describe_process(OWN, least, (), {})
    assert pointer == ""
    kept = ("capabilities", "rlimits", "apparmorProfile", "selinuxLabel", "oomScoreAdj", "scheduler", "ioPriority", "execCPUAffinity")
    assert document == {**least, **{name: OWN[name] for name in kept}, "user": {"uid": 0, "gid": 0, "umask": 0o77}}
    empty = {**least, "rlimits": [], "apparmorProfile": "", "selinuxLabel": None, "capabilities": {}, "oomScoreAdj": 0}
    document, _ = describe_process(OWN, empty, (), {})
    assert (document["rlimits"], document["apparmorProfile"], document["selinuxLabel"]) == (OWN["rlimits"], "own", "a:b:c:d")
    assert (document["capabilities"], document["oomScoreAdj"]) == ({}, 0)


def test_container_without_a_process() -> None:
    """A configuration may have none; then the rest is as in an empty one."""
    assert describe_process(None, None, ("a",), {}) == ({"cwd": "/", "args": ["a"], "terminal": False}, "/process")
    with pytest.raises(InvalidConfig) as caught:
        describe_process(OWN, None, (), {})
    assert caught.value.problems[0].pointer == "/process/args"


@given(st.none() | st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_user(user: tuple[int, int | None] | None, gids: list[int]) -> None:
    """A user without a group keeps the group; groups are added; the umask stays."""
    found = described(user=user, additional_gids=gids)["user"]
    assert found["uid"] == (1 if user is None else user[0])
    assert found["gid"] == (2 if user is None or user[1] is None else user[1])
    assert found["additionalGids"] == [3, *gids]
    assert found["umask"] == 0o77


@given(st.dictionaries(st.sampled_from(["bounding", "effective", "permitted", "inheritable", "ambient"]), CAPABILITIES), CAPABILITIES)
def test_capabilities(before: dict[str, list[str]], added: list[str]) -> None:
    """CVE-2022-29162: the inheritable set is never touched, the ambient one gets what is inheritable."""
    document = {"cwd": "/", "capabilities": before}
    found = described(document, capabilities=added)["capabilities"]
    assert set(found.get("inheritable", ())) == set(before.get("inheritable", ()))
    for name in ("bounding", "effective", "permitted"):
        assert set(found.get(name, ())) == {*before.get(name, ()), *added}
    assert set(found.get("ambient", ())) == {*before.get("ambient", ()), *(set(added) & set(before.get("inheritable", ())))}


def test_other_changes() -> None:
    """The rest replaces; what is None changes nothing."""
    found = described(
        cwd="/x", env=["B=2", "A=3"], no_new_privileges=False, apparmor_profile="p", selinux_label="l", terminal=True
    )
    assert (found["cwd"], found["env"], found["noNewPrivileges"]) == ("/x", ["A=1", "B=2", "A=3"], False)
    assert (found["apparmorProfile"], found["selinuxLabel"], found["terminal"]) == ("p", "l", True)
    assert described(cwd=None, no_new_privileges=None, terminal=None) == described()


@pytest.mark.parametrize(
    ("args", "changes", "pointer"),
    [
        (["a\0b"], {}, "/process/args"),
        (["a"], {"env": ["A=\0"]}, "/process/env"),
        (["a"], {"cwd": "/\0"}, "/process/cwd"),
        (["a"], {"apparmor_profile": "\0"}, "/process/apparmorProfile"),
        (["a"], {"selinux_label": "\0"}, "/process/selinuxLabel"),
    ],
)
def test_nul(args: list[str], changes: dict[str, Any], pointer: str) -> None:
    """A caller of the library can say what neither JSON nor a command line can."""
    with pytest.raises(InvalidConfig) as caught:
        described(None, args, **changes)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


# ---- cgroups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["below"], {"": "below"}),
        (["/"], {"": "/"}),
        (["cpu,cpuacct:a", "pids:b"], {"cpu": "a", "cpuacct": "a", "pids": "b"}),
        (["name=systemd:x:y"], {"name=systemd": "x:y"}),
    ],
)
def test_subgroups(words: list[str], expected: dict[str, str]) -> None:
    """A path for all hierarchies, or one for each."""
    assert parse_subgroups(words) == expected


@pytest.mark.parametrize("words", [["a", "b"], ["a", "cpu:b"], ["cpu:a", "b"], ["cpu:a", "cpu:b"], [":a"], ["cpu,:a"]])
def test_subgroups_that_contradict(words: list[str]) -> None:
    """Two paths for one hierarchy, and a path for nobody."""
    with pytest.raises(CgroupError):
        parse_subgroups(words)


class Manager:
    """A cgroup manager over directories."""

    def __init__(self, top: Path, *versions_and_controllers: tuple[int, str]) -> None:
        self._hierarchies = []
        for version, controllers in versions_and_controllers:
            mount = top / (controllers or "unified")
            (mount / "c" / "below").mkdir(parents=True)
            names = controllers.split(",") if controllers else []
            self._hierarchies.append(
                Hierarchy(version=version, mount_point=str(mount), root="/", controllers=names, path="c")
            )

    def paths(self) -> list[Hierarchy]:
        return self._hierarchies

    def clone_into(self, subgroup: str = "") -> int | None:
        for hierarchy in self._hierarchies:
            if hierarchy.version == 2:
                return os.open(f"{hierarchy.directory}/{subgroup}", os.O_RDONLY)
        return None

    def join_paths(self, subgroup: str = "") -> list[str]:
        return [f"{each.directory}/{subgroup}/tasks" for each in self._hierarchies if each.version == 1]


def birthplace(manager: Any, subgroups: dict[str, str]) -> str:
    fd = open_birthplace(manager, subgroups)
    assert fd is not None
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_version_2(tmp_path: Path) -> None:
    """One hierarchy: the path is where the process is born, and a controller means nothing."""
    manager: Any = Manager(tmp_path, (2, ""))
    assert birthplace(manager, {}) == f"{tmp_path}/unified/c"
    assert birthplace(manager, {"": "below"}) == f"{tmp_path}/unified/c/below"
    assert join_files(manager, {"": "below"}) == []
    with pytest.raises(CgroupError, match="pids"):
        open_birthplace(manager, {"pids": "below"})


def test_version_1_beside_version_2(tmp_path: Path) -> None:
    """Paths are those of version 1; in version 2, which has no controllers, it is the container's own cgroup."""
    manager: Any = Manager(tmp_path, (2, ""), (1, "cpu,cpuacct"), (1, "pids"))
    assert birthplace(manager, {"": "below"}) == f"{tmp_path}/unified/c"
    assert join_files(manager, {"": "below"}) == [f"{tmp_path}/cpu,cpuacct/c/below/tasks", f"{tmp_path}/pids/c/below/tasks"]
    assert join_files(manager, {"cpuacct": "/below/"}) == [f"{tmp_path}/cpu,cpuacct/c/below/tasks", f"{tmp_path}/pids/c/tasks"]
    assert join_files(manager, {"cpu": "below", "cpuacct": "below"})[0] == f"{tmp_path}/cpu,cpuacct/c/below/tasks"
    for wrong in ({"cpu": "below", "cpuacct": ""}, {"memory": "below"}, {"pids": "nosuch"}, {"pids": "../x"}, {"pids": "a/.."}, {"pids": ".."}, {"pids": "below/.."}):
        with pytest.raises(CgroupError):
            join_files(manager, wrong)


def test_no_cgroup() -> None:
    """The manager "disabled" has none to go below."""
    manager = DisabledManager()
    assert open_birthplace(manager, {}) is None
    assert join_files(manager, {}) == []
    for wrong in ({"": "below"}, {"pids": "below"}):
        with pytest.raises(CgroupError):
            open_birthplace(manager, wrong)


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({}, ["/r/ID/tasks"]),
        ({"closID": "c"}, ["/r/c/tasks"]),
        ({"closID": "/"}, ["/r/tasks"]),
        ({"closID": "c", "enableMonitoring": True}, ["/r/c/tasks", "/r/c/mon_groups/ID/tasks"]),
    ],
)
def test_rdt(config: dict[str, Any], files: list[str]) -> None:
    """The class, and the monitoring group after it."""
    assert tasks_files("/r", IntelRdt.decode(config), "ID") == files
