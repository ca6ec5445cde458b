# SPDX-License-Identifier: Apache-2.0
"""`mounts add` and `mounts remove`: mounts of a container that runs, seen from inside and by the host."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import SECRET, Canary
from support.command import Container, Result, RuntimeCommand
from support.native import compat, without
from support.oracle import HostSnapshot
from support.report import Json, mount_at, mounts

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("crun 1.8 has no such command, runc has none at all")]
MkBundle = Callable[..., Bundle]


@pytest.fixture
def volume(workdir: Path) -> Path:
    """A directory of the host with one file, in which somebody has mounted a tmpfs."""
    path = workdir / "volume"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("from the host")
    return path


@pytest.fixture
def submount(volume: Path) -> Iterator[Path]:
    """A tmpfs on the volume's "sub"."""
    path = volume / "sub"
    subprocess.run(["mount", "-t", "tmpfs", "volume", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def start(runtime: RuntimeCommand, bundle: Bundle, *words: str) -> Container:
    """Start a container that waits."""
    container = runtime.create(bundle.seq("ready", "sleep"), *words).start()
    container.line()
    return container


def change(runtime: RuntimeCommand, verb: str, container: Container, *changes: Json) -> Result:
    """Call `mounts add` or `mounts remove` with a file."""
    file = runtime.workdir / "mounts.json"
    file.write_text(json.dumps(changes))
    return runtime.call("mounts", verb, container.id, str(file))


def bind(destination: str, source: object, *options: str) -> Json:
    """Return a bind mount."""
    return {"destination": destination, "source": str(source), "options": list(options or ("bind",))}


def tmpfs(destination: str, *options: str) -> Json:
    """Return a new file system."""
    return {"destination": destination, "type": "tmpfs", "options": list(options)}


def in_user_namespace(bundle: Bundle) -> Bundle:
    """Put the container into a user namespace whose root may make things in the container's root."""
    os.chown(bundle.rootfs, 100000, 100000)
    return bundle.userns()


def mountinfo(container: Container) -> str:
    """Return the mounts of the container's process."""
    return Path(f"/proc/{container.pid}/mountinfo").read_text()


def look(runtime: RuntimeCommand, container: Container, *words: str) -> Result:
    """Let a process of the container look."""
    return runtime.call("exec", container.id, "/probe", *words).ok()


def assert_as_before(container: Container, before: str) -> None:
    """Fail unless the mounts are what they were, and the record knows of none."""
    assert mountinfo(container) == before
    record = json.loads((container.runtime.root / container.id / "state.json").read_text())
    assert not record.get("mounts")


# ---- what it is for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["default", "userns", "no-pivot", "created", "host-namespaces"])
def test_add_and_remove(runtime: RuntimeCommand, bundle: Bundle, volume: Path, kind: str, oracle: HostSnapshot) -> None:
    """A directory, a file and a tmpfs are seen by every process of the container, and are gone after the removal."""
    if kind == "userns":
        in_user_namespace(bundle)
    if kind == "host-namespaces":
        bundle.namespaces(without=("pid", "ipc", "network", "cgroup"))
    bundle.seq("ready", "sleep")
    container = runtime.create(bundle, *(["--no-pivot"] if kind == "no-pivot" else []))
    if kind != "created":
        container.start().line()
    before = mountinfo(container)
    wanted = (bind("/new/dir", volume, "rbind", "ro"), bind("/tmp/one", volume / "file"), tmpfs("/new/t", "size=64k", "mode=700"))
    change(runtime, "add", container, *wanted).ok()
    result = look(
        runtime, container,
        "seq", "read", "/new/dir/file", "--", "read", "/tmp/one", "--", "create", "/new/dir/x", "x", "--", "create", "/new/t/x", "x",
        "--", "stat", "/new", "/new/t",
    )  # fmt: skip
    assert result.reads == {"/new/dir/file": "from the host", "/tmp/one": "from the host"}
    assert result.outcomes("create") == {"/new/dir/x": "EROFS", "/new/t/x": "ok"}
    assert {path: (entry["uid"], entry["gid"]) for path, entry in result.files.items()} == {"/new": (0, 0), "/new/t": (0, 0)}
    shown = mount_at(mountinfo(container), "/new/t")
    assert shown.type == "tmpfs"
    assert "size=64k" in shown.data
    change(runtime, "remove", container, *wanted).ok()
    assert_as_before(container, before)
    container.delete("--force").ok()
    oracle.assert_clean()


def test_removed_one_by_one(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """Of a file for `remove` only the destinations count; what stands in another mount goes with it."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    change(runtime, "add", container, tmpfs("/a"), tmpfs("/a/b"), bind("/a/b/c", volume), tmpfs("/d")).ok()
    change(runtime, "remove", container, {"destination": "/d/"}).ok()
    assert {each.target for each in mounts(mountinfo(container))[-3:]} == {"/a", "/a/b", "/a/b/c"}
    change(runtime, "remove", container, {"destination": "/a"}).ok()
    assert_as_before(container, before)
    change(runtime, "add", container, tmpfs("/a"), tmpfs("/a/b")).ok()
    change(runtime, "remove", container, {"destination": "/a"}, {"destination": "/a/b"}).ok()
    assert_as_before(container, before)


def test_list_on_standard_input(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """The file "-" is standard input; a paused container can be changed."""
    container = start(runtime, bundle)
    runtime.call("pause", container.id).ok()
    file = workdir / "list"
    file.write_text(json.dumps([tmpfs("/t")]))
    with file.open("rb") as stdin:
        runtime.call("mounts", "add", container.id, "-", stdin=stdin).ok()
    assert mount_at(mountinfo(container), "/t").type == "tmpfs"


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (("bind",), {"rw"}, None),
        (("rbind",), {"rw"}, {"rw"}),
        (("rbind", "ro"), {"ro"}, {"rw"}),
        (("rbind", "rro", "nosuid", "nodev"), {"ro", "nosuid", "nodev"}, {"ro"}),
        (("rbind", "rnoexec"), {"rw", "noexec"}, {"rw", "noexec"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options(
    runtime: RuntimeCommand, bundle: Bundle, volume: Path, submount: Path, options: tuple[str, ...], top: set[str], below: set[str] | None
) -> None:
    """Attributes are those of the options, of the mount alone or with all that is mounted in it."""
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/v", volume, *options)).ok()
    assert mount_at(mountinfo(container), "/v").options - {"relatime"} == top
    inner = [each.options - {"relatime"} for each in mounts(mountinfo(container)) if each.target == "/v/sub"]
    assert inner == ([] if below is None else [below])


def test_options_of_a_new_file_system(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Those of the mount, those for all that is mounted in it, which are the same here, and those of the superblock."""
    container = start(runtime, bundle)
    change(runtime, "add", container, tmpfs("/t", "rro", "nosuid", "sync")).ok()
    shown = mount_at(mountinfo(container), "/t")
    assert shown.options - {"relatime"} == {"ro", "nosuid"}
    assert "sync" in shown.data


def test_recursive_options_that_clear(runtime: RuntimeCommand, bundle: Bundle, volume: Path, submount: Path) -> None:
    """What is mounted read-only in a source is writable in its clone if that is asked for, and only there."""
    subprocess.run(["mount", "-o", "remount,bind,ro,nosuid", str(submount)], check=True)
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/v", volume, "rbind", "rrw")).ok()
    assert mount_at(mountinfo(container), "/v/sub").options - {"relatime"} == {"rw", "nosuid"}
    assert "ro" in mount_at(Path("/proc/self/mountinfo").read_text(), str(submount)).options


@pytest.mark.kernel("6.3")
@pytest.mark.parametrize("userns", [False, True])
def test_id_mapped(runtime: RuntimeCommand, bundle: Bundle, volume: Path, userns: bool) -> None:
    """uidMappings and gidMappings; in a user namespace also the option alone, which takes that one's maps."""
    os.chown(volume / "file", 5, 6)
    maps = [{"containerID": 0, "hostID": 100000 if userns else 7000, "size": 100}]
    wanted = [{**bind("/m", volume, "rbind"), "uidMappings": maps, "gidMappings": maps}]
    if userns:
        in_user_namespace(bundle)
        wanted.append(bind("/n", volume, "rbind", "idmap"))
    container = start(runtime, bundle)
    change(runtime, "add", container, *wanted).ok()
    files = look(runtime, container, "stat", *(f"{each['destination']}/file" for each in wanted)).files
    expected = (5, 6) if userns else (7005, 7006)
    assert {(entry["uid"], entry["gid"]) for entry in files.values()} == {expected}
    change(runtime, "remove", container, *wanted).ok()


def test_relative_source(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A source that is no absolute path is below the bundle, as in config.json."""
    (bundle.path / "data").mkdir()
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/v", "data")).ok()
    assert mount_at(mountinfo(container), "/v").root.endswith("/data")


# ---- between host and container ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [("rbind",), ("rbind", "rslave"), ("rbind", "rprivate")], ids=" ".join)
def test_nothing_travels_to_the_host(runtime: RuntimeCommand, bundle: Bundle, volume: Path, options: tuple[str, ...]) -> None:
    """What the container mounts in a mount that it was given stays there, though the host's is shared; what the host
    mounts there arrives unless the options are against it."""
    bundle.capabilities("CAP_SYS_ADMIN")
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/v", volume, *options)).ok()
    assert mount_at(mountinfo(container), "/v").propagation == ("private" if "rprivate" in options else "slave")
    before = Path("/proc/self/mountinfo").read_text()
    assert look(runtime, container, "syscall", "mount", "str:tmpfs", "str:/v/sub", "str:tmpfs", "0", "0").one("syscall")["ret"] == 0
    assert Path("/proc/self/mountinfo").read_text() == before
    (volume / "late").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "late", str(volume / "late")], check=True)
    try:
        arrived = any(each.target == "/v/late" for each in mounts(mountinfo(container)))
    finally:
        subprocess.run(["umount", str(volume / "late")], check=True)
    assert arrived == ("rprivate" not in options)


@pytest.mark.parametrize("options", [("rbind",), ("rbind", "rprivate")], ids=" ".join)
def test_nothing_travels_from_a_submount(
    runtime: RuntimeCommand, bundle: Bundle, volume: Path, submount: Path, options: tuple[str, ...]
) -> None:
    """What is mounted in the source is cut off from the host as well as the source itself."""
    bundle.capabilities("CAP_SYS_ADMIN")
    (submount / "below").mkdir()
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/v", volume, *options)).ok()
    assert mount_at(mountinfo(container), "/v/sub").propagation == ("private" if "rprivate" in options else "slave")
    before = Path("/proc/self/mountinfo").read_text()
    words = ("mount", "str:tmpfs", "str:/v/sub/below", "str:tmpfs", "0", "0")
    assert look(runtime, container, "syscall", *words).one("syscall")["ret"] == 0
    assert Path("/proc/self/mountinfo").read_text() == before


def test_files_of_procfs(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """What lxcfs provides may stand in for a file of procfs, as with `create`."""
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/proc/uptime", volume / "file")).ok()
    assert look(runtime, container, "read", "/proc/uptime").reads == {"/proc/uptime": "from the host"}
    change(runtime, "remove", container, {"destination": "/proc/uptime"}).ok()


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_but_a_procfs_at_proc(runtime: RuntimeCommand, bundle: Bundle, volume: Path, is_link: bool) -> None:
    """V-04: labels and masks are written by its paths, so there is a procfs or nothing, and no link to elsewhere."""
    bundle.spec["mounts"] = [each for each in bundle.spec["mounts"] if each["destination"] != "/proc"]
    if is_link:
        bundle.remove("/proc").dir("/elsewhere").symlink("/proc", "/elsewhere")
    container = start(runtime, bundle)
    before = mountinfo(container)
    change(runtime, "add", container, tmpfs("/proc")).refused("/0/type", "proc")
    if is_link:
        change(runtime, "add", container, bind("/proc", "/proc", "rbind")).refused("/0", "ELOOP")
    else:
        change(runtime, "add", container, bind("/proc", volume)).refused("/0", "procfs")
    assert_as_before(container, before)


NO_DESTINATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/proc", ("procfs",)),
    ("/proc/sys", ("procfs",)),
    ("/proc/1/root/tmp", ("ELOOP",)),
    ("/magic/tmp", ("ELOOP",)),
    ("/", ("root itself",)),
    ("/../..", ("root itself",)),
    ("/self", ("root itself",)),
    ("/loop/x", ("ELOOP",)),
    ("/file", ("wrong type", "ENOTDIR")),
    ("/file/x", ("ENOTDIR",)),
)


def test_destinations_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """Nothing on procfs (CVE-2019-16884), through magic links or over the root; the container stays as it was."""
    bundle.symlink("/magic", "/proc/1/root").symlink("/self", "/").symlink("/loop", "loop").file("/file", "x")
    container = start(runtime, bundle)
    before = mountinfo(container)
    for destination, words in NO_DESTINATIONS:
        change(runtime, "add", container, tmpfs("/t"), bind(destination, volume)).refused("/1", *words)
        assert_as_before(container, before)


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("link", ["{}", "../../../../../../../..{}", "/a/../..{}"])
def test_destinations_stay_inside_the_root(
    runtime: RuntimeCommand, bundle: Bundle, volume: Path, canary: Canary, link: str, userns: bool
) -> None:
    """S-20: links and ".." of the image lead to places of the image; what is missing is made there, and by its root."""
    target = f"{canary}/empty"
    bundle.symlink("/link", link.format(target)).dir("/a")
    if userns:
        in_user_namespace(bundle)
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/link/new", volume), bind("/../../a/../b", volume)).ok()
    assert {each.target for each in mounts(mountinfo(container))} >= {f"{target}/new", "/b"}
    made = bundle.inside(f"{target}/new").stat()
    assert made.st_uid == (100000 if userns else 0)
    canary.assert_untouched()


def test_names_that_change_places(runtime: RuntimeCommand, bundle: Bundle, volume: Path, canary: Canary) -> None:
    """While a process of the container exchanges a directory and a link outwards nothing is mounted elsewhere."""
    bundle.dir("/d/x").symlink("/l", f"/../../..{canary}")
    container = runtime.create(bundle.args("spin-rename", "/d", "/l")).start()
    container.line()
    host = Path("/proc/self/mountinfo").read_text()
    for _ in range(12):
        result = change(runtime, "add", container, bind("/d/x", volume))
        if result.rc == 0:
            change(runtime, "remove", container, {"destination": "/d/x"})
        else:
            result.refused("/0")
    assert Path("/proc/self/mountinfo").read_text() == host
    canary.assert_untouched()
    allowed = {"/", "/proc", "/dev", "/dev/pts", "/d/x", "/l/x", f"{canary}/x"}
    assert {each.target for each in mounts(mountinfo(container))} <= allowed


def test_only_what_was_added_is_removed(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """A container that moves a masked directory to the place of a mount does not have it unmasked."""
    bundle.file("/secret/dir/file", SECRET).dir("/mnt").linux(maskedPaths=["/secret/dir"])
    container = start(runtime, bundle)
    change(runtime, "add", container, bind("/mnt/dir", volume), tmpfs("/other")).ok()
    # In the mount namespace of the container only the mount point itself cannot be renamed, anywhere else nothing is.
    bundle.inside("/mnt").rename(bundle.inside("/old"))
    bundle.inside("/secret").rename(bundle.inside("/mnt"))
    before = mountinfo(container)
    assert mount_at(before, "/mnt/dir").type == "tmpfs"
    result = change(runtime, "remove", container, {"destination": "/other"}, {"destination": "/mnt/dir"})
    result.refused("/1/destination", "/mnt/dir", "not there any more")
    assert mountinfo(container) == before, "all or none"
    assert look(runtime, container, "read", "/mnt/dir/file").reads["/mnt/dir/file"] == ("ENOENT",)
    change(runtime, "remove", container, {"destination": "/other"}).ok()


def test_mounts_of_the_configuration_stay(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What `create` has mounted is none of this command's."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    change(runtime, "remove", container, {"destination": "/dev"}).refused("/0/destination", "/dev", "no mount that was added")
    assert mountinfo(container) == before


# ---- what goes wrong ---------------------------------------------------------------------------------


WRONG: tuple[tuple[Json, tuple[str, ...]], ...] = (
    ({"destination": 1}, ("/1/destination",)),
    ({"type": "tmpfs"}, ("/1", "destination")),
    ({**tmpfs("/x"), "type": "proc"}, ("/1/type", "proc")),
    ({**tmpfs("/x"), "type": "sysfs"}, ("/1/type", "sysfs")),
    ({**tmpfs("/x"), "type": "cgroup"}, ("/1/type", "cgroup")),
    ({**tmpfs("/x"), "type": "cgroup2"}, ("/1/type", "cgroup2")),
    ({**tmpfs("/x"), "type": "mqueue"}, ("/1/type", "mqueue")),
    ({"destination": "/x"}, ("/1/type",)),
    (tmpfs("/x", "remount", "ro"), ("/1/options", "remount")),
    (tmpfs("/x", "tmpcopyup"), ("/1/options", "tmpcopyup")),
    (tmpfs("/x", "silent"), ("/1/options", "silent")),
    (bind("/x", "/", "rbind", "rshared"), ("/1/options", "shared")),
    (bind("/x", "/", "rbind", "private"), ("/1/options", "rprivate")),
    (bind("/x", "/", "bind", "rslave", "runbindable"), ("/1/options", "contradict")),
    (bind("/x", "/", "bind", "sync"), ("/1/options", "sync")),
    (bind("/x", "/", "bind", "idmap"), ("/1/options",)),
    (bind("/x", "/nosuch"), ("/1", "ENOENT")),
    (tmpfs("/x", "size=many"), ("/1", "size")),
    ({**tmpfs("/x"), "type": "nosuchfs"}, ("/1", "ENODEV")),
)


def test_all_or_nothing(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The place of the mistake in the list is named, and the mount before it is not left behind."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    for wrong, words in WRONG:
        change(runtime, "add", container, tmpfs("/first"), wrong).refused(*words)
        assert_as_before(container, before)


def test_what_could_not_be_taken_back(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What an `add` that failed has left is told of, and stays in the record: `remove` takes it away."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    poor = runtime.under(*without("EPERM", "umount2"))
    change(poor, "add", container, tmpfs("/first"), tmpfs("/x", "size=many")).refused("/1", "size", "while undoing", "EPERM")
    assert mount_at(mountinfo(container), "/first")
    change(runtime, "remove", container, tmpfs("/first")).ok()
    assert_as_before(container, before)


def test_what_is_no_list(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """The gates of config.json hold here as well."""
    container = start(runtime, bundle)
    for text, word in (
        ("", "value"), ("{", "list of mounts"), ("{}", "must be a list"), ("[1]", "/0"), ('[{"destination":"/x","destination":"/y"}]', "more than once"),
    ):  # fmt: skip
        (workdir / "wrong.json").write_text(text)
        for verb in ("add", "remove"):
            runtime.call("mounts", verb, container.id, str(workdir / "wrong.json")).refused(word)
    runtime.call("mounts", "add", container.id, str(workdir / "nosuch")).refused("no such file")
    runtime.call("mounts", "mix", container.id, str(workdir / "wrong.json")).refused("neither add nor remove")


def test_containers_that_are_not_there(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The words that engines know."""
    container = start(runtime, bundle)
    container.kill()
    container.wait()
    for verb in ("add", "remove"):
        change(runtime, verb, container, tmpfs("/x")).refused("container not running")
    container.delete().ok()
    for verb in ("add", "remove"):
        change(runtime, verb, container, tmpfs("/x")).refused("container does not exist")


def test_the_same_twice(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """One place in the list twice cannot be removed; one that was added twice is removed from the top."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    change(runtime, "add", container, tmpfs("/x", "size=64k"), tmpfs("/x", "size=128k")).ok()
    change(runtime, "remove", container, tmpfs("/x"), tmpfs("/x/")).refused("/1/destination", "twice")
    change(runtime, "remove", container, tmpfs("/x")).ok()
    assert "size=64k" in mount_at(mountinfo(container), "/x").data
    change(runtime, "remove", container, tmpfs("/x")).ok()
    assert_as_before(container, before)


def test_what_was_covered_can_be_removed(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What stands below a name is not in every mount of that name: the removal of one that came later leaves it."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    change(runtime, "add", container, tmpfs("/a/b", "size=64k"), tmpfs("/a")).ok()
    change(runtime, "remove", container, {"destination": "/a"}).ok()
    assert "size=64k" in mount_at(mountinfo(container), "/a/b").data
    change(runtime, "remove", container, {"destination": "/a/b"}).ok()
    assert_as_before(container, before)
    change(runtime, "add", container, tmpfs("/a"), tmpfs("/a/b"), tmpfs("/a"), tmpfs("/a/b")).ok()
    for _ in range(2):
        change(runtime, "remove", container, {"destination": "/a"}).ok()
    assert_as_before(container, before)


def test_several_at_once(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Whoever else changes the mounts meanwhile, none is forgotten."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    wanted = [tmpfs(f"/t{number}") for number in range(8)]
    files = []
    for number, each in enumerate(wanted):
        files.append(runtime.workdir / f"{number}.json")
        files[-1].write_text(json.dumps([each]))
    with ThreadPoolExecutor(len(files)) as pool:
        for result in pool.map(lambda file: runtime.call("mounts", "add", container.id, str(file)), files):
            result.ok()
    change(runtime, "remove", container, *wanted).ok()
    assert_as_before(container, before)


@pytest.mark.parametrize("errno_name", ["ENOSYS", "EPERM"])
def test_kernels_without_the_mount_api(runtime: RuntimeCommand, bundle: Bundle, volume: Path, errno_name: str) -> None:
    """Only the look-up of paths has a stand-in: one for mounts would go through the container's own /proc."""
    container = start(runtime, bundle)
    before = mountinfo(container)
    wanted = (bind("/v", volume, "rbind", "ro"), tmpfs("/t"))
    for call in ("open_tree", "move_mount", "mount_setattr", "fsopen"):
        change(runtime.under(*without(errno_name, call)), "add", container, *wanted).refused(errno_name)
        assert_as_before(container, before)
    poor = runtime.under(*compat("openat2", errno_name))
    change(poor, "add", container, *wanted).ok()
    change(poor, "remove", container, *wanted).ok()
    assert_as_before(container, before)


def test_library(runtime: RuntimeCommand, bundle: Bundle, volume: Path) -> None:
    """Container.add_mounts and remove_mounts take values as well as JSON text."""
    import ocirun

    container = start(runtime, bundle)
    with ocirun.Runtime(str(runtime.root)) as library:
        loaded = library.load(container.id)
        wanted: list[dict[str, Any]] = [bind("/v", volume)]
        loaded.add_mounts(wanted)
        assert mount_at(mountinfo(container), "/v")
        with pytest.raises(ocirun.InvalidConfig) as caught:
            loaded.add_mounts(b'[{"destination": "/w", "type": "proc"}]')
        assert [(each.gate, each.pointer) for each in caught.value.problems] == [("rule", "/0/type")]
        loaded.remove_mounts(json.dumps(wanted).encode())
    assert all(each.target != "/v" for each in mounts(mountinfo(container)))
