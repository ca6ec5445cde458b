# SPDX-License-Identifier: Apache-2.0
"""Where a container's cgroup goes: cgroupsPath, mountinfo, /proc/self/cgroup, records."""

from __future__ import annotations

import json

import pytest

from ocirun.cgroups import hierarchies as module
from ocirun.cgroups import open_manager
from ocirun.cgroups.hierarchies import (
    Hierarchy,
    check_subgroup,
    discover,
    parse_mountinfo,
    parse_own_cgroups,
    unescape,
)
from ocirun.errors import CgroupError

HYBRID_MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/freezer rw shared:11 master:2 - cgroup cgroup rw,freezer
35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
""".strip()
HYBRID_OWN = """
4:freezer:/
3:cpu,cpuacct:/user/me
1:name=systemd:/user.slice/session-1.scope
0::/user.slice/session-1.scope
""".strip()
UNIFIED_MOUNTS = "26 25 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand in for /proc: a dictionary from path to content."""
    files: dict[str, str] = {}
    monkeypatch.setattr(module, "read_file", lambda path: files[path])
    files["/proc/self/mountinfo"] = HYBRID_MOUNTS
    files["/proc/self/cgroup"] = HYBRID_OWN
    return files


def places(layout: str, cgroups_path: str | None) -> dict[str, str]:
    """Return controllers -> directory."""
    found = discover(layout, cgroups_path, "web1")
    return {",".join(each.controllers): each.directory for each in found}


def test_absolute_path_is_below_every_mount_point(proc: dict[str, str]) -> None:
    """An absolute cgroupsPath does not depend on where the runtime runs."""
    assert places("hybrid", "/pod/web1") == {
        "": "/sys/fs/cgroup/unified/pod/web1",
        "freezer": "/sys/fs/cgroup/freezer/pod/web1",
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/pod/web1",
        "name=systemd": "/sys/fs/cgroup/systemd/pod/web1",
    }


def test_absent_path_is_the_id_below_the_own_cgroup(proc: dict[str, str]) -> None:
    """In version 2 the own cgroup holds processes, so its parent is the place."""
    expected = {
        "": "/sys/fs/cgroup/unified/user.slice/web1",
        "freezer": "/sys/fs/cgroup/freezer/web1",
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/user/me/web1",
        "name=systemd": "/sys/fs/cgroup/systemd/user.slice/session-1.scope/web1",
    }
    assert places("hybrid", None) == expected
    assert places("hybrid", "") == expected
    assert places("hybrid", "./web1") == expected


def test_layout_selects_the_versions(proc: dict[str, str]) -> None:
    """A legacy layout has no version 2; the unified hierarchy comes first where there is one."""
    assert "" not in places("legacy", "/x")
    assert next(iter(places("hybrid", "/x"))) == ""
    proc["/proc/self/mountinfo"] = UNIFIED_MOUNTS
    proc["/proc/self/cgroup"] = "0::/"
    assert places("unified", None) == {"": "/sys/fs/cgroup/web1"}


def test_bind_mount_of_a_part_shows_only_that_part(proc: dict[str, str]) -> None:
    """Inside a container without a cgroup namespace paths are relative to what the mount shows."""
    proc["/proc/self/mountinfo"] = "26 25 0:22 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    proc["/proc/self/cgroup"] = "0::/docker/abc/inner"
    assert places("unified", None) == {"": "/sys/fs/cgroup/web1"}
    proc["/proc/self/cgroup"] = "0::/../other"
    assert places("unified", None) == {"": "/sys/fs/cgroup/web1"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/.",
        "/..",
        "..",
        "/../../x",
        "a/../../b",
        "a/..",
        "a\0b",
        "a\nb",
        "/a/" + "x" * 256,
    ],
)
def test_path_that_could_lead_out_is_refused(proc: dict[str, str], path: str) -> None:
    """What is not strictly below the mount point has no place, and the error names the field."""
    with pytest.raises(CgroupError) as info:
        discover("hybrid", path, "web1")
    assert info.value.json_pointer == "/linux/cgroupsPath"


def test_no_hierarchy_is_an_error(proc: dict[str, str]) -> None:
    """A host without cgroup mounts gets an error with a hint, not an empty success."""
    proc["/proc/self/mountinfo"] = HYBRID_MOUNTS.split("\n")[0]
    with pytest.raises(CgroupError) as info:
        discover("none", "/x", "web1")
    assert info.value.hint


def test_controller_that_is_not_mounted_is_left_out(proc: dict[str, str]) -> None:
    """/proc/self/cgroup lists hierarchies that no mount shows."""
    proc["/proc/self/cgroup"] += "\n9:memory:/"
    assert "memory" not in places("hybrid", "/x")


def test_escapes_of_mountinfo_are_undone() -> None:
    """Spaces, tabs, newlines, backslashes and bytes that are not UTF-8 come back exactly."""
    line = r"26 25 0:22 / /mnt/a\040b\134c\012\303\251\377 rw - cgroup2 cgroup2 rw"
    (mount,) = parse_mountinfo(line)
    assert mount.mount_point == "/mnt/a b\\c\n\xe9\udcff"


@pytest.mark.parametrize("text", ["a\\", "a\\04", "a\\09x", "a\\xyz", "a\\777"])
def test_bad_escapes_are_refused(text: str) -> None:
    """A backslash is always followed by three octal digits of one byte."""
    with pytest.raises(CgroupError):
        unescape(text)


def test_topmost_mount_wins() -> None:
    """Of two mounts on one mount point only the later is visible."""
    first = "26 25 0:22 /old /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    second = "27 25 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    (mount,) = parse_mountinfo(f"{first}\n{second}")
    assert mount.root == "/"


def test_whole_mount_is_preferred_to_a_part(proc: dict[str, str]) -> None:
    """A container engine may have bound a part of the hierarchy elsewhere."""
    bound = "40 22 0:22 /pod /mnt/pod rw - cgroup2 cgroup2 rw"
    proc["/proc/self/mountinfo"] = f"{bound}\n{UNIFIED_MOUNTS}"
    proc["/proc/self/cgroup"] = "0::/"
    assert places("unified", "/x") == {"": "/sys/fs/cgroup/x"}


@pytest.mark.parametrize(
    "line", ["26 25 0:22 / - cgroup2 cgroup2 rw", "26 25 0:22 / /x rw - cgroup2"]
)
def test_malformed_mountinfo_is_refused(line: str) -> None:
    """A line about cgroups that lacks fields is not guessed at."""
    with pytest.raises(CgroupError):
        parse_mountinfo(line)


def test_own_cgroups_are_parsed_strictly() -> None:
    """Paths may hold colons; a line of another shape is an error."""
    assert parse_own_cgroups("3:cpu,cpuacct:/a:b\n0::/c\n") == {
        ("cpu", "cpuacct"): "/a:b",
        (): "/c",
    }
    with pytest.raises(CgroupError):
        parse_own_cgroups("0:/c")


def test_record_survives_json() -> None:
    """What a manager records, another process can open, whatever bytes are in the mount point."""
    hierarchy = Hierarchy(
        version=1, mount_point="/mnt/\udcff", root="/", controllers=("cpu",), path="a/b", existing=1
    )
    again = Hierarchy.from_record(json.loads(json.dumps(hierarchy.to_record())))
    assert again.to_record() == hierarchy.to_record()


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x"},
        {"path": ""},
        {"mountPoint": "relative"},
        {"version": 3},
        {"controllers": [1]},
        {"existing": None},
    ],
)
def test_bad_records_are_refused(change: dict[str, object]) -> None:
    """A damaged record must not make `delete` remove something else."""
    record = Hierarchy(version=2, mount_point="/m", root="/", controllers=(), path="a").to_record()
    with pytest.raises(CgroupError):
        Hierarchy.from_record(record | change)
    whole = {
        "manager": "cgroupfs",
        "hierarchies": [record | change],
        "nonce": "n",
        "optional": False,
        "absent": [],
        "identity": None,
    }
    with pytest.raises(CgroupError):
        open_manager("cgroupfs", "unified", "x", None, recorded=whole)


@pytest.mark.parametrize(
    ("given", "normal"), [("", ""), ("/", ""), ("a//b/", "a/b"), ("/./a", "a")]
)
def test_subgroup_normal_form(given: str, normal: str) -> None:
    """The cgroup of an exec is below the container's, or it is the container's."""
    assert check_subgroup(given) == normal


@pytest.mark.parametrize("path", ["..", "a/../..", "/../x", "a\0"])
def test_subgroup_that_leads_out_is_refused(path: str) -> None:
    """`exec --cgroup ../..` goes nowhere."""
    with pytest.raises(CgroupError):
        check_subgroup(path)


def test_unknown_manager_is_refused() -> None:
    """A typing error in --cgroup-manager is not taken for "disabled"."""
    with pytest.raises(CgroupError):
        open_manager("cgroupsf", "unified", "x", None)
