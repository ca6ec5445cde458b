# SPDX-License-Identifier: Apache-2.0
"""config.md: the table of mount options, each seen in mountinfo or by what it does."""

from __future__ import annotations

import platform

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context

from .mounts import entry

# options -> words of the mount that must be there, words that must not, and the same for the file system's words
TABLE = {
    "ro": (["ro"], "ro", "rw", "", ""),
    "rw": (["ro", "rw"], "rw", "ro", "", ""),
    "nosuid": (["nosuid"], "nosuid", "", "", ""),
    "suid": (["nosuid", "suid"], "", "nosuid", "", ""),
    "nodev": (["nodev"], "nodev", "", "", ""),
    "dev": (["nodev", "dev"], "", "nodev", "", ""),
    "noexec": (["noexec"], "noexec", "", "", ""),
    "exec": (["noexec", "exec"], "", "noexec", "", ""),
    "noatime": (["noatime"], "noatime", "relatime", "", ""),
    "atime": (["noatime", "atime"], "", "noatime", "", ""),
    "nodiratime": (["nodiratime"], "nodiratime", "", "", ""),
    "diratime": (["nodiratime", "diratime"], "", "nodiratime", "", ""),
    "relatime": (["relatime"], "relatime", "noatime", "", ""),
    "norelatime": (["norelatime"], "", "noatime", "", ""),
    "strictatime": (["strictatime"], "", "relatime noatime", "", ""),
    "nostrictatime": (["strictatime", "nostrictatime"], "relatime", "", "", ""),
    "sync": (["sync"], "", "", "sync", ""),
    "async": (["sync", "async"], "", "", "", "sync"),
    "dirsync": (["dirsync"], "", "", "dirsync", ""),
    "lazytime": (["lazytime"], "", "", "lazytime", ""),
    "nolazytime": (["nolazytime"], "", "", "", "lazytime"),
    "defaults": (["defaults"], "rw", "nosuid nodev noexec", "", ""),
    "iversion": (["iversion"], "rw", "", "", ""),
    "noiversion": (["noiversion"], "rw", "", "", ""),
    "silent": (["silent"], "rw", "", "", ""),
    "loud": (["loud"], "rw", "", "", ""),
    "several": (["nosuid", "nodev", "noexec", "ro"], "nosuid nodev noexec ro", "", "", ""),
    "last-wins": (["rw", "ro", "exec", "noexec", "dev", "nodev"], "ro noexec nodev", "", "", ""),
}
SHOULD = {
    "nosymfollow": (["nosymfollow"], "nosymfollow", "", "", ""),
    "symfollow": (["nosymfollow", "symfollow"], "", "nosymfollow", "", ""),
}


def check(c: Context, target: str, have: str, lack: str, data: str, lack_data: str) -> None:
    """Mount and look."""
    found = entry(c.report()["mountinfo"], target)
    c.true("something is mounted", found.type != "none" or found.source != "none", found.line)
    c.true(f"the mount has {have}", set(have.split()) <= found.options, found.line)
    c.true(f"the mount lacks {lack}", not set(lack.split()) & found.options, found.line)
    c.true(f"the file system has {data}", set(data.split()) <= found.data, found.line)
    c.true(f"the file system lacks {lack_data}", not set(lack_data.split()) & found.data, found.line)


@case("mount-options-must", each=TABLE)
def mount_option(c: Context, options: list[str], have: str, lack: str, data: str, lack_data: str) -> None:
    """The option is understood, and has its effect on a new file system."""
    check(c.mount("/m", "tmpfs", "tmpfs", *options), "/m", have, lack, data, lack_data)


@case("mount-options-should", each=SHOULD)
def mount_option_recommended(c: Context, options: list[str], have: str, lack: str, data: str, lack_data: str) -> None:
    """The option is understood, and has its effect on a new file system."""
    check(c.mount("/m", "tmpfs", "tmpfs", *options), "/m", have, lack, data, lack_data)


PER_MOUNT = ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime", "relatime")


@case("mount-options-must", each={name: TABLE[name] for name in PER_MOUNT})
def mount_option_of_bind(c: Context, options: list[str], have: str, lack: str, *_: str) -> None:
    """The option has its effect on a bind mount."""
    (c.place / "source").mkdir()
    check(c.mount("/m", "none", str(c.place / "source"), "bind", *options), "/m", have, lack, "", "")


@case("mount-options-must")
def mount_option_bind_leaves_source(c: Context) -> None:
    """The options of a bind mount do not change the mount of its source."""
    place = tree(c)
    c.mount("/m", "none", place, "bind", "ro", "nosuid").report()
    found = entry(open("/proc/self/mountinfo").read(), place)
    c.true("the source is as it was", not {"ro", "nosuid"} & found.options, found.line)


def tree(c: Context, outer: int = 0, inner: int = 0) -> str:
    """Make a mount with another one in it on the host; return its place."""
    place = c.place / "tree"
    place.mkdir()
    machine.mount("outer", place, "tmpfs", outer, "mode=755")
    (place / "sub").mkdir()
    machine.mount("inner", place / "sub", "tmpfs", inner, "mode=755")
    (place / "sub/file").write_text("x")
    return str(place)


@case("mount-options-must", each={"bind": ("bind", False), "rbind": ("rbind", True)})
def mount_option_bind(c: Context, option: str, whole: bool) -> None:
    """bind takes one mount, rbind the tree."""
    c.mount("/m", "none", tree(c), option)
    found = [mount.target for mount in machine.mounts(c.report()["mountinfo"])]
    c.true("the mount is there", "/m" in found, found)
    c.equal("the mount below is there", "/m/sub" in found, whole)


@case("mount-options-must")
def mount_option_ro_is_not_recursive(c: Context) -> None:
    """ro on a tree makes its topmost mount read-only."""
    c.mount("/m", "none", tree(c), "rbind", "ro")
    output = c.run(["create", "/m/new", "x"], ["create", "/m/sub/new", "x"])
    c.equal("create in the topmost mount", output.outcome("create", "/m/new"), "EROFS")
    c.equal("create below", output.outcome("create", "/m/sub/new"), "ok")


@case("mount-options-must", each={"new": ("tmpfs", ()), "bind": ("none", ("bind",))})
def mount_option_remount(c: Context, kind: str, options: tuple[str, ...]) -> None:
    """remount changes the options of a mount that is there."""
    c.mount("/m", "tmpfs", "tmpfs").mount("/m", kind, "tmpfs", "remount", *options, "ro")
    output = c.run(["create", "/m/new", "x"], "report")
    c.equal("create", output.outcome("create"), "EROFS")
    places = [mount.target for mount in machine.mounts(output.report["mountinfo"])]
    c.equal("mounts at /m", places.count("/m"), 1)


# option -> (flags of the inner mount on the host, the word, whether the inner mount must have it)
RDONLY, NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME, NOSYMFOLLOW = 1, 2, 4, 8, 1024, 2048, 256
STRICTATIME = 1 << 24
RECURSIVE = {
    "rro": (0, "ro", True),
    "rrw": (RDONLY, "ro", False),
    "rnosuid": (0, "nosuid", True),
    "rsuid": (NOSUID, "nosuid", False),
    "rnodev": (0, "nodev", True),
    "rdev": (NODEV, "nodev", False),
    "rnoexec": (0, "noexec", True),
    "rexec": (NOEXEC, "noexec", False),
    "rnoatime": (0, "noatime", True),
    "ratime": (NOATIME, "noatime", False),
    "rnodiratime": (0, "nodiratime", True),
    "rdiratime": (NODIRATIME, "nodiratime", False),
    "rrelatime": (NOATIME, "relatime", True),
    "rnorelatime": (0, "noatime", False),
    "rstrictatime": (0, "relatime", False),
    "rnostrictatime": (STRICTATIME, "relatime", True),
    "rnosymfollow": (0, "nosymfollow", True),
    "rsymfollow": (NOSYMFOLLOW, "nosymfollow", False),
}


@case("mount-options-recursive", each={name: (name, *row) for name, row in RECURSIVE.items()})
def mount_option_recursive(c: Context, option: str, flags: int, word: str, present: bool) -> None:
    """The option acts on a mount below."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    c.need(release >= (5, 14), "the kernel has no mount_setattr")
    place = tree(c, inner=0)
    if flags:
        machine.mount("inner", f"{place}/sub", None, machine.MS_BIND | 0x20 | flags)
    c.mount("/m", "none", place, "rbind", option)
    found = entry(c.report()["mountinfo"], "/m/sub")
    c.equal(f"the mount below has {word}", word in found.options, present)


PROPAGATION = {
    "private": ("private", ("private",), None),
    "rprivate": ("private", ("private",), ("private",)),
    "slave": ("slave", ("slave", "slave+shared"), None),
    "rslave": ("slave", ("slave", "slave+shared"), ("slave", "slave+shared")),
    "shared": ("shared", ("shared", "slave+shared"), None),
    "rshared": ("shared", ("shared", "slave+shared"), ("shared", "slave+shared")),
    "unbindable": ("private", ("unbindable",), None),
    "runbindable": ("private", ("unbindable",), ("unbindable",)),
}


@case("mount-options-propagation", each={name: (name, *row) for name, row in PROPAGATION.items()})
def mount_option_propagation(
    c: Context, option: str, root: str, wanted: tuple[str, ...], below: tuple[str, ...] | None
) -> None:
    """The mount has that propagation; with r… the one below too."""
    c.linux(rootfsPropagation=root).mount("/m", "none", tree(c), "rbind", option)
    mountinfo = c.report()["mountinfo"]
    c.within("propagation", entry(mountinfo, "/m").propagation, wanted)
    if below:
        c.within("propagation below", entry(mountinfo, "/m/sub").propagation, below)


@case("mount-options-data", each={"size": ("size=64k", "size=64k"), "mode": ("mode=1711", "mode=1711")})
def mount_option_data(c: Context, option: str, word: str) -> None:
    """An option that only the file system knows reaches it."""
    c.mount("/m", "tmpfs", "tmpfs", "nosuid", option, "noexec")
    found = entry(c.report()["mountinfo"], "/m")
    c.true(f"the file system has {word}", word in found.data, found.line)


@case("mount-options-data", "create-cannot-apply")
def mount_option_unknown(c: Context) -> None:
    """An option that the file system does not know either is an error."""
    c.mount("/m", "tmpfs", "tmpfs", "nosuchoption")
    c.refused(why="an option that nobody knows")
