# SPDX-License-Identifier: Apache-2.0
"""config.json: root, linux.rootfsPropagation, and what the image puts in the way of /proc and /sys."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import Canary
from support.command import RuntimeCommand
from support.native import FaultK
from support.report import mount_at, mounts

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def test_read_only_root(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """root.readonly holds for the root alone: mounts in it stay as they are."""
    bundle.patch({"root": {"readonly": True}}).dir("/m").mount("/m", "tmpfs", "tmpfs")
    bundle.seq(
        "report", ["create", "/new", "x"], ["create", "/m/new", "x"], ["create", "/dev/new", "x"],
        ["mknod", "/etc/n", "p", "0", "0"], ["syscall", "mount", "str:none", "str:/", "0", "0x1020", "0"],
    )  # fmt: skip
    result = runtime.run(bundle).ok()
    assert result.outcomes("create") == {"/new": "EROFS", "/m/new": "ok", "/dev/new": "ok"}
    assert result.outcomes("mknod")["/etc/n"] == "EROFS"
    assert result.one("syscall")["errno"] == "EPERM"
    assert "ro" in mount_at(result.report["mountinfo"], "/").options
    assert not bundle.inside("/new").exists()


def test_read_only_root_still_gets_its_mount_points(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Mount points are made before the root becomes read-only."""
    bundle.patch({"root": {"readonly": True}}).mount("/made/for/this", "tmpfs", "tmpfs")
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert mount_at(mountinfo, "/made/for/this").type == "tmpfs"


def test_root_path(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """root.path is relative to the bundle or absolute."""
    bundle.file("/mark", "yes\n").seq(["read", "/mark"])
    for path in ("rootfs", "./rootfs/", str(bundle.rootfs), "../" + bundle.path.name + "/rootfs"):
        bundle.again().patch({"root": {"path": path}})
        assert runtime.run(bundle, cwd="/").ok().reads["/mark"] == "yes\n"


@pytest.mark.parametrize(
    "root",
    [{"path": "nosuch"}, {"path": "config.json"}, {"path": ""}, {"path": None}, None],
    ids=str,
)
def test_root_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, root: dict[str, Any] | None) -> None:
    """A root that is missing or no directory is refused."""
    if root in ({"path": ""}, {"path": None}, None) and runtime.name != "ocirun":
        pytest.skip("peer: takes the bundle itself as the root")
    runtime.run(bundle.patch({"root": root})).refused()


def test_nothing_of_the_host_is_mounted(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """After pivot_root only the configured mounts are there, and ".." of the root is the root."""
    bundle.seq("report", ["stat", "/", "/.."])
    result = runtime.run(bundle).ok()
    own = {entry["destination"] for entry in bundle.spec["mounts"]} | {"/", "/dev/console"}
    assert {mount.target for mount in mounts(result.report["mountinfo"])} <= own
    assert result.files["/"]["ino"] == result.files["/.."]["ino"] == bundle.rootfs.stat().st_ino


@pytest.mark.ocirun_only("the old root stays mounted over the new one, or pivot_root fails")
def test_nothing_of_the_host_is_left_where_its_root_is_covered(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Where the host has a mount on top of "/" that nobody is in, detaching that is not detaching the host's root."""
    script = 'mount --make-rprivate / && mount -t tmpfs over / && exec "$@"'
    bundle.seq("report", ["stat", "/", "/.."])
    result = runtime.under("unshare", "-m", "sh", "-c", script, "sh").run(bundle).ok()
    own = {entry["destination"] for entry in bundle.spec["mounts"]} | {"/"}
    assert {mount.target for mount in mounts(result.report["mountinfo"])} == own
    assert result.files["/"]["ino"] == result.files["/.."]["ino"]


@pytest.mark.userns
@pytest.mark.parametrize(("number", "error"), [(0, errno.EINVAL), (1, errno.EINVAL), (2, errno.EPERM)])
@pytest.mark.ocirun_only("about our own order of calls")
def test_old_root_that_stays_is_an_error(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, number: int, error: int
) -> None:
    """Whichever umount2 fails, a container over which the host's root is left never starts."""
    # Here the nodes and the root are on top of "/", so that what is there has to be detached twice; that nothing is
    # left, which is EINVAL, is found by a third call.
    bundle.linux(rootfsPropagation="shared")
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"), only="umount2")
    result = runtime.under(*faultk.fail(number, error)).run(bundle.userns())
    assert faultk.calls()[number : number + 1] == ["init umount2"]
    result.refused("/root/path", "umount2")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {"private", "slave"}),
        ("private", {"private"}),
        ("slave", {"slave"}),
        pytest.param(
            "shared",
            {"shared", "slave+shared"},
            marks=pytest.mark.peer_fails(runc="leaves the root mount private"),
        ),
        pytest.param(
            "unbindable",
            {"unbindable"},
            marks=pytest.mark.peer_fails(runc="cannot bind the rootfs after making it unbindable"),
        ),
    ],
)
def test_rootfs_propagation(runtime: RuntimeCommand, bundle: Bundle, value: str | None, expected: set[str]) -> None:
    """rootfsPropagation is seen on the root mount."""
    bundle.linux(rootfsPropagation=value)
    assert mount_at(runtime.report(bundle)["mountinfo"], "/").propagation in expected


@pytest.mark.parametrize("value", ["private", "rprivate", "slave", "rslave", "shared", "rshared"])
def test_rootfs_propagation_leaves_the_mounts_theirs(runtime: RuntimeCommand, bundle: Bundle, value: str) -> None:
    """What a mount's own options say is not undone by rootfsPropagation."""
    bundle.linux(rootfsPropagation=value)
    bundle.mount("/a", "tmpfs", "tmpfs", "rshared").mount("/b", "tmpfs", "tmpfs", "rprivate")
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert mount_at(mountinfo, "/a").propagation == "shared"
    assert mount_at(mountinfo, "/b").propagation == "private"


WORDS = ("private", "slave", "shared", "unbindable")


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("value", [prefix + word for prefix in ("", "r") for word in WORDS])
@pytest.mark.ocirun_only("the root is bound before, so that little of it is true; r-forms are not all known")
def test_what_rootfs_propagation_does(
    runtime: RuntimeCommand, bundle: Bundle, value: str, userns: bool
) -> None:
    """Each form has its effect: later mounts of the host appear, mounts of the container appear in a bind of its root,
    or the root cannot be bound; and nothing goes out.  The r-forms, which engines send, are the same."""
    word = value.removeprefix("r")
    late, volume = bundle.inside("/late"), bundle.path / "volume"
    (volume / "sub").mkdir(parents=True)
    for path in ("/late", "/mnt", "/dir", "/m", "/v"):
        bundle.dir(path)
    if userns:
        bundle.userns()
    os.system(f"mount --bind '{volume}' '{volume}' && mount -t tmpfs sub '{volume}/sub'")
    try:
        bundle.linux(rootfsPropagation=value).mount("/m", "tmpfs", "tmpfs").mount("/v", None, "volume", "rbind")
        bundle.capabilities("CAP_SYS_ADMIN")
        bundle.seq(
            ["ls", "/late"],
            ["syscall", "mount", "str:/", "str:/mnt", "0", "0x1000", "0"],
            ["syscall", "mount", "str:own", "str:/mnt/dir", "str:tmpfs", "0", "0"],
            "report",
        )
        container = runtime.create(bundle)
        os.system(f"mount -t tmpfs late '{late}' && touch '{late}/file'")
        result = container.finish()
        assert "own" not in Path("/proc/self/mountinfo").read_text().split()
    finally:
        os.system(f"umount '{late}'; umount -R '{volume}'")
    assert (result.one("ls")["names"] == ["file"]) == (word in ("slave", "shared"))
    bound, _ = result.all("syscall")
    assert bound.get("errno") == ("EINVAL" if word == "unbindable" else None)
    mountinfo = result.report["mountinfo"]
    targets = {mount.target for mount in mounts(mountinfo)}
    # Under an unbindable root the second mount was made on the first's place, in the root itself.
    assert ("/dir" in targets) == (word == "shared")
    assert word in mount_at(mountinfo, "/").propagation
    # Each other mount has what its own options say, here nothing.
    assert mount_at(mountinfo, "/m").propagation == "private"


def test_rootfs_propagation_unknown(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """An unknown word is refused."""
    runtime.run(bundle.linux(rootfsPropagation="sideways")).refused()


def test_host_mounts_propagate_into_a_slave(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """With slave propagation a mount that the host makes later appears in the container."""
    source = bundle.path / "volume"
    (source / "sub").mkdir(parents=True)
    os.system(f"mount --bind '{source}' '{source}' && mount --make-shared '{source}'")
    try:
        bundle.linux(rootfsPropagation="slave").mount("/v", None, "volume", "rbind", "rslave")
        bundle.fifo("/go").seq("ready", ["read", "/go"], ["ls", "/v/sub"])
        container = runtime.create(bundle).start()
        container.line()
        os.system(f"mount -t tmpfs later '{source}/sub' && touch '{source}/sub/later'")
        bundle.inside("/go").write_text("go")
        assert container.line()["data"] == "go"
        assert container.line()["names"] == ["later"]
    finally:
        os.system(f"umount -R '{source}'")


# ---- S-13: /proc and /sys as the image has them --------------------------------------------------

REFUSED = {
    "absolute-link": lambda b, p, c: b.symlink(p, "/tmp"),
    "relative-link": lambda b, p, c: b.symlink(p, "tmp"),
    "link-outside": lambda b, p, c: b.symlink(p, str(c.path)),
    "link-up": lambda b, p, c: b.symlink(p, "../../../../../../.." + str(c.path)),
    "self-link": lambda b, p, c: b.symlink(p, p),
    "dangling": lambda b, p, c: b.symlink(p, "/nowhere"),
    "file": lambda b, p, c: b.file(p),
    "fifo": lambda b, p, c: b.fifo(p),
}


@pytest.mark.parametrize("path", ["/proc", "/sys"])
@pytest.mark.parametrize("kind", list(REFUSED))
def test_proc_and_sys_must_be_directories(
    runtime: RuntimeCommand, bundle: Bundle, canary: Canary, kind: str, path: str
) -> None:
    """S-13, CVE-2019-19921, CVE-2023-27561: a link or file in the place of /proc or /sys is refused."""
    bundle.mount("/sys", "sysfs", "sysfs", "ro")
    REFUSED[kind](bundle.remove(path), path, canary)
    runtime.run(bundle).refused(path.lstrip("/"))
    canary.assert_untouched()


@pytest.mark.parametrize("path", ["/proc", "/sys"])
@pytest.mark.parametrize("kind", ["missing", "full"])
def test_proc_and_sys_are_the_real_ones(runtime: RuntimeCommand, bundle: Bundle, path: str, kind: str) -> None:
    """S-13: a missing directory is made, a full one is mounted over."""
    bundle.mount("/sys", "sysfs", "sysfs", "ro").remove(path)
    if kind == "full":
        bundle.file(f"{path}/self/status", "fake").file(f"{path}/kernel/x", "fake")
    bundle.seq(["stat", "/proc", "/sys"])
    files = runtime.run(bundle).ok().files
    assert (files["/proc"]["fs"], files["/proc"]["ino"]) == (0x9FA0, 1)
    assert files["/sys"]["fs"] == 0x62656572


def test_rootfs_is_not_changed(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A run adds nothing to an image that has all mount points, and keeps its modes."""
    bundle.dir("/dev/pts")

    def listing() -> list[tuple[str, int]]:
        return sorted(
            (os.path.join(top, name), os.lstat(os.path.join(top, name)).st_mode)
            for top, dirs, files in os.walk(bundle.rootfs)
            for name in dirs + files
        )

    before = listing()
    runtime.run(bundle).ok()
    assert listing() == before


def test_odd_bundle_path(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """R-21: the bundle's path may hold blanks, quotes, percent signs and bytes beyond ASCII."""
    odd = workdir / "o d'd\"%s\\ž\n"
    shutil.move(bundle.path, odd)
    bundle.path, bundle.rootfs = odd, odd / "rootfs"
    container = runtime.create(bundle.seq("report"))
    assert runtime.state(bundle.id)["bundle"] == str(odd)
    container.finish()
