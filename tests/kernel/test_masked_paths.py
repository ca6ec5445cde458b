# SPDX-License-Identifier: Apache-2.0
"""linux.maskedPaths and linux.readonlyPaths."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import SECRET, Canary
from support.command import RuntimeCommand
from support.report import mount_at, mounts

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def with_secrets(bundle: Bundle) -> Bundle:
    """Add a file and a directory that are worth masking."""
    return bundle.file("/secret.txt", SECRET).file("/secretdir/file", SECRET)


def test_masked_paths(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A masked file reads empty, a masked directory is empty and read-only, a missing one is ignored."""
    paths = [
        "/secret.txt",
        "/secretdir",
        "/nosuch/path",
        "/proc/keys",
        "/proc/timer_list",
        "/secretdir",
    ]
    with_secrets(bundle).linux(maskedPaths=paths)
    bundle.seq(
        ["read", "/secret.txt"],
        ["read", "/secretdir/file"],
        ["ls", "/secretdir"],
        ["create", "/secretdir/new", "x"],
        ["read", "/proc/timer_list"],
        ["stat", "/secret.txt", "/proc/keys", "/secretdir"],
    )
    result = runtime.run(bundle).ok()
    assert result.reads["/secret.txt"] == result.reads["/proc/timer_list"] == ""
    assert result.reads["/secretdir/file"] == ("ENOENT",)
    assert result.one("ls")["names"] == []
    assert result.outcomes("create")["/secretdir/new"] == "EROFS"
    assert result.files["/secret.txt"].get("rdev") == result.files["/proc/keys"].get("rdev") == [1, 3]
    assert bundle.inside("/secret.txt").read_text() == SECRET


def test_masked_path_through_a_link(runtime: RuntimeCommand, bundle: Bundle, canary: Canary) -> None:
    """S-26: the mask lies on what the link means inside the root, never outside."""
    with_secrets(bundle).symlink("/link", "secret.txt").symlink("/out", str(canary.file))
    bundle.linux(maskedPaths=["/link", "/out"]).seq(["read", "/secret.txt"])
    result = runtime.run(bundle)
    canary.assert_untouched()
    if result.rc == 0:
        assert result.reads["/secret.txt"] == ""
    else:
        result.refused("/link")


@pytest.mark.parametrize(
    ("prepare", "path"),
    [
        (lambda b: b.symlink("/loop", "loop"), "/loop"),
        (lambda b: b.file("/file"), "/file/below"),
        (lambda b: b, "/" + "n" * 256),
    ],
    ids=["loop", "below-file", "long"],
)
def test_mask_target_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, prepare: Callable[[Bundle], Bundle], path: str
) -> None:
    """S-26: only a missing target is ignored; any other error fails the create."""
    if path == "/file/below" and runtime.name != "ocirun":
        pytest.skip("peer: ENOTDIR is ignored by some versions")
    runtime.run(prepare(bundle).linux(maskedPaths=[path])).refused()


EVIL: dict[str, Callable[[Bundle, Canary], object]] = {
    "link-outside": lambda b, c: b.symlink("/dev/null", str(c.file)),
    "link-up": lambda b, c: b.symlink("/dev/null", "../../../../../../../.." + str(c.file)),
    "link-inside": lambda b, c: b.file("/other", "x").symlink("/dev/null", "/other"),
    "link-to-proc": lambda b, c: b.symlink("/dev/null", "/proc/self/attr/current"),
    "file": lambda b, c: b.file("/dev/null", "x"),
    "zero": lambda b, c: b.device("/dev/null", "c", 1, 5),
    "tty": lambda b, c: b.device("/dev/null", "c", 5, 0),
    "block": lambda b, c: b.device("/dev/null", "b", 1, 3),
    "fifo": lambda b, c: b.fifo("/dev/null"),
    "directory": lambda b, c: b.dir("/dev/null"),
    "missing": lambda b, c: b,
}


@pytest.mark.parametrize("evil", list(EVIL))
@pytest.mark.ocirun_only("runc 1.1.5 and crun 1.8.1: CVE-2025-31133")
def test_masks_fail_closed(runtime: RuntimeCommand, bundle: Bundle, canary: Canary, evil: str) -> None:
    """S-25, CVE-2025-31133: with any /dev/null in the image the secrets stay hidden or create fails."""
    with_secrets(bundle).without_mount("/dev").linux(maskedPaths=["/secret.txt", "/secretdir", "/does-not-exist"])
    EVIL[evil](bundle, canary)
    bundle.seq(
        ["read", "/secret.txt"], ["read", "/secretdir/file"], ["write", "/secret.txt", "x"],
        ["stat", "/secret.txt"],
    )  # fmt: skip
    result = runtime.run(bundle)
    canary.assert_untouched()
    if result.rc == 0:
        assert result.reads["/secret.txt"] == ""
        assert result.reads["/secretdir/file"] == ("ENOENT",)
        assert result.files["/secret.txt"]["rdev"] == [1, 3]
    else:
        result.refused()


def test_masks_in_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Masks hold in a user namespace, and the container's root cannot take them away."""
    with_secrets(bundle).userns().linux(maskedPaths=["/secret.txt", "/secretdir", "/proc/kcore"])
    bundle.capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    bundle.seq(
        ["read", "/secret.txt"],
        ["ls", "/secretdir"],
        ["syscall", "umount2", "str:/secret.txt", "2"],
        ["syscall", "umount2", "str:/secretdir", "2"],
    )
    result = runtime.run(bundle).ok()
    assert result.reads["/secret.txt"] == ""
    assert result.one("ls")["names"] == []


def test_many_masks(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-26: a thousand masks, with duplicates and nested ones, with few descriptors."""
    import resource

    for number in range(250):
        bundle.file(f"/d/{number}/file", SECRET).file(f"/f{number}", SECRET)
    paths = [p for n in range(250) for p in (f"/d/{n}", f"/f{n}", f"/f{n}", f"/d/{n}/file")]
    bundle.linux(maskedPaths=paths)
    bundle.seq(["read", "/f249"], ["ls", "/d/249"])

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000))

    result = runtime.run(bundle, before_exec=few_descriptors).ok()
    assert result.reads["/f249"] == ""
    assert result.one("ls")["names"] == []


# ---- read-only paths -----------------------------------------------------------------------------


def test_readonly_paths(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-27: writes fail with EROFS, what the mount already forbids is kept, missing ones are ignored."""
    bundle.file("/ro/file", "x").mount("/m", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec")
    bundle.linux(readonlyPaths=["/ro", "/m", "/proc/sys", "/nosuch", "/probe"])
    bundle.seq(
        "report",
        ["create", "/ro/new", "x"],
        ["create", "/m/new", "x"],
        ["write", "/ro/file", "x"],
        ["write", "/proc/sys/kernel/hostname", "x"],
        ["open", "/probe", "wronly"],
        ["syscall", "mount", "str:none", "str:/ro", "0", "0x1020", "0"],
        ["read", "/ro/file"],
    )
    result = runtime.run(bundle).ok()
    assert result.outcomes("create") == {"/ro/new": "EROFS", "/m/new": "EROFS"}
    assert result.outcomes("write") == {
        "/ro/file": "EROFS",
        "/proc/sys/kernel/hostname": "EROFS",
    }
    assert result.outcomes("open")["/probe"] in ("EROFS", "ETXTBSY")
    assert result.one("syscall")["errno"] == "EPERM"
    assert result.reads["/ro/file"] == "x"
    flags = mount_at(result.report["mountinfo"], "/m").options
    assert {"ro", "nosuid", "nodev", "noexec"} <= flags


@pytest.mark.kernel("5.12")
@pytest.mark.peer_fails(
    runc="leaves submounts of readonlyPaths writable",
    crun="leaves submounts of readonlyPaths writable",
)
def test_readonly_path_with_a_submount(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-27: a mount below a read-only path is read-only as well."""
    bundle.dir("/ro/sub").mount("/ro/sub", "tmpfs", "tmpfs").linux(readonlyPaths=["/ro"])
    result = runtime.run(bundle.seq(["create", "/ro/sub/new", "x"], "report")).ok()
    assert result.outcomes("create")["/ro/sub/new"] == "EROFS"


def test_readonly_path_through_a_link(runtime: RuntimeCommand, bundle: Bundle, canary: Canary) -> None:
    """A link leads to a place inside the root, or is refused."""
    bundle.dir("/real").symlink("/link", "/real").symlink("/out", str(canary.path))
    bundle.linux(readonlyPaths=["/link", "/out"]).seq(["create", "/real/new", "x"])
    result = runtime.run(bundle)
    canary.assert_untouched()
    if result.rc == 0:
        assert result.outcomes("create")["/real/new"] == "EROFS"
    else:
        result.refused("link")


@pytest.mark.parametrize("member", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("value", [["relative"], [""], "not-a-list", [1]], ids=str)
@pytest.mark.ocirun_only("relative paths are not checked by all")
def test_paths_must_be_absolute(runtime: RuntimeCommand, bundle: Bundle, member: str, value: Any) -> None:
    """Masked and read-only paths are lists of absolute paths."""
    runtime.run(bundle.linux(**{member: value})).refused(member)


def test_masked_directories_do_not_show_the_host(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """No path of the host appears in the container's mount table."""
    with_secrets(bundle).linux(maskedPaths=["/secret.txt", "/secretdir"], readonlyPaths=["/etc"])
    mountinfo = runtime.report(bundle)["mountinfo"]
    state_root = os.fspath(runtime.root)
    assert all(state_root not in mount.root for mount in mounts(mountinfo))
