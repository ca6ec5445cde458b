# SPDX-License-Identifier: Apache-2.0
"""Which cgroup hierarchies there are, and where in each of them a container's cgroup goes."""

from __future__ import annotations

import os

from ocirun.errors import CgroupError

from .files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_MAX = 255
CGROUPS_PATH_POINTER = "/linux/cgroupsPath"
_RECORD_KEYS = {"version", "mountPoint", "root", "controllers", "path", "existing"}


class Hierarchy:
    """One mounted hierarchy and the container's place in it.

    `version` is 1 or 2.  `controllers` are the kernel's names as in /proc/self/cgroup
    (`name=systemd` for a named hierarchy); empty for version 2, where they are a property of each
    cgroup.  `root` is the directory of the hierarchy that is visible at `mount_point` ("/" unless
    it is a bind mount or another cgroup namespace's mount).  `path` is the container's cgroup below
    `mount_point`, without a leading slash.  `existing` counts the leading components of `path` that
    were there before the container: what lies beyond them is the container's to remove.
    """

    __slots__ = ("controllers", "existing", "mount_point", "path", "root", "version")

    def __init__(
        self,
        *,
        version: int,
        mount_point: str,
        root: str,
        controllers: Sequence[str],
        path: str,
        existing: int = 0,
    ) -> None:
        self.version = version
        self.mount_point = mount_point
        self.root = root
        self.controllers = tuple(controllers)
        self.path = path
        self.existing = existing

    def __repr__(self) -> str:
        return f"Hierarchy(v{self.version} {self.directory} {','.join(self.controllers)})"

    @property
    def directory(self) -> str:
        """The absolute path of the container's cgroup."""
        return f"{self.mount_point}/{self.path}"

    @property
    def directory_name(self) -> str:
        """The name of the mount point's directory, such as "cpu,cpuacct"; what a `cgroup` mount
        repeats.
        """
        return self.mount_point.rsplit("/", 1)[-1]

    def to_record(self) -> dict[str, object]:
        """Return the JSON form, from which `from_record` makes an equal object."""
        return {
            "version": self.version,
            "mountPoint": self.mount_point,
            "root": self.root,
            "controllers": list(self.controllers),
            "path": self.path,
            "existing": self.existing,
        }

    @classmethod
    def from_record(cls, record: object) -> Hierarchy:
        """Read the JSON form.

        The record is a file of ours below a directory of root's; the path is checked again all the
        same, because what it names gets removed.  Errors: CgroupError.
        """
        # Plain tests: `state` does this for ten hierarchies, and a match statement takes 6 us each.
        if isinstance(record, dict) and record.keys() >= _RECORD_KEYS:
            version, existing = record["version"], record["existing"]
            mount_point, root, path = record["mountPoint"], record["root"], record["path"]
            names = record["controllers"]
            if (
                version in (1, 2)
                and isinstance(mount_point, str)
                and mount_point.startswith("/")
                and isinstance(root, str)
                and isinstance(path, str)
                and isinstance(existing, int)
                and isinstance(names, list)
                and all(isinstance(name, str) for name in names)
            ):
                return cls(
                    version=version,
                    mount_point=mount_point,
                    root=root,
                    controllers=names,
                    path="/".join(_components(path, what="recorded cgroup path", pointer=None)),
                    existing=existing,
                )
        raise CgroupError(f"not a record of a cgroup hierarchy: {record!r}", op="record")


def discover(
    layout: str, cgroups_path: str | None, container_id: str, proc: tuple[str, str] | None = None
) -> list[Hierarchy]:
    """Return the hierarchies of this process's mount namespace with the container's path in each.

    *layout* is `HostFacts.cgroup_layout`, *proc* the texts of /proc/self/cgroup and /proc/self/mountinfo, which are
    read if they are not given: the kernel takes its time for them.  The path follows from `linux.cgroupsPath`:

    - absolute: below the mount point of each hierarchy;
    - relative: below this process's own cgroup;
    - absent or empty: the container ID, taken as a relative path.

    In version 2 "own cgroup" means its parent, unless it is the root: the own cgroup holds
    processes (us), and then the kernel lets it have no children with controllers.  runc does the
    same.  Where only its own may be written by the caller, it is that one.

    Spec: config-linux.md#cgroups-path
    Errors: CgroupError for a path with `..`, NUL or a newline, a path that is the root itself, or
    no hierarchy at all.
    """
    absolute = bool(cgroups_path) and (cgroups_path or "").startswith("/")
    components = _components(
        cgroups_path or container_id, what="cgroupsPath", pointer=CGROUPS_PATH_POINTER
    )
    own_text, mountinfo = proc or (read_file("/proc/self/cgroup"), read_file("/proc/self/mountinfo"))
    own = parse_own_cgroups(own_text)
    found = []
    for mount in parse_mountinfo(mountinfo):
        if mount.version == 1 and layout == "unified":
            continue
        if mount.version == 2 and layout == "legacy":
            continue
        match = _own_of_mount(mount, own)
        if match is None:
            continue
        controllers, own_path = match
        base = [] if absolute else _base(own_path, mount)
        found.append(
            Hierarchy(
                version=mount.version,
                mount_point=mount.mount_point,
                root=mount.root,
                controllers=controllers,
                path="/".join([*base, *components]),
            )
        )
    if not found:
        raise CgroupError(
            "no cgroup hierarchy is mounted",
            op="mountinfo",
            hint="mount one at /sys/fs/cgroup, or use the cgroup manager 'disabled'",
        )
    return _one_mount_each(found)


def check_subgroup(path: str) -> str:
    """Return *path*, a cgroup below the container's, in normal form ("" for the container's own).

    Errors: CgroupError if it could lead out.
    """
    if not path.strip("/"):
        return ""
    return "/".join(_components(path, what="cgroup", pointer=None))


class CgroupMount:
    """A line of mountinfo that is about a cgroup file system."""

    __slots__ = ("mount_point", "options", "root", "version")

    def __init__(self, version: int, mount_point: str, root: str, options: Sequence[str]) -> None:
        self.version = version
        self.mount_point = mount_point
        self.root = root
        self.options = tuple(options)


def parse_mountinfo(text: str) -> list[CgroupMount]:
    """Return the cgroup mounts of a mountinfo file; of several on one mount point the topmost.

    Kernel: proc_pid_mountinfo(5)
    Errors: CgroupError for a line that is not in the documented format.
    """
    by_mount_point: dict[str, CgroupMount] = {}
    for line in text.split("\n"):
        # Cheap first: a host may have tens of thousands of mounts.
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        fields, file_system = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(file_system) < 3:
            raise CgroupError(f"cannot parse mountinfo line {line!r}", op="mountinfo")
        version = {"cgroup": 1, "cgroup2": 2}.get(file_system[0])
        if version is None:
            continue
        mount_point = unescape(fields[4])
        by_mount_point.pop(mount_point, None)
        by_mount_point[mount_point] = CgroupMount(
            version, mount_point, unescape(fields[3]), file_system[2].split(",")
        )
    return list(by_mount_point.values())


def parse_own_cgroups(text: str) -> dict[tuple[str, ...], str]:
    """Return controllers -> path of a /proc/<pid>/cgroup file; the key () is version 2.

    Kernel: cgroups(7), /proc/pid/cgroup
    Errors: CgroupError for a line that is not in the documented format.
    """
    own: dict[tuple[str, ...], str] = {}
    for line in text.split("\n"):
        if not line:
            continue
        fields = line.split(":", 2)
        if len(fields) != 3 or not fields[2].startswith("/"):
            raise CgroupError(f"cannot parse cgroup line {line!r}", op="cgroup")
        own[tuple(fields[1].split(",")) if fields[1] else ()] = fields[2]
    return own


def unescape(text: str) -> str:
    r"""Undo the octal escapes (`\040`) of mountinfo.

    Errors: CgroupError for a backslash that no three octal digits follow.
    """
    if "\\" not in text:
        return text
    head, *rest = os.fsencode(text).split(b"\\")
    for part in rest:
        digits = part[:3]
        if len(digits) != 3 or digits.strip(b"01234567") or digits > b"377":
            raise CgroupError(f"bad escape in mountinfo field {text!r}", op="mountinfo")
        head += bytes([int(digits, 8)]) + part[3:]
    return os.fsdecode(head)


def _components(path: str, *, what: str, pointer: str | None) -> list[str]:
    """Split *path*, refusing whatever could name a place that is not below its start."""
    components = [part for part in path.split("/") if part and part != "."]
    problem = ""
    if not components:
        problem = "is the root of the hierarchy"
    elif ".." in components:
        problem = "must not contain '..'"
    elif "\0" in path or "\n" in path:
        # The kernel refuses a newline too: it would make /proc/<pid>/cgroup ambiguous.
        problem = "must not contain NUL or newline"
    elif len(path) > NAME_MAX // 4 and any(
        len(os.fsencode(part)) > NAME_MAX for part in components
    ):
        problem = f"has a component of more than {NAME_MAX} bytes"
    if problem:
        where = f"{pointer}: " if pointer else ""
        raise CgroupError(f"{where}{what} {path!r} {problem}", op="mkdir", json_pointer=pointer)
    return components


def _own_of_mount(
    mount: CgroupMount, own: dict[tuple[str, ...], str]
) -> tuple[tuple[str, ...], str] | None:
    """Return (controllers, our path) of the hierarchy that *mount* shows, None if we are in none
    such.
    """
    if mount.version == 2:
        return ((), own[()]) if () in own else None
    for controllers, path in own.items():
        if controllers and all(name in mount.options for name in controllers):
            return controllers, path
    return None


def _base(own_path: str, mount: CgroupMount) -> list[str]:
    """Return the components of the cgroup, below the mount point, where relative paths start."""
    root = mount.root.rstrip("/")
    if own_path != root and not own_path.startswith(root + "/"):
        return []  # our cgroup is not visible in this mount
    components = [part for part in own_path[len(root) :].split("/") if part]
    if ".." in components:  # we are outside of our cgroup namespace's root
        return []
    if mount.version == 1:
        return components
    above = components[:-1]
    if components and not _may_make(mount, above) and _may_make(mount, components):
        # A service of systemd's with User= and Delegate=: what is above it is not the user's.
        return components
    return above


def _may_make(mount: CgroupMount, components: Sequence[str]) -> bool:
    return os.access("/".join([mount.mount_point, *components]), os.W_OK)


def _one_mount_each(found: list[Hierarchy]) -> list[Hierarchy]:
    """Keep one mount of each hierarchy: a whole one rather than a part of it, then the first."""
    chosen: dict[tuple[str, ...], Hierarchy] = {}
    for hierarchy in found:
        known = chosen.get(hierarchy.controllers)
        if known is None or (known.root != "/" and hierarchy.root == "/"):
            chosen[hierarchy.controllers] = hierarchy
    return sorted(chosen.values(), key=_preference)


# The hierarchy that processes are listed, frozen and killed in is the first.  Version 2 has
# cgroup.kill, cgroup.freeze and CLONE_INTO_CGROUP, even where it has no controller (hybrid); in
# version 1 only the freezer can stop a fork bomb.
_FIRST = ("freezer", "pids", "memory", "devices")


def _preference(hierarchy: Hierarchy) -> int:
    if hierarchy.version == 2:
        return 0
    for rank, controller in enumerate(_FIRST, 1):
        if controller in hierarchy.controllers:
            return rank
    return len(_FIRST) + 1
