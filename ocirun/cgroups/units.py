# SPDX-License-Identifier: Apache-2.0
"""Names of systemd's units: from `linux.cgroupsPath` to a scope, its slice, and their cgroup.  Pure.

Manuals: systemd.unit(5), systemd.slice(5), systemd.scope(5)
"""

from __future__ import annotations

from ocirun.errors import InvalidConfig, Problem

CGROUPS_PATH_POINTER = "/linux/cgroupsPath"
#: The prefix of a scope's name where cgroupsPath does not say; runc's is "runc".
PREFIX = "ocirun"
_NAME_MAX = 255
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@")


class Scope:
    """A scope unit and the slice that it is in, such as "ocirun-web.scope" in "system.slice"."""

    __slots__ = ("slice", "unit")

    def __init__(self, slice_name: str, unit: str) -> None:
        self.slice = slice_name
        self.unit = unit

    @property
    def path(self) -> str:
        """The scope's cgroup below that of systemd, without a leading slash."""
        return "/".join([*_slices(self.slice), self.unit])


def parse_scope(cgroups_path: str | None, container_id: str, *, rootless: bool) -> Scope:
    """Return the scope that `linux.cgroupsPath` means to the systemd manager.

    The form is SLICE:PREFIX:NAME, and the scope is PREFIX-NAME.scope.  An empty SLICE is system.slice, or user.slice if
    *rootless*; an absent path is "" : "ocirun" : the container ID.  That, and that an empty PREFIX or NAME stays empty,
    is what runc does.

    Errors: InvalidConfig.
    """
    try:
        return _parse(cgroups_path, container_id, rootless)
    except ValueError as error:
        raise InvalidConfig([Problem("host", CGROUPS_PATH_POINTER, f"{cgroups_path!r}: {error}")]) from None


def _parse(cgroups_path: str | None, container_id: str, rootless: bool) -> Scope:
    default = "user.slice" if rootless else "system.slice"
    if not cgroups_path:
        # "+" is the one letter of an ID that the name of a unit cannot have; systemd-escape(1) writes it so.
        return Scope(default, f"{PREFIX}-{container_id}.scope".replace("+", "\\x2b"))
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise ValueError("the systemd cgroup manager takes SLICE:PREFIX:NAME")
    slice_name, prefix, name = parts
    if name.endswith(".slice"):
        raise ValueError("a container is a scope, since systemd puts no processes into a slice of this name")
    unit = f"{prefix}-{name}.scope"
    slice_name = slice_name or default
    _check_name(unit)
    _check_name(slice_name)
    _slices(slice_name)
    return Scope(slice_name, unit)


def _check_name(name: str) -> None:
    if len(name) > _NAME_MAX or not _NAME.issuperset(name):
        raise ValueError(f"{name!r} is not the name of a unit")


def _slices(name: str) -> list[str]:
    """Return the slices that *name* is in, the outermost first, and itself: a-b.slice is in a.slice.

    Errors: ValueError.
    """
    if name == "-.slice":
        return []
    stem = name.removesuffix(".slice")
    dashes = stem.split("-")
    if stem == name or "" in dashes:
        raise ValueError(f"{name!r} is not the name of a slice")
    return ["-".join(dashes[: count + 1]) + ".slice" for count in range(len(dashes))]


def unit_object(unit: str) -> str:
    """Return the D-Bus path of a unit; what is not a letter or digit is written as _ and its code.

    A digit at the start as well.  Manual: sd_bus_path_encode(3).
    """
    encoded = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 and (index or not chr(byte).isdigit()) else f"_{byte:02x}"
        for index, byte in enumerate(unit.encode())
    )
    return f"/org/freedesktop/systemd1/unit/{encoded}"
