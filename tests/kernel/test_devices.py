# SPDX-License-Identifier: Apache-2.0
"""linux.devices, the default devices and links, and access to devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import Canary
from support.command import Result, RuntimeCommand
from support.nested import nested
from support.report import mounts
from support.sweep import spread

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]
DEFAULT = {
    "/dev/null": [1, 3],
    "/dev/zero": [1, 5],
    "/dev/full": [1, 7],
    "/dev/random": [1, 8],
    "/dev/urandom": [1, 9],
    "/dev/tty": [5, 0],
}
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}


def check_default_devices(result: Result) -> None:
    """Fail unless all default devices and links are right in a container that ran `lstat`."""
    files = result.files
    for path, number in DEFAULT.items():
        entry = files[path]
        assert (entry["type"], entry.get("rdev")) == ("char", number), entry
        assert (entry["mode"], entry["uid"], entry["gid"]) == (0o666, 0, 0), entry
    for path, target in LINKS.items():
        assert files[path].get("target") == target, files[path]
    assert files["/dev/ptmx"].get("target", "").endswith("pts/ptmx"), files["/dev/ptmx"]


LSTAT = ["lstat", *DEFAULT, *LINKS, "/dev/ptmx"]


@pytest.mark.parametrize("userns", [False, True])
def test_default_devices(runtime: RuntimeCommand, bundle: Bundle, userns: bool) -> None:
    """The default devices and links are there, with type, number, mode and owner, and they work."""
    if userns:
        bundle.userns()
    bundle.seq(
        LSTAT,
        *(["open", path, "rdwr"] for path in DEFAULT if path != "/dev/tty"),
        ["read", "/dev/zero", "4"],
        ["read", "/dev/null", "4"],
        ["open", "/dev/ptmx", "rdwr,noctty"],
    )
    result = runtime.run(bundle).ok()
    if userns:
        for path, number in DEFAULT.items():
            assert result.files[path]["rdev"] == number
    else:
        check_default_devices(result)
    assert set(result.outcomes("open").values()) == {"ok"}
    assert result.reads["/dev/zero"] == "\0\0\0\0"
    assert result.reads["/dev/null"] == ""


CONFIGURED: list[dict[str, Any]] = [
    {"path": "/dev/c", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
    {"path": "/dev/u", "type": "u", "major": 1, "minor": 7, "fileMode": 0o600},
    {"path": "/dev/sub/dir/b", "type": "b", "major": 7, "minor": 3, "fileMode": 0o660, "gid": 6},
    {"path": "/dev/p", "type": "p", "fileMode": 0o622, "uid": 9},
    {"path": "/tmp/elsewhere", "type": "c", "major": 10, "minor": 229, "fileMode": 0o4444, "uid": 5},
    {"path": "/dev/nowhere", "type": "c", "major": 4000, "minor": 70000},
]


@pytest.mark.parametrize(
    "userns",
    [
        pytest.param(False, marks=pytest.mark.peer_fails(runc="the change of owner takes the set-id bits away")),
        pytest.param(True, marks=pytest.mark.ocirun_only("the host's nodes are bound, whatever they are")),
    ],
)
def test_configured_devices(runtime: RuntimeCommand, bundle: Bundle, userns: bool) -> None:
    """Nodes of all kinds are there with their number, mode and owner, with missing directories; in a user namespace
    too, whether the host has such a node or not."""
    bundle.linux(devices=CONFIGURED)
    if userns:
        bundle.userns()
    paths = [entry["path"] for entry in CONFIGURED]
    bundle.seq(["lstat", *paths], ["open", "/dev/c", "rdonly"], ["read", "/dev/c", "2"])
    result = runtime.run(bundle).ok()
    files = result.files
    assert [(files[p]["type"], files[p].get("rdev"), files[p]["mode"]) for p in paths] == [
        ("char", [1, 5], 0o640),
        ("char", [1, 7], 0o600),
        ("block", [7, 3], 0o660),
        ("fifo", None, 0o622),
        ("char", [10, 229], 0o4444),
        ("char", [4000, 70000], 0o666),
    ]
    owners = [(files[p]["uid"], files[p]["gid"]) for p in paths]
    assert owners == [(7, 8), (0, 0), (0, 6), (9, 0), (5, 0), (0, 0)]
    assert result.outcomes("open")["/dev/c"] == "ok"
    assert result.reads["/dev/c"] == "\0\0"


@pytest.mark.parametrize("made_by", ["the kernel", "the image", "nobody"])
@pytest.mark.ocirun_only("they look at the host's /proc")
def test_core_is_a_link_where_there_is_one(runtime: RuntimeCommand, bundle: Bundle, made_by: str) -> None:
    """/dev/core leads to /proc/kcore of the container, and is not there where that is not."""
    if made_by != "the kernel":
        bundle.without_mount("/proc")
    if made_by == "the image":
        bundle.file("/proc/kcore")
    there = os.path.exists("/proc/kcore") if made_by == "the kernel" else made_by == "the image"
    result = runtime.run(bundle.seq(["lstat", "/dev/core"])).ok()
    assert result.files["/dev/core"].get("target") == ("/proc/kcore" if there else None)
    assert result.files["/dev/core"].get("errno") == (None if there else "ENOENT")


@pytest.mark.userns
@pytest.mark.ocirun_only("the host's nodes are bound")
def test_default_devices_belong_to_root_in_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """There too they are what the specification says, and nothing that the container does to them reaches the host."""
    before = os.stat("/dev/null")
    bundle.userns().capabilities("CAP_CHOWN", "CAP_FOWNER")
    bundle.seq(LSTAT, ["syscall", "fchmodat", "-100", "str:/dev/null", "0600"], ["lstat", "/dev/null"])
    result = runtime.run(bundle).ok()
    assert result.one("syscall")["ret"] == 0
    assert result.files["/dev/null"]["mode"] == 0o600
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    check_default_devices(runtime.run(bundle.again().seq(LSTAT)).ok())


@pytest.mark.userns
@pytest.mark.ocirun_only("the host's nodes are bound")
def test_nodes_leave_no_mount(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """In a user namespace each node is a mount of its own; where they were made cannot be reached any more."""
    mountinfo = runtime.report(bundle.userns().seq("report"))["mountinfo"]
    targets = [mount.target for mount in mounts(mountinfo)]
    assert sorted(target for target in targets if target in DEFAULT) == sorted(DEFAULT)
    own = {entry["destination"] for entry in bundle.spec["mounts"]} | {"/", *DEFAULT}
    assert set(targets) <= own


@pytest.mark.userns
@pytest.mark.parametrize("namespace", ["new", "joined"])
@pytest.mark.ocirun_only("the host's nodes are bound")
def test_owner_of_devices_of_odd_maps(runtime: RuntimeCommand, mkbundle: MkBundle, namespace: str) -> None:
    """Owners are found through maps of several ranges, those of a joined namespace as well."""
    uids = [{"containerID": 0, "hostID": 300000, "size": 5}, {"containerID": 100, "hostID": 5000, "size": 10}]
    gids = [{"containerID": 50, "hostID": 600, "size": 5}, {"containerID": 0, "hostID": 300000, "size": 5}]
    holder = mkbundle().namespaces("user").linux(uidMappings=uids, gidMappings=gids)
    bundle = holder
    if namespace == "joined":
        pid = runtime.create(holder.seq("sleep")).start().pid
        bundle = mkbundle().namespaces({"type": "user", "path": f"/proc/{pid}/ns/user"})
    os.chown(bundle.rootfs, 300000, 300000)
    device = {"path": "/dev/c", "type": "c", "major": 1, "minor": 5, "uid": 103, "gid": 52}
    bundle.linux(devices=[device]).seq(["lstat", "/dev/c", "/dev/null"])
    files = runtime.run(bundle).ok().files
    assert [(files[p]["uid"], files[p]["gid"]) for p in ("/dev/c", "/dev/null")] == [(103, 52), (0, 0)]


@pytest.mark.userns
@pytest.mark.ocirun_only("any existing file is taken for the device")
def test_image_in_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The empty files that an earlier run left are used again; a file with content is an error there too."""
    bundle.userns().without_mount("/dev").dir("/dev")
    os.chown(bundle.inside("/dev"), 100000, 100000)
    bundle.linux(devices=[{"path": "/dev/special", "type": "c", "major": 1, "minor": 5}]).seq(["lstat", "/dev/special"])
    for _ in range(2):
        assert runtime.run(bundle.again()).ok().files["/dev/special"]["rdev"] == [1, 5]
    assert bundle.inside("/dev/special").is_file()
    bundle.file("/dev/special", "no device")
    runtime.run(bundle.again()).refused("/linux/devices/0", "/dev/special")


@pytest.mark.userns
@pytest.mark.parametrize(
    "wrong",
    [{"minor": 77}, {"type": "b"}, {"fileMode": 0o600}, {"uid": 7}, {"gid": 8}, {"path": "/dev/none", "minor": 77}],
    ids=str,
)
@pytest.mark.ocirun_only("the host's nodes are bound, whatever they are")
def test_nodes_of_the_host(runtime: RuntimeCommand, bundle: Bundle, wrong: dict[str, Any]) -> None:
    """A runtime without power over the host binds its nodes, if they are what the configuration asks for; a fifo it
    can make."""
    right = {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0}
    fifo = {"path": "/dev/fifo", "type": "p", "fileMode": 0o640, "gid": 3}
    weak = runtime.under(*nested())
    bundle.linux(devices=[fifo, right]).seq(["lstat", "/dev/zero", "/dev/fifo"], ["open", "/dev/zero", "rdwr"])
    result = weak.run(bundle).ok()
    assert result.files["/dev/zero"]["rdev"] == [1, 5]
    assert (result.files["/dev/fifo"]["mode"], result.files["/dev/fifo"]["gid"]) == (0o640, 3)
    assert result.outcomes("open")["/dev/zero"] == "ok"
    bundle.again().linux(devices=[fifo, right | wrong])
    error = weak.run(bundle).refused("/linux/devices/1", wrong.get("path", "/dev/zero")).stderr
    assert "ENOENT" in error if "path" in wrong else "the host's node has another" in error


def test_matching_node_of_the_image_is_kept(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A node that the image has and that is the wanted one is accepted."""
    bundle.without_mount("/dev").device("/dev/special", "c", 1, 5).device("/dev/null", "c", 1, 3)
    bundle.linux(devices=[{"path": "/dev/special", "type": "c", "major": 1, "minor": 5}])
    result = runtime.run(bundle.seq(["lstat", "/dev/special", "/dev/null"])).ok()
    assert result.files["/dev/special"]["rdev"] == [1, 5]


@pytest.mark.parametrize(
    "prepare",
    [
        lambda b: b.device("/dev/special", "c", 1, 7),
        lambda b: b.device("/dev/special", "b", 1, 5),
        lambda b: b.file("/dev/special", "no device"),
        lambda b: b.dir("/dev/special"),
    ],
    ids=["number", "type", "file", "directory"],
)
@pytest.mark.ocirun_only("any existing file is taken for the device")
def test_other_node_of_the_image_is_an_error(
    runtime: RuntimeCommand, bundle: Bundle, prepare: Callable[[Bundle], Bundle]
) -> None:
    """Spec: an existing file that is not the wanted device MUST be an error."""
    prepare(bundle.without_mount("/dev"))
    bundle.linux(devices=[{"path": "/dev/special", "type": "c", "major": 1, "minor": 5}])
    runtime.run(bundle).refused("/dev/special")


@pytest.mark.parametrize(
    "device",
    [
        {"path": "/dev/x", "type": "x", "major": 1, "minor": 5},
        {"path": "/dev/x", "type": "c"},
        {"path": "dev/x", "type": "c", "major": 1, "minor": 5},
        {"path": "", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/x", "type": "c", "major": -1, "minor": 5},
        {"type": "c", "major": 1, "minor": 5},
    ],
    ids=str,
)
@pytest.mark.ocirun_only("not all of them are checked")
def test_device_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, device: dict[str, Any]) -> None:
    """An unknown type, missing numbers and a path that is not absolute are refused."""
    runtime.run(bundle.linux(devices=[device])).refused("devices")


def test_no_default_access_to_other_devices(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-46: with a default-deny list root may make nodes but not open them; the defaults work."""
    bundle.linux(
        resources={
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "r"},
            ]
        }
    )
    bundle.seq(
        ["mknod", "/tmp/loop0", "b", "7", "0"],
        ["mknod", "/tmp/loop1", "b", "7", "1"],
        ["mknod", "/tmp/kmsg", "c", "1", "11"],
        ["mknod", "/tmp/console", "c", "5", "1"],
        ["open", "/tmp/loop0", "rdonly"],
        ["open", "/tmp/loop1", "rdonly"],
        ["open", "/tmp/loop1", "rdwr"],
        ["open", "/tmp/kmsg", "rdonly"],
        ["open", "/tmp/console", "rdonly"],
        ["open", "/dev/null", "rdwr"],
        ["read", "/dev/urandom", "1"],
    )
    result = runtime.run(bundle).ok()
    opened = [line.get("errno", "ok") for line in result.all("open")]
    if opened[1] == "ENXIO":
        opened[1] = "ok"  # let pass, and then taken from its file by somebody else just now
    assert opened == ["EPERM", "ok", "EPERM", "EPERM", "EPERM", "ok"]
    assert len(result.reads["/dev/urandom"]) == 1


# ---- S-29: /dev as the image has it --------------------------------------------------------------


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize(
    "target",
    [
        *(
            pytest.param(word, marks=pytest.mark.peer_fails(runc="1.1.5: CVE-2026-41579"))
            for word in ("absolute", "relative")
        ),
        "inside",
        "parent",
    ],
)
def test_dev_is_a_link(runtime: RuntimeCommand, bundle: Bundle, canary: Canary, mounted: bool, target: str) -> None:
    """S-29, CVE-2026-41579: with /dev a link nothing is made or removed outside the root."""
    (canary.path / "ptmx")  # the name that runc used to remove there
    where = {
        "absolute": str(canary.path),
        "relative": "../../../../../.." + str(canary.path),
        "inside": "/tmp",
        "parent": "..",
    }[target]
    bundle.remove("/dev").symlink("/dev", where)
    if not mounted:
        bundle.without_mount("/dev")
    result = runtime.run(bundle.seq(LSTAT))
    canary.assert_untouched()
    if result.rc != 0:
        result.refused()


NODES = (
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "ptmx",
    "fd",
    "stdin",
    "core",
    "console",
)
EVIL: dict[str, Callable[[Bundle, str, Canary], object]] = {
    "link-outside": lambda b, p, c: b.symlink(p, str(c.file)),
    "link-to-directory": lambda b, p, c: b.symlink(p, str(c.path / "empty")),
    "link-up": lambda b, p, c: b.symlink(p, "../../../../../../.." + str(c.file)),
    "dangling-outside": lambda b, p, c: b.symlink(p, str(c.path / "new")),
    "file": lambda b, p, c: b.file(p, "image"),
    "directory": lambda b, p, c: b.dir(p),
    "fifo": lambda b, p, c: b.fifo(p),
    "other-device": lambda b, p, c: b.device(p, "c", 1, 8),
}


@pytest.mark.parametrize("evil", list(EVIL))
@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.ocirun_only("the peers keep what the image has in the place of a device")
def test_image_puts_something_in_the_place_of_devices(
    runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, evil: str, userns: bool
) -> None:
    """S-29: without a /dev mount each default device is right inside, or create fails."""
    for name in (NODES[number] for number in spread(len(NODES))):
        bundle = mkbundle().without_mount("/dev").remove("/dev").dir("/dev")
        if userns:
            bundle.userns()
            os.chown(bundle.inside("/dev"), 100000, 100000)
        EVIL[evil](bundle, f"/dev/{name}", canary)
        result = runtime.run(bundle.seq(LSTAT))
        canary.assert_untouched()
        if result.rc != 0:
            result.refused()
            continue
        for path, number in DEFAULT.items():
            assert result.files[path].get("rdev") == number, (evil, name, result.files[path])
