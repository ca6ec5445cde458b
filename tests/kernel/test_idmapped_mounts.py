# SPDX-License-Identifier: Apache-2.0
"""Id-mapped mounts: mounts[].uidMappings and gidMappings, idmap and ridmap, seen from inside and on the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.native import without
from support.nested import nested
from support.report import mount_at

pytestmark = [
    pytest.mark.root,
    pytest.mark.userns,
    pytest.mark.kernel("6.3"),
    pytest.mark.ocirun_only("1.1 has no id-mapped mounts, 1.8.1 knows them only in a user namespace"),
]
MkBundle = Callable[..., Bundle]


def maps(*ranges: tuple[int, int, int]) -> dict[str, list[dict[str, int]]]:
    """Return both kinds of mappings: id in the file system, id on the host, how many."""
    both = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]
    return {"uidMappings": both, "gidMappings": both}


def add(bundle: Bundle, destination: str, source: Any, *options: str, **members: Any) -> Bundle:
    """Append a mount with members beyond the usual ones."""
    bundle.mount(destination, members.pop("type", None), source, *options)
    bundle.spec["mounts"][-1].update(members)
    return bundle


@pytest.fixture
def volume(bundle: Bundle) -> Iterator[Path]:
    """A directory of files of several owners, with a tmpfs on its "sub"."""
    path = bundle.path / "volume"
    path.mkdir()
    for uid, gid in ((0, 0), (1000, 1001), (5, 6)):
        (path / str(uid)).write_text("")
        os.chown(path / str(uid), uid, gid)
    (path / "sub").mkdir()
    path.chmod(0o777)
    os.system(f"mount -t tmpfs -o mode=0777 volume '{path}/sub'")
    (path / "sub/inner").write_text("")
    yield path
    os.system(f"umount '{path}/sub'")


def owners(files: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the owner and group of each file that was looked at."""
    return {path: (entry["uid"], entry["gid"]) for path, entry in files.items()}


@pytest.mark.parametrize("options", [("bind",), ("bind", "idmap")], ids=" ".join)
def test_maps_of_a_mount(runtime: RuntimeCommand, bundle: Bundle, volume: Path, options: tuple[str, ...]) -> None:
    """Files show the mapped owners, new ones are stored under the owner that maps to the writer, and the source keeps
    what it had; with the option or without."""
    add(bundle, "/m", volume, *options, **maps((0, 7000, 10), (1000, 8000, 10)))
    bundle.process(user={"uid": 7000, "gid": 7000})
    bundle.seq(["lstat", "/m", "/m/0", "/m/5", "/m/1000"], ["create", "/m/new", "x"])
    result = runtime.run(bundle).ok()
    assert owners(result.files) == {
        "/m": (7000, 7000),
        "/m/0": (7000, 7000),
        "/m/5": (7005, 7006),
        "/m/1000": (8000, 8001),
    }
    assert result.outcomes("create") == {"/m/new": "ok"}
    new = (volume / "new").stat()
    assert (new.st_uid, new.st_gid) == (0, 0)
    assert (volume / "1000").stat().st_uid == 1000


def test_ids_that_are_not_mapped(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """What no map names belongs to nobody, and who is mapped to nothing cannot make files."""
    add(bundle, "/m", volume, "bind", **maps((1000, 8000, 10))).process(user={"uid": 7000, "gid": 7000})
    result = runtime.run(bundle.seq(["lstat", "/m/0", "/m/1000"], ["create", "/m/new", "x"])).ok()
    assert owners(result.files) == {"/m/0": (65534, 65534), "/m/1000": (8000, 8001)}
    assert result.outcomes("create")["/m/new"] == "EOVERFLOW"


@pytest.mark.parametrize(("option", "below"), [("idmap", 0), ("ridmap", 7000)])
def test_recursion(runtime: RuntimeCommand, bundle: Bundle, volume: Path, option: str, below: int) -> None:
    """Submounts are mapped with ridmap only."""
    add(bundle, "/m", volume, "rbind", option, **maps((0, 7000, 10)))
    result = runtime.run(bundle.seq(["lstat", "/m/0", "/m/sub/inner"])).ok()
    assert owners(result.files) == {"/m/0": (7000, 7000), "/m/sub/inner": (below, below)}


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
@pytest.mark.parametrize("own", [False, True])
def test_in_a_user_namespace(
    runtime: RuntimeCommand, bundle: Bundle, volume: Path, option: str, own: bool
) -> None:
    """The container's maps stand in for those of the mount: root's files are its root's; own maps come before them."""
    bundle.userns(100000, 65536).dir("/m")
    add(bundle, "/m", volume, "rbind", option, "nosuid", "ro", **(maps((1000, 100000, 10)) if own else {}))
    bundle.seq("report", ["lstat", "/m/0", "/m/1000", "/m/sub/inner"], ["open", "/m/1000", "wronly"])
    result = runtime.run(bundle).ok()
    shown = owners(result.files)
    nobody = (65534, 65534)
    if own:
        assert (shown["/m/0"], shown["/m/1000"]) == (nobody, (0, 1))
        assert shown["/m/sub/inner"] == nobody
    else:
        assert (shown["/m/0"], shown["/m/1000"]) == ((0, 0), (1000, 1001))
        assert shown["/m/sub/inner"] == ((0, 0) if option == "ridmap" else nobody)
    assert result.outcomes("open")["/m/1000"] == "EROFS"
    assert {"ro", "nosuid"} <= mount_at(result.report["mountinfo"], "/m").options


def test_in_a_joined_user_namespace(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """The maps of a namespace that is joined are found out."""
    first = runtime.create(mkbundle().userns(200000, 1000).seq("sleep")).start()
    second = mkbundle().dir("/m")
    os.chown(second.rootfs, 200000, 200000)
    (second.path / "v").mkdir()
    (second.path / "v/file").write_text("")
    second.namespaces({"type": "user", "path": f"/proc/{first.pid}/ns/user"})
    add(second, "/m", "v", "bind", "idmap")
    result = runtime.run(second.seq(["lstat", "/m/file", "/dev/null"])).ok()
    assert owners(result.files) == {"/m/file": (0, 0), "/dev/null": (0, 0)}


@pytest.mark.parametrize("userns", [False, True])
def test_file_system_that_is_no_bind(runtime: RuntimeCommand, bundle: Bundle, userns: bool) -> None:
    """A new tmpfs can be mapped as well, in a user namespace too."""
    if userns:
        bundle.userns(100000, 65536).dir("/m")
    first = 100000 if userns else 7000
    add(bundle, "/m", "tmpfs", "idmap", "size=1m", "noexec", "private", type="tmpfs", **maps((0, first, 10)))
    bundle.seq("report", ["lstat", "/m"])
    result = runtime.run(bundle).ok()
    assert owners(result.files) == {"/m": (0, 0) if userns else (7000, 7000)}
    mount = mount_at(result.report["mountinfo"], "/m")
    assert (mount.type, mount.propagation) == ("tmpfs", "private")
    assert "noexec" in mount.options
    assert "size=1024k" in mount.data


def test_several_maps(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """Each mount has its own maps; the first has none."""
    add(bundle, "/a", volume, "bind")
    add(bundle, "/b", volume, "bind", **maps((0, 7000, 10)))
    add(bundle, "/c", volume, "bind", **maps((0, 8000, 10)))
    add(bundle, "/d", volume, "bind", **maps((0, 7000, 10)))
    result = runtime.run(bundle.seq(["lstat", *(f"/{name}/0" for name in "abcd")])).ok()
    assert [uid for uid, _ in owners(result.files).values()] == [0, 7000, 8000, 7000]


def test_shared_root(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """With a shared root, whose sources are opened early, a mapped mount is as well."""
    bundle.linux(rootfsPropagation="shared")
    add(bundle, "/m", volume, "bind", **maps((0, 7000, 10)))
    add(bundle, "/t", "tmpfs", type="tmpfs", **maps((0, 7000, 10)))
    result = runtime.run(bundle.seq(["lstat", "/m/0", "/t"])).ok()
    assert owners(result.files) == {"/m/0": (7000, 7000), "/t": (7000, 7000)}


def test_file_system_that_cannot(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The error names the place, the call and what is in the way, and nothing is left."""
    add(bundle, "/m", "/proc", "bind", **maps((0, 7000, 10)))
    index = len(bundle.spec["mounts"]) - 1
    result = runtime.run(bundle).refused(f"/mounts/{index}", "mount_setattr", "EINVAL")
    assert "cannot be id-mapped" in result.stderr


@pytest.mark.parametrize("userns", [False, True])
def test_without_power_over_the_host(runtime: RuntimeCommand, bundle: Bundle, volume: Path, userns: bool) -> None:
    """A runtime in a user namespace maps what it mounts itself, and is told what a bind of the host's would take."""
    weak = runtime.under(*nested())
    first = 100000 if userns else 7000
    if userns:
        bundle.userns().dir("/t").dir("/m")
    add(bundle, "/t", "tmpfs", type="tmpfs", **maps((0, first, 10)))
    result = weak.run(bundle.seq(["lstat", "/t"])).ok()
    assert owners(result.files) == {"/t": (0, 0) if userns else (7000, 7000)}
    add(bundle.again(), "/m", volume, "rbind", **maps((0, first, 10)))
    index = len(bundle.spec["mounts"]) - 1
    assert "CAP_SYS_ADMIN" in weak.run(bundle).refused(f"/mounts/{index}", "mount_setattr", "EPERM").stderr
    bundle.again().spec["mounts"][index]["options"] = ["bind"]
    assert "rbind" in weak.run(bundle).refused(f"/mounts/{index}", "open_tree", "EINVAL").stderr


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", ["mount_setattr", "open_tree", "fsopen"])
def test_without_the_calls(runtime: RuntimeCommand, bundle: Bundle, volume: Path, call: str, error: str) -> None:
    """There is no other way: a mapped mount is refused, never made without its maps."""
    if call == "fsopen":
        add(bundle, "/m", "tmpfs", type="tmpfs", **maps((0, 7000, 10)))
    else:
        add(bundle, "/m", volume, "bind", **maps((0, 7000, 10)))
    index = len(bundle.spec["mounts"]) - 1
    runtime.under(*without(error, call)).run(bundle).refused(f"/mounts/{index}")


def test_no_process_is_left(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """Who held the user namespace open is gone when create returns."""
    add(bundle, "/m", volume, "bind", **maps((0, 7000, 10)))
    container = runtime.create(bundle.seq("ready", "sleep"))
    ours = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert ours == [str(container.pid)]


@pytest.mark.parametrize(
    "mount",
    [
        {"options": ["bind", "idmap"]},
        {"options": ["bind"], "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]},
        {"options": ["bind", "idmap"], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]},
    ],
    ids=str,
)
def test_id_mapping_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, mount: dict[str, Any]) -> None:
    """idmap without mappings or a user namespace, and one kind of mapping alone, are refused."""
    (bundle.path / "dir").mkdir()
    bundle.spec["mounts"].append({"destination": "/m", "source": "dir", **mount})
    runtime.run(bundle).refused()
