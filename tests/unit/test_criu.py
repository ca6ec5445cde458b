# SPDX-License-Identifier: Apache-2.0
"""CRIU's messages as bytes, its log, and the names of what it is to leave alone; no CRIU is needed for that."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cli.migration import parse_server
from ocirun.cli.parser import UsageError
from ocirun.criu.images import (
    DESCRIPTORS,
    Directories,
    check_config,
    check_privileges,
    config_file,
    external_mounts,
    is_file,
    is_replaced,
    resolve_inside,
)
from ocirun.criu.log import find_reasons
from ocirun.criu.options import CheckpointOptions, RestoreOptions
from ocirun.criu.protobuf import BOOLEAN, INTEGER, TEXT, decode, encode
from ocirun.criu.rpc import OPTIONS, REQUEST, RESPONSE
from ocirun.errors import InvalidConfig, KernelError, OcirunError, UnsupportedFeature
from ocirun.spec.model import Config

# -- protobuf --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "content"),
    [
        # As protoc has them, by hand from the specification of the encoding.
        ({"type": 1}, b"\x08\x01"),
        ({"type": 150}, b"\x08\x96\x01"),
        ({"notify_success": True}, b"\x18\x01"),
        ({"notify_success": False}, b"\x18\x00"),
        ({"opts": {"log_file": "a.log"}}, b"\x12\x07\x52\x05a.log"),
        ({"opts": {"images_dir_fd": -1}}, b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01"),
        ({"opts": {"external": ["x", "yz"]}}, b"\x12\x09\xaa\x02\x01x\xaa\x02\x02yz"),
        ({"opts": {"network_lock": 3}}, b"\x12\x03\x80\x04\x03"),
        ({"opts": {"inherit_fd": [{"key": "k", "fd": 4}]}}, b"\x12\x08\xda\x01\x05\x0a\x01k\x10\x04"),
        ({"opts": {"root": None}}, b"\x12\x00"),
    ],
)
def test_known_bytes(message: dict[str, Any], content: bytes) -> None:
    """Numbers, text, messages inside, and what may be repeated."""
    assert encode(REQUEST, message) == content


FIELDS = {"number": (1, INTEGER), "yes": (2, BOOLEAN), "text": (3, TEXT), "inside": (300, {"number": (1, INTEGER)})}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "number": st.integers(-(2**31), 2**32 - 1),
            "yes": st.booleans(),
            "text": st.text(),
            "inside": st.fixed_dictionaries({}, optional={"number": st.integers(0, 2**32 - 1)}),
        },
    )
)
def test_what_is_encoded_is_decoded(message: dict[str, Any]) -> None:
    """In any combination."""
    assert decode(FIELDS, encode(FIELDS, message)) == message


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_an_error(content: bytes) -> None:
    """CRIU is no enemy, but it may be broken: no other exception, no endless loop."""
    try:
        decode(RESPONSE, content)
    except ValueError:
        pass


def test_unknown_fields_are_passed_over() -> None:
    """A newer CRIU says more: varints, 64 and 32 bits, bytes."""
    extra = b"\xf8\x07\x01\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + b"\xfa\x07\x02ab"
    assert decode(RESPONSE, extra + b"\x08\x01" + extra + b"\x10\x01") == {"type": 1, "success": True}


def test_the_numbers_of_fields_are_all_different() -> None:
    """None of our tables has a number twice."""
    for fields in (OPTIONS, REQUEST, RESPONSE):
        numbers = [number for number, _ in fields.values()]
        assert len(set(numbers)) == len(numbers)


# -- the log ---------------------------------------------------------------------------------------------------------


def test_reasons_of_a_log() -> None:
    """The texts of its errors in their order, once each, without what is none or only says that there was one."""
    log = """\
(00.000100) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.000200) Warn  (criu/x.c:1): an Error of sorts
(00.000250) Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory
(00.000300)      1: Error (criu/files.c:10): Can't open file a: b
pie: 1: Error (criu/pie/restorer.c:3): it is too late
(00.000300)      1: Error (criu/files.c:10): Can't open file a: b
Error: ipv4: Address already assigned.
(00.000400) /a/file Error (not): this one
(00.000500) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""
    assert find_reasons(log) == ["Can't open file a: b", "it is too late"]
    assert find_reasons("") == []


# -- names -----------------------------------------------------------------------------------------------------------


def test_descriptors_that_are_replaced() -> None:
    """Pipes, and files of the host; what is no name of CRIU's is nothing, since images may come from anywhere."""
    assert [is_replaced(each) for each in ("pipe:[12]", "file[1a:ff]", "/dev/null", "", "pipe:[1", "pipe:[x]")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert not is_file("file[/etc/passwd]")


def test_resolve_inside(tmp_path: Path) -> None:
    """Links of the container are followed, and never out of it; what is not there is nothing."""
    (tmp_path / "a/b").mkdir(parents=True)
    os.symlink("/a", tmp_path / "absolute")
    os.symlink("../../../a", tmp_path / "a/up")
    os.symlink("loop", tmp_path / "loop")
    root = str(tmp_path)
    assert resolve_inside(root, "/absolute/b") == "/a/b"
    assert resolve_inside(root, "/a/up/b") == "/a/b"
    assert resolve_inside(root, "/a/../../a/./b") == "/a/b"
    assert resolve_inside(root, "/absolute/nothing") is None
    assert resolve_inside(root, "/loop") is None
    assert resolve_inside(root, "/") == "/"


def test_external_mounts() -> None:
    """Binds by their destinations, as config.json writes them, and all device nodes; no file systems of its own."""
    mounts = [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/data//x", "type": "bind", "source": "here"},
        {"destination": "/more", "type": "none", "source": "/there", "options": ["rbind"]},
        {"destination": "/more", "options": ["bind", "remount", "ro"]},
        {"destination": "/tmp", "type": "tmpfs"},
    ]
    config = Config.decode(
        {
            "ociVersion": "1.0.0",
            "root": {"path": "rootfs"},
            "mounts": mounts,
            "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]},
        }
    )
    found = external_mounts(config, ())
    assert (found["/data/x"], found["/more"], found["/dev/fuse"]) == ("here", "/there", "/dev/fuse")
    assert {"/proc", "/tmp"}.isdisjoint(found)


@pytest.mark.parametrize("own_cgroups", [False, True])
def test_cgroups_without_a_namespace(own_cgroups: bool) -> None:
    """What a mount of cgroups shows is the host's, unless the container has a cgroup namespace of its own."""
    namespaces = [{"type": "cgroup"}] if own_cgroups else []
    mounts = [{"destination": "/sys/fs/cgroup", "type": "cgroup"}]
    found = external_mounts(Config.decode({"ociVersion": "1.0.0", "mounts": mounts, "linux": {"namespaces": namespaces}}), ())
    assert found.get("/sys/fs/cgroup") == (None if own_cgroups else "/sys/fs/cgroup")


# -- what is refused -------------------------------------------------------------------------------------------------


def test_what_would_be_lost() -> None:
    """All of it at once, each with its place in config.json; and nothing else."""
    ids = [{"containerID": 0, "hostID": 1000, "size": 1}]
    kinds = ("network", "mount", "pid", "ipc", "uts", "time", "user", "cgroup")
    document: dict[str, Any] = {
        "ociVersion": "1.0.0",
        "mounts": [
            {"destination": "/a", "type": "tmpfs"},
            {"destination": "/b", "type": "tmpfs", "uidMappings": ids, "gidMappings": ids},
            {"destination": "/c", "source": "/", "options": ["rbind", "ridmap"]},
        ],
        "linux": {
            "namespaces": [{"type": each, "path": f"/of/{each}"} for each in kinds],
            "netDevices": {"eth0": {}},
            "seccomp": {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/agent"},
        },
    }
    with pytest.raises(InvalidConfig) as caught:
        check_config(Config.decode(document))
    assert [(each.gate, each.pointer) for each in caught.value.problems] == [
        ("host", "/mounts/1"),
        ("host", "/mounts/2"),
        ("host", "/linux/namespaces/1/path"),
        ("host", "/linux/namespaces/6/path"),
        ("host", "/linux/namespaces/7/path"),
        ("host", "/linux/netDevices"),
        ("host", "/linux/seccomp/listenerPath"),
    ]
    document |= {
        "mounts": document["mounts"][:1],
        "linux": {"namespaces": [{"type": each} for each in kinds], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    }
    check_config(Config.decode(document))


@pytest.mark.parametrize(("rootless", "in_user_namespace"), [(True, False), (False, True), (True, True)])
def test_who_is_not_root_of_the_host(rootless: bool, in_user_namespace: bool) -> None:
    """CRIU needs what only root of the host may do."""
    facts: Any = SimpleNamespace(rootless=rootless, in_user_namespace=in_user_namespace)
    with pytest.raises(UnsupportedFeature, match="root of the host"):
        check_privileges(facts)
    facts = SimpleNamespace(rootless=False, in_user_namespace=False)
    check_privileges(facts)


# -- directories -----------------------------------------------------------------------------------------------------


def test_directories_are_made_and_taken_back(tmp_path: Path) -> None:
    """Memory will be in them, so nobody else may look; what was made goes again, unless something is in it."""
    images, work = tmp_path / "a/images", tmp_path / "b/work"
    made = Directories(str(images), str(work), make_images=True)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (images.parent, images, work)] == [0o700] * 3
    made.write_descriptors(["pipe:[1]"])
    assert stat.S_IMODE((images / DESCRIPTORS).stat().st_mode) == 0o600
    assert made.read_descriptors() == ["pipe:[1]"]
    made.close(undo=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a"]
    with pytest.raises(FileNotFoundError):
        Directories(str(tmp_path / "none"), str(work), make_images=False)
    assert not work.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "{}", '"pipe:[1]"', "[1]", '["a", "b", "c", "d"]'], ids=["", "{", "{}", "text", "number", "four"]
)
def test_descriptors_that_are_none(tmp_path: Path, content: str) -> None:
    """Images may come from anywhere."""
    (tmp_path / DESCRIPTORS).write_text(content)
    directories = Directories(str(tmp_path), None, make_images=False)
    try:
        with pytest.raises(OcirunError, match=DESCRIPTORS):
            directories.read_descriptors()
    finally:
        directories.close()


@pytest.mark.parametrize(("kind", "errno_name"), [("nothing", "ENOENT"), ("link", "ELOOP"), ("fifo", "")])
def test_descriptors_that_are_no_file(tmp_path: Path, kind: str, errno_name: str) -> None:
    """No link is followed, and nobody waits for a FIFO."""
    path = tmp_path / DESCRIPTORS
    if kind == "link":
        (tmp_path / "other").write_text("[]")
        path.symlink_to("other")
    elif kind == "fifo":
        os.mkfifo(path)
    directories = Directories(str(tmp_path), None, make_images=False)
    try:
        with pytest.raises(OcirunError, match=DESCRIPTORS) as caught:
            directories.read_descriptors()
    finally:
        directories.close()
    if errno_name:
        assert isinstance(caught.value, KernelError)
        assert errno_name in str(caught.value)
        assert "checkpoint" in (caught.value.hint or "")


@pytest.mark.root
def test_images_that_the_container_covers(tmp_path: Path) -> None:
    """CRIU works among the container's mounts: what one of them covers is not what was named."""
    (tmp_path / "images").mkdir()
    (tmp_path / "work").mkdir()
    directories = Directories(str(tmp_path / "images"), str(tmp_path / "work"), make_images=False)
    words = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs over "$1" && echo && read -r _', "sh", str(tmp_path / "work"))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        try:
            directories.reopen(os.getpid())
            with pytest.raises(OcirunError, match=f"{tmp_path}/work: lies below a mount"):
                directories.reopen(process.pid)
        finally:
            directories.close()
            process.kill()


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"manage_cgroups_mode": "hard"}, {"network_lock": "none"}, {"parent_path": "/a"}, {"status_fd": 9999}]
)
def test_options_that_cannot_be_meant(changes: dict[str, Any]) -> None:
    """Refused before there is a CRIU."""
    with pytest.raises(OcirunError):
        CheckpointOptions(**changes)


def test_status_fd_must_be_writable() -> None:
    """Else nobody would hear of it."""
    reader, writer = os.pipe()
    try:
        with pytest.raises(OcirunError, match="cannot be written to"):
            CheckpointOptions(status_fd=reader)
        CheckpointOptions(status_fd=writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_features_that_are_needed() -> None:
    """Of the kernel, through CRIU."""
    assert CheckpointOptions().features == []
    assert CheckpointOptions(pre_dump=True).features == ["mem_track"]
    assert CheckpointOptions(pre_dump=True, lazy_pages=True).features == ["mem_track", "lazy_pages"]
    assert RestoreOptions("images", lazy_pages=True).request["lazy_pages"] is True


def test_page_servers() -> None:
    """ADDRESS:PORT, and brackets around an address with colons."""
    assert parse_server(None) is None
    assert parse_server("10.0.0.1:27") == ("10.0.0.1", 27)
    assert parse_server("[fe80::1]:65535") == ("fe80::1", 65535)
    for text in ("host", ":1", "host:", "host:x", "host:65536", "host:-1"):
        with pytest.raises(UsageError):
            parse_server(text)


@pytest.mark.root
def test_the_file_of_the_annotation(tmp_path: Path) -> None:
    """It can make CRIU run programs: only root may have written it, and it is none of the image's."""
    own = tmp_path / "own.conf"
    own.write_text("")
    own.chmod(0o644)
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    (rootfs / "image.conf").write_text("")
    writable = tmp_path / "writable"
    writable.mkdir()
    writable.chmod(0o777)
    (writable / "any.conf").write_text("")
    os.symlink(own, tmp_path / "link")
    (tmp_path / "group.conf").write_text("")
    (tmp_path / "group.conf").chmod(0o664)
    (tmp_path / "theirs.conf").write_text("")
    os.chown(tmp_path / "theirs.conf", 1000, 0)

    def chosen(path: object) -> str | None:
        return config_file({"org.criu.config": str(path)}, str(rootfs))

    assert chosen(own) == str(own)
    assert chosen("") is None
    assert chosen(tmp_path / "missing") is None
    mine = [tmp_path / name for name in ("link", "group.conf", "theirs.conf")]
    for bad in ("relative", rootfs / "image.conf", writable / "any.conf", *mine, rootfs / ".." / "link"):
        with pytest.raises(UnsupportedFeature) as caught:
            chosen(bad)
        assert caught.value.json_pointer == "/annotations/org.criu.config"
