# SPDX-License-Identifier: Apache-2.0
"""CRIU's messages as bytes, its log, and the names of what it is to leave alone; no CRIU is needed for that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cli.migration import parse_server
from ocirun.cli.parser import UsageError
from ocirun.criu.images import config_file, external_mounts, is_file, is_replaced, resolve_inside
from ocirun.criu.log import find_reasons
from ocirun.criu.options import CheckpointOptions, RestoreOptions
from ocirun.criu.protobuf import BOOLEAN, INTEGER, TEXT, decode, encode
from ocirun.criu.rpc import OPTIONS, REQUEST, RESPONSE
from ocirun.errors import OcirunError, UnsupportedFeature
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

    def chosen(path: object) -> str | None:
        return config_file({"org.criu.config": str(path)}, str(rootfs))

    assert chosen(own) == str(own)
    assert chosen("") is None
    assert chosen(tmp_path / "missing") is None
    for bad in ("relative", rootfs / "image.conf", writable / "any.conf", tmp_path / "link", rootfs / ".." / "link"):
        with pytest.raises(UnsupportedFeature) as caught:
            chosen(bad)
        assert caught.value.json_pointer == "/annotations/org.criu.config"
