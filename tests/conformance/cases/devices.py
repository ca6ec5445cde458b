# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: devices, default devices, and who may use which."""

from __future__ import annotations

import os
from typing import Any

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context

NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@case("default-devices", each={name: (name, *numbers) for name, numbers in NODES.items()})
def default_device(c: Context, name: str, major: int, minor: int) -> None:
    """The device is there, and every user may use it."""
    entry = c.run(["stat", f"/dev/{name}"]).files()[f"/dev/{name}"]
    c.equal(f"/dev/{name}", (entry.get("type"), entry.get("rdev")), ("char", [major, minor]))
    c.equal("permissions", entry["mode"] & 0o666, 0o666)


USES = {
    "null": ("write", "/dev/null", "ok"),
    "zero": ("open", "/dev/zero", "ok"),
    "full": ("write", "/dev/full", "ENOSPC"),
    "random": ("open", "/dev/random", "ok"),
    "urandom": ("open", "/dev/urandom", "ok"),
}


@case("default-devices", each=USES)
def default_device_works(c: Context, verb: str, path: str, wanted: str) -> None:
    """The device does what it is for."""
    c.process(user={"uid": 1000, "gid": 1000})
    c.equal(path, c.run([verb, path, "x" if verb == "write" else "rdonly"]).outcome(verb), wanted)


@case("default-ptmx", "default-devices")
def default_ptmx(c: Context) -> None:
    """/dev/ptmx is the one of the container's own devpts."""
    files = c.run(["stat", "/dev/ptmx", "/dev/pts/ptmx"]).files()
    ptmx, wanted = files["/dev/ptmx"], files["/dev/pts/ptmx"]
    c.equal("the same file", (ptmx.get("dev"), ptmx.get("ino")), (wanted.get("dev"), wanted.get("ino")))


@case("default-devices")
def default_devices_in_user_namespace(c: Context) -> None:
    """The devices are there in a user namespace as well."""
    c.userns()
    output = c.run(["write", "/dev/null", "x"], ["write", "/dev/full", "x"], ["open", "/dev/zero", "rdonly"])
    c.equal("/dev/null", output.outcome("write", "/dev/null"), "ok")
    c.equal("/dev/full", output.outcome("write", "/dev/full"), "ENOSPC")
    c.equal("/dev/zero", output.outcome("open"), "ok")


# -- configured devices ------------------------------------------------------------------------------------------------

DEVICES = {
    "char": ({"path": "/dev/conf", "type": "c", "major": 10, "minor": 229}, "char", [10, 229]),
    "unbuffered": ({"path": "/dev/conf", "type": "u", "major": 10, "minor": 229}, "char", [10, 229]),
    "block": ({"path": "/dev/conf", "type": "b", "major": 7, "minor": 6}, "block", [7, 6]),
    "fifo": ({"path": "/dev/conf", "type": "p"}, "fifo", None),
    "zero": ({"path": "/dev/conf", "type": "c", "major": 1, "minor": 5}, "char", [1, 5]),
}


@case("devices-available", "devices-numbers", each=DEVICES)
def device(c: Context, entry: dict[str, Any], kind: str, numbers: list[int] | None) -> None:
    """The device is there with its type and numbers."""
    seen = c.linux(devices=[entry]).run(["lstat", "/dev/conf"]).files()["/dev/conf"]
    c.equal("type and numbers", (seen.get("type"), seen.get("rdev")), (kind, numbers))


@case("devices-anywhere", each={"deep": "/opt/deep/conf", "top": "/conf", "in-dev": "/dev/sub/conf"})
def device_anywhere(c: Context, path: str) -> None:
    """A device can be anywhere; directories are made."""
    c.linux(devices=[{"path": path, "type": "c", "major": 10, "minor": 229}])
    seen = c.run(["lstat", path]).files()[path]
    c.equal("type and numbers", (seen.get("type"), seen.get("rdev")), ("char", [10, 229]))


@case("devices-owner", each={"owner": (0o640, 1000, 1001), "all": (0o777, 0, 0), "none": (0, 5, 6)})
def device_owner(c: Context, mode: int, uid: int, gid: int) -> None:
    """Mode and owner are the configured ones."""
    c.linux(
        devices=[{"path": "/dev/conf", "type": "c", "major": 10, "minor": 229, "fileMode": mode, "uid": uid, "gid": gid}]
    )
    seen = c.run(["stat", "/dev/conf"]).files()["/dev/conf"]
    c.equal("mode, uid, gid", (seen.get("mode"), seen.get("uid"), seen.get("gid")), (mode, uid, gid))


@case("devices-path-conflict", each={"file": "file", "directory": "dir", "other-device": "device"})
def device_path_is_taken(c: Context, kind: str) -> None:
    """Another file at the path is an error."""
    place = c.rootfs / "opt/conf"
    place.parent.mkdir()
    if kind == "file":
        place.write_text("x")
    elif kind == "dir":
        place.mkdir()
    else:
        os.mknod(place, 0o020666, os.makedev(10, 200))
    c.linux(devices=[{"path": "/opt/conf", "type": "c", "major": 10, "minor": 229}])
    c.refused(why="another file at the path of a device")


@case("devices-available")
def device_is_there_already(c: Context) -> None:
    """The same device at the path is no error."""
    (c.rootfs / "opt").mkdir()
    os.mknod(c.rootfs / "opt/conf", 0o020666, os.makedev(10, 229))
    c.linux(devices=[{"path": "/opt/conf", "type": "c", "major": 10, "minor": 229}])
    seen = c.run(["lstat", "/opt/conf"]).files()["/opt/conf"]
    c.equal("type and numbers", (seen.get("type"), seen.get("rdev")), ("char", [10, 229]))


INVALID = {
    "no-type": {"path": "/dev/conf", "major": 10, "minor": 229},
    "unknown-type": {"path": "/dev/conf", "type": "x", "major": 10, "minor": 229},
    "no-path": {"type": "c", "major": 10, "minor": 229},
}


@case("devices-type", "invalid-values", each=INVALID)
def device_invalid(c: Context, entry: dict[str, Any]) -> None:
    """A device without a type or path, or with an unknown type, is an error."""
    c.linux(devices=[entry])
    c.refused(why="an impossible device")


@case("devices-numbers", each={"major": {"minor": 229}, "minor": {"major": 10}, "both": {}})
def device_without_numbers(c: Context, numbers: dict[str, int]) -> None:
    """A character device without numbers is an error."""
    c.linux(devices=[{"path": "/dev/conf", "type": "c"} | numbers])
    c.refused(why="a device without numbers")


# -- who may use them --------------------------------------------------------------------------------------------------

# Numbers that no driver has: an allowed open is ENXIO, a denied one EPERM.
MAJOR, MINOR = 240, 1


def access(c: Context, rules: list[dict[str, Any]] | None, flags: str) -> str:
    """Return how the open of the device ends under these rules."""
    (c.rootfs / "opt").mkdir()
    node = c.rootfs / "opt/node"
    os.mknod(node, 0o020666, os.makedev(MAJOR, MINOR))
    node.chmod(0o666)
    if rules is not None:
        c.linux(resources={"devices": rules})
    return c.run(["open", "/opt/node", flags]).outcome("open")


def need_devices(c: Context) -> None:
    """Say so where devices cannot be kept from anybody."""
    c.need(machine.PURE or machine.has_controller("devices"), "no cgroup controller devices")


DENY = {"allow": False, "access": "rwm"}
RULES = {
    "deny-all": ([DENY], "rdonly", "EPERM"),
    "allow-all": ([DENY, {"allow": True, "access": "rwm"}], "rdwr", "ENXIO"),
    "allow-type": ([DENY, {"allow": True, "type": "c", "access": "rwm"}], "rdwr", "ENXIO"),
    "allow-other-type": ([DENY, {"allow": True, "type": "b", "access": "rwm"}], "rdonly", "EPERM"),
    "allow-major": ([DENY, {"allow": True, "type": "c", "major": MAJOR, "access": "rw"}], "rdwr", "ENXIO"),
    "allow-other-major": ([DENY, {"allow": True, "type": "c", "major": MAJOR + 1, "access": "rw"}], "rdonly", "EPERM"),
    "allow-exactly": (
        [DENY, {"allow": True, "type": "c", "major": MAJOR, "minor": MINOR, "access": "rw"}], "rdwr", "ENXIO",
    ),
    "allow-other-minor": (
        [DENY, {"allow": True, "type": "c", "major": MAJOR, "minor": MINOR + 1, "access": "rw"}], "rdonly", "EPERM",
    ),
    "read-only-read": (
        [DENY, {"allow": True, "type": "c", "major": MAJOR, "minor": MINOR, "access": "r"}], "rdonly", "ENXIO",
    ),
    "read-only-write": (
        [DENY, {"allow": True, "type": "c", "major": MAJOR, "minor": MINOR, "access": "r"}], "wronly", "EPERM",
    ),
    "write-only-read": (
        [DENY, {"allow": True, "type": "c", "major": MAJOR, "minor": MINOR, "access": "w"}], "rdonly", "EPERM",
    ),
}  # fmt: skip


@case("device-rules-entry", each=RULES)
def device_rule(c: Context, rules: list[dict[str, Any]], flags: str, wanted: str) -> None:
    """A rule allows what it names and nothing else."""
    need_devices(c)
    c.equal("open", access(c, rules, flags), wanted)


ONE = {"type": "c", "major": MAJOR, "minor": MINOR, "access": "rwm"}
ORDERS = {
    "deny-then-allow": ([DENY, {"allow": True} | ONE], "ENXIO"),
    "allow-then-deny": ([{"allow": True} | ONE, DENY], "EPERM"),
    "allow-then-deny-one": ([DENY, {"allow": True} | ONE, {"allow": False} | ONE], "EPERM"),
    "deny-one-then-allow": ([DENY, {"allow": False} | ONE, {"allow": True} | ONE], "ENXIO"),
}


@case("device-rules-order", each=ORDERS)
def device_rules_order(c: Context, rules: list[dict[str, Any]], wanted: str) -> None:
    """The later rule wins."""
    need_devices(c)
    c.equal("open", access(c, rules, "rdonly"), wanted)


@case("devices-no-others")
def device_of_the_image(c: Context) -> None:
    """A device that only the image has cannot be used."""
    need_devices(c)
    c.equal("open", access(c, None, "rdonly"), "EPERM")
