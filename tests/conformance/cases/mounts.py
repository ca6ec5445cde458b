# SPDX-License-Identifier: Apache-2.0
"""config.md: root and mounts; what the options do is in mount_options."""

from __future__ import annotations

import os
import platform
from typing import Any

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context
from conformance.harness.runtime import Json

# -- root --------------------------------------------------------------------------------------------------------------


@case("root-required", "errors-no-trace")
def root_missing(c: Context) -> None:
    """A configuration without root is an error."""
    c.set({"root": None})
    c.refused(why="a configuration without root")


@case("root-required")
def root_path_missing(c: Context) -> None:
    """A root without path is an error."""
    c.config["root"] = {}
    c.refused(why="a root without path")


@case("root-path", each={"relative": "relative", "absolute": "absolute", "nested": "nested"})
def root_path(c: Context, shape: str) -> None:
    """The path is absolute, or relative to the bundle and not to the caller's directory."""
    if shape == "absolute":
        c.set({"root": {"path": str(c.rootfs)}})
    elif shape == "nested":
        (c.bundle / "a").mkdir()
        c.rootfs.rename(c.bundle / "a/b")
        c.rootfs = c.bundle / "a/b"
        c.set({"root": {"path": "a/b"}})
    c.file("/etc/marker", "x")
    c.equal("a file of the root file system", c.run(["read", "/etc/marker"], cwd="/").one("read").get("data"), "x")


@case("root-path-exists", each={"missing": "nothing", "file": "file"})
def root_path_is_no_directory(c: Context, kind: str) -> None:
    """A path that is no directory is an error."""
    if kind == "file":
        (c.bundle / "file").write_text("x")
    c.set({"root": {"path": kind}})
    c.refused(why="a root that is no directory")


@case("root-readonly")
def root_readonly(c: Context) -> None:
    """A read-only root cannot be written, anywhere."""
    c.set({"root": {"readonly": True}})
    output = c.run(["create", "/new", "x"], ["create", "/tmp/new", "x"], ["write", "/etc/passwd", "x"])
    c.equal("create in /", output.outcome("create", "/new"), "EROFS")
    c.equal("create in /tmp", output.outcome("create", "/tmp/new"), "EROFS")
    c.equal("write to a file", output.outcome("write"), "EROFS")


@case("root-readonly")
def root_readonly_not_mounts(c: Context) -> None:
    """A mount in a read-only root can be written."""
    c.set({"root": {"readonly": True}}).mount("/tmp", "tmpfs", "tmpfs")
    c.equal("create in the mount", c.run(["create", "/tmp/new", "x"]).outcome("create"), "ok")


@case("root-readonly", each={"absent": None, "false": False})
def root_writable(c: Context, value: Any) -> None:
    """By default the root can be written."""
    c.set({"root": {"readonly": value}})
    c.equal("create in /", c.run(["create", "/new", "x"]).outcome("create"), "ok")


# -- mounts ------------------------------------------------------------------------------------------------------------


def entry(mountinfo: str, target: str) -> machine.Mount:
    """Return the topmost mount at a place; an empty one where nothing is mounted."""
    found = [mount for mount in machine.mounts(mountinfo) if mount.target == target]
    return found[-1] if found else machine.Mount(f"0 0 0:0 / {target} - none none none")


@case("mounts-order")
def mounts_order_outer_first(c: Context) -> None:
    """A mount in an earlier one is seen."""
    c.mount("/m", "tmpfs", "outer").mount("/m/sub", "tmpfs", "inner", "size=64k")
    report = c.report()
    c.equal("file system at /m/sub", entry(report["mountinfo"], "/m/sub").source, "inner")


@case("mounts-order")
def mounts_order_inner_first(c: Context) -> None:
    """A later mount covers what an earlier one made below it."""
    (c.rootfs / "m/sub").mkdir(parents=True)
    c.mount("/m/sub", "tmpfs", "inner").mount("/m", "tmpfs", "outer")
    output = c.run(["ls", "/m"])
    c.equal("names in /m", output.one("ls").get("names"), [])


@case("mounts-order")
def mounts_order_same_place(c: Context) -> None:
    """Of two mounts at one place the later one is seen."""
    c.mount("/m", "tmpfs", "first").mount("/m", "tmpfs", "second")
    c.equal("file system at /m", entry(c.report()["mountinfo"], "/m").source, "second")


@case("mount-destination")
def mount_without_destination(c: Context) -> None:
    """A mount without a destination is an error."""
    c.config["mounts"].append({"type": "tmpfs", "source": "tmpfs"})
    c.refused(why="a mount without a destination")


@case("mount-destination-relative")
def mount_destination_relative(c: Context) -> None:
    """A relative destination is below the root, not below the working directory."""
    c.mount("mm/x", "tmpfs", "there").process(cwd="/tmp")
    c.equal("file system at /mm/x", entry(c.report()["mountinfo"], "/mm/x").source, "there")


def source(c: Context) -> Json:
    """Make a directory with a file on the host."""
    place = c.bundle / "source"
    place.mkdir()
    (place / "file").write_text("content")
    place.chmod(0o755)
    return {"absolute": str(place), "relative": "source"}


@case("mount-source-bind", each={"absolute": "absolute", "relative": "relative"})
def mount_bind_source(c: Context, shape: str) -> None:
    """The source of a bind mount is absolute, or relative to the bundle."""
    c.mount("/m", "none", source(c)[shape], "bind")
    c.equal("file in the mount", c.run(["read", "/m/file"], cwd="/").one("read").get("data"), "content")


@case("mount-source-bind")
def mount_bind_file(c: Context) -> None:
    """A file can be bound, over a file that is there and where there is none."""
    place = source(c)["absolute"]
    c.mount("/etc/passwd", "none", f"{place}/file", "bind").mount("/new/file", "none", f"{place}/file", "bind")
    output = c.run(["read", "/etc/passwd"], ["read", "/new/file"])
    c.equal("contents", [line.get("data") for line in output.all("read")], ["content", "content"])


@case("mount-source-bind", "create-cannot-apply")
def mount_bind_without_source(c: Context) -> None:
    """A bind mount of what is not there is an error."""
    c.mount("/m", "none", str(c.place / "nothing"), "bind")
    c.refused(why="a bind mount of nothing")


TYPES = {"none": "none", "bind": "bind", "absent": None, "tmpfs": "tmpfs", "nonsense": "nonsense"}


@case("mount-is-bind", "mount-type", each={word: (kind, "bind") for word, kind in TYPES.items()})
def mount_bind_type(c: Context, kind: str | None, option: str) -> None:
    """The option alone makes a mount a bind mount; its type does not count."""
    c.mount("/m", kind, source(c)["absolute"], option)
    c.equal("file in the mount", c.run(["read", "/m/file"]).one("read").get("data"), "content")


@case("mount-type", each={"tmpfs": "tmpfs", "mqueue": "mqueue", "sysfs": "sysfs"})
def mount_type(c: Context, kind: str) -> None:
    """A file system of the kernel is mounted by its type."""
    c.mount("/m", kind, "source")
    c.equal("type at /m", entry(c.report()["mountinfo"], "/m").type, kind)


DEFAULT = {
    "proc": ("/proc", "proc", []),
    "sysfs": ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    "devpts": ("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620"]),
    "shm": ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
}


@case("default-filesystems", each=DEFAULT)
def default_filesystem(c: Context, place: str, kind: str, options: list[str]) -> None:
    """The file system is there with its type, as a configuration asks for it."""
    if not any(mount["destination"] == place for mount in c.config["mounts"]):
        c.mount(place, kind, kind, *options)
    c.equal(f"type at {place}", entry(c.report()["mountinfo"], place).type, kind)


# -- ID-mapped mounts --------------------------------------------------------------------------------------------------


def idmap_source(c: Context) -> str:
    """Return a directory on a file system that can be ID-mapped, with a file of root's."""
    release = tuple(int(word) for word in platform.release().split("-")[0].split(".")[:2])
    c.need(release >= (6, 3), "the kernel cannot map the IDs of a tmpfs")
    place = c.place / "mapped"
    place.mkdir()
    machine.mount("tmpfs", place, "tmpfs", 0, "mode=755")
    (place / "file").write_text("x")
    (place / "sub").mkdir()
    machine.mount("tmpfs", place / "sub", "tmpfs", 0, "mode=755")
    (place / "sub/file").write_text("x")
    return str(place)


MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]


@case("mount-idmap", each={"idmap": ("idmap", 0), "ridmap": ("ridmap", 1000)})
def mount_idmap(c: Context, option: str, below: int) -> None:
    """The owner of a file is mapped; with ridmap below further mounts too."""
    c.mount("/m", "none", idmap_source(c), "rbind", option)
    c.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    files = c.run(["stat", "/m/file", "/m/sub/file"]).files()
    c.equal("owner", (files["/m/file"].get("uid"), files["/m/file"].get("gid")), (1000, 1000))
    c.equal("owner below a further mount", files["/m/sub/file"].get("uid"), below)


@case("mount-idmap")
def mount_idmap_only_there(c: Context) -> None:
    """The mapping is that of the mount alone: what is written there has the host's owner."""
    place = idmap_source(c)
    c.mount("/m", "none", place, "bind", "idmap")
    c.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    os.chmod(place, 0o777)
    c.process(user={"uid": 1003, "gid": 1004})
    c.equal("create", c.run(["create", "/m/new", "x"]).outcome("create"), "ok")
    st = os.stat(f"{place}/new")
    c.equal("owner on the host", (st.st_uid, st.st_gid), (3, 4))


@case("mount-idmap-none", each={"idmap": "idmap", "ridmap": "ridmap"})
def mount_idmap_without_mappings(c: Context, option: str) -> None:
    """Without any mapping the option is an error."""
    c.mount("/m", "none", source(c)["absolute"], "bind", option)
    c.refused(why=f"{option} without mappings")


@case("mount-mappings-pair", each={"uid": "uidMappings", "gid": "gidMappings"})
def mount_mappings_alone(c: Context, name: str) -> None:
    """One of the two mappings without the other is an error."""
    c.mount("/m", "none", source(c)["absolute"], "bind", "idmap")
    c.config["mounts"][-1][name] = MAPPING
    c.refused(why=f"{name} alone")
