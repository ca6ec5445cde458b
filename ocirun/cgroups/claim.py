# SPDX-License-Identifier: Apache-2.0
"""Taking a place in a hierarchy, telling whose it is, and giving back what was made for it."""

from __future__ import annotations

import os
from errno import EACCES, ENODEV, ENOENT, EPERM, EROFS

from ocirun.errors import CgroupError

from . import legacy, unified
from .files import failure, flat_value, open_directory, processes, read_file, remove_directory
from .hierarchies import CGROUPS_PATH_POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hierarchies import Hierarchy

MODE = 0o755
DENIED = (EACCES, EPERM, EROFS)
_MKDIR_ATTEMPTS = 32
_VANISHED = (ENOENT, ENODEV)  # ENODEV: while it is being removed

# Says whose cgroup a directory is; its value is a nonce of the record.  Only root can set
# "trusted", and only version 2 always takes "user".
_MARKS = ("trusted.ocirun", "user.ocirun")
_PARENT = "parent"  # the value where no container is, but those below it: of none, so that the last one removes it


def existing_components(hierarchy: Hierarchy) -> int:
    """Count the leading components of the container's path that are there already."""
    path = hierarchy.path
    count = path.count("/") + 1
    while not os.access(f"{hierarchy.mount_point}/{path}", os.F_OK):
        count -= 1
        if count == 0:
            break
        path = path.rpartition("/")[0]
    return count


def make_directory(hierarchy: Hierarchy, made: list[str]) -> bool:
    """Make the container's directory and its parents where missing; False if it was there.

    Appends what it made to *made*, parents first.
    """
    # Parents may vanish between our steps: another container's `remove` takes those that it finds
    # empty.
    for attempt in range(_MKDIR_ATTEMPTS):
        try:
            os.mkdir(hierarchy.directory, MODE)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _VANISHED or attempt == _MKDIR_ATTEMPTS - 1:
                raise
            _make_parents(hierarchy, made)
        else:
            made.append(hierarchy.directory)
            return True
    return False


def _make_parents(hierarchy: Hierarchy, made: list[str]) -> None:
    path = hierarchy.mount_point
    for name in hierarchy.path.split("/")[:-1]:
        path = f"{path}/{name}"
        try:
            os.mkdir(path, MODE)
            made.append(path)
            os.chmod(path, MODE)  # whatever the umask
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno in _VANISHED:
                return
            raise
        mark(path, _PARENT)


def remove_parents(hierarchy: Hierarchy) -> None:
    """Remove the parents that were missing when the container was recorded, and those that
    were made for another container meanwhile or before, as far as they are empty.
    """
    components = hierarchy.path.split("/")
    for count in range(len(components) - 1, 0, -1):
        path = "/".join([hierarchy.mount_point, *components[:count]])
        if count <= hierarchy.existing and read_mark(path) != _PARENT:
            return
        try:
            if not remove_directory(path):
                return  # somebody else uses it
        except OSError:
            return  # not ours to remove, then


def mark(place: int | str, nonce: str) -> None:
    """Say whose the cgroup *place* (a descriptor or a path) is, if that can be said here."""
    for name in _MARKS:
        try:
            os.setxattr(place, name, nonce.encode())
        except OSError:
            # EPERM without CAP_SYS_ADMIN, EOPNOTSUPP on old kernels: less is known after a crash.
            continue
        return


def read_mark(place: int | str) -> str | None:
    """Return what `mark` said of a cgroup, None if it is not known."""
    for name in _MARKS:
        try:
            return os.getxattr(place, name).decode("ascii", "replace")
        except OSError:
            continue
    return None


def check_unused(hierarchy: Hierarchy, *, optional: bool) -> None:
    """Refuse a cgroup that was there before and is in use; with *optional*, one out of reach is none.

    Spec: config-linux.md#cgroups-path lets a runtime do so, and runc does.
    """
    try:
        fd = open_directory(hierarchy.directory)
        try:
            if processes(fd):
                raise unusable(hierarchy, "container's cgroup is not empty")
            if _is_frozen_any(fd, hierarchy):
                raise unusable(hierarchy, "container's cgroup unexpectedly frozen")
        finally:
            os.close(fd)
    except OSError as error:
        if optional and error.errno in DENIED:
            return
        raise failure(f"open {hierarchy.directory}", error, pointer=CGROUPS_PATH_POINTER) from error


def unusable(hierarchy: Hierarchy, why: str) -> CgroupError:
    """Return the error that a place cannot be the container's."""
    return CgroupError(
        f"{CGROUPS_PATH_POINTER}: {why}: {hierarchy.directory}",
        op="cgroup",
        json_pointer=CGROUPS_PATH_POINTER,
    )


def _is_frozen_any(fd: int, hierarchy: Hierarchy) -> bool:
    """Tell whether a process that enters would be frozen, by this cgroup or by one above it."""
    if hierarchy.version == 2:
        return (
            unified.is_frozen("", fd) or flat_value(read_file("cgroup.events", fd), "frozen") == "1"
        )
    return "freezer" in hierarchy.controllers and read_file(legacy.FREEZER_STATE, fd) != "THAWED"
