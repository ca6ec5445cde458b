# SPDX-License-Identifier: Apache-2.0
"""`mounts`, in the order of the list.

Spec: config.md#mounts, config-linux.md; Kernel: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2)
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.labels import mount_options
from ocirun.spec.mount_options import (
    MS_PRIVATE,
    MS_REC,
    MS_SLAVE,
    MS_UNBINDABLE,
    NODEV,
    NOEXEC,
    NOSUID,
    RDONLY,
    SUPERBLOCK,
    SUPERBLOCK_UNNAMED,
    MountOptions,
    parse_options,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirun.plan.mapped_mounts import MappedMounts
    from ocirun.plan.ops import Op
    from ocirun.plan.slots import Slots
    from ocirun.spec.model import Mount

#: Propagation of the clone of a mount of the host's that was made before the container's user namespace.  The kernel
#: makes mounts slaves when a mount namespace is copied into another user namespace, but a detached clone is not copied:
#: it stays a peer of what it was cloned from, and what the container mounts on it would appear on the host.
#: Kernel: mount_namespaces(7)
SEVERED = MS_SLAVE | MS_REC

CGROUP_ROOT = "/sys/fs/cgroup"

#: Places on procfs that engines (lxcfs) may cover; all else below /proc is refused (CVE-2019-16884).
PROC_FILES = frozenset(
    "/proc/" + name
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)

#: File systems whose mount point must be the real directory: a link would lead masks and labels astray
#: (CVE-2019-19921, CVE-2023-27561).
NEVER_THROUGH_LINKS = frozenset({"proc", "sysfs"})

#: Where masked and read-only paths usually are: they are resolved below these mounts, not through the image.
KEPT = frozenset({"/proc", "/sys"})


class CgroupMount:
    """One hierarchy for a mount of type "cgroup".

    `name` is the directory below the destination, `controllers` the v1 mount option, `path` the container's cgroup
    on the host, `links` further names for it ("cpu" and "cpuacct" of a co-mounted "cpu,cpuacct").
    """

    __slots__ = ("controllers", "links", "name", "path")

    def __init__(self, name: str, controllers: str, path: str, links: Sequence[str] = ()) -> None:
        self.name = name
        self.controllers = controllers
        self.path = path
        self.links = tuple(links)


def cgroup_mounts(hierarchies: Sequence[Any]) -> list[CgroupMount]:
    """Return the version 1 hierarchies of a cgroup manager as a mount of type "cgroup" shows them."""
    result = []
    for hierarchy in hierarchies:
        if hierarchy.version != 1:
            continue
        name = hierarchy.directory_name
        links = [each for each in hierarchy.controllers if each != name and "=" not in each]
        result.append(CgroupMount(name, ",".join(hierarchy.controllers), hierarchy.directory, links))
    return result


class MountBuilder:
    """Turns mounts into operations.

    With `early` sources are opened in `before_user`, because behind a user namespace the way to them may be closed;
    otherwise right before they are bound, so that few descriptors are open at a time.  `foreign` are the kinds of
    namespaces that the container's user namespace has no power over.  `warnings` are options that have no effect on
    their mount, and what had to stand in for a mount.
    """

    def __init__(
        self, bundle: str, slots: Slots, mapped: MappedMounts, *, early: bool, user_namespace: bool,
        cgroups: Sequence[CgroupMount], unified: bool, own_cgroup_namespace: bool, borrow_cgroups: bool,
        has_cgroup: bool, foreign: frozenset[str], label: str | None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.slots = slots
        self.mapped = mapped
        self.early = early
        self.user_namespace = user_namespace
        self.cgroups = cgroups
        self.unified = unified
        self.own_cgroup_namespace = own_cgroup_namespace
        self.borrow_cgroups = borrow_cgroups
        self.has_cgroup = has_cgroup
        self.foreign = foreign
        self.label = label
        self.before_user: list[Op] = []
        self.warnings: list[str] = []
        #: destination -> slot of the mount that is on top there, for KEPT destinations
        self.kept: dict[str, int] = {}

    def keep(self, destination: str) -> int:
        """Return the slot that a mount on this destination leaves its descriptor in, or none."""
        if destination not in KEPT:
            return ops.NO_SLOT
        self.kept[destination] = self.slots.new()
        return self.kept[destination]

    def find_base(self, path: str) -> tuple[int, str]:
        """Return (slot, path below it) for a path that lies on a kept mount; (none, path) for others."""
        place = normalize(path)
        for destination, slot in self.kept.items():
            if place.startswith(destination + "/"):
                return slot, place[len(destination) :]
        return ops.NO_SLOT, path

    def build(self, mount: Mount, origin: str) -> list[Op]:
        """Return the operations of one mount."""
        options = parse_options(mount.options)
        destination = normalize(mount.destination)
        kind = mount.type or "none"
        if options.remount:
            self._warn(options.superblock & SUPERBLOCK_UNNAMED, "of no meaning for a remount", origin)
            return self._remount(destination, options, origin)
        if options.bind or kind == "bind":
            self._warn(options.superblock, "a matter of the file system, which a bind shares", origin)
            return self._bind(mount, destination, options, origin)
        if kind == "cgroup":
            if not self.unified:
                return self._legacy_cgroups(destination, options, origin)
            if self.borrow_cgroups:
                return self._borrowed_cgroups(destination, options, origin)
            if not self.own_cgroup_namespace and not options.data:
                # A new mount, made in the cgroup namespace of the host, would take away the options (nsdelegate,
                # memory_recursiveprot) of the one that the host has: they are of the hierarchy.
                self._warn(options.superblock, "a matter of the file system, which a bind shares", origin)
                return self._bind_source(CGROUP_ROOT, destination, options, origin)
            kind = "cgroup2"
            if not self.has_cgroup and not options.set_attributes & RDONLY:
                self.warnings.append(f"{origin}/options: read-only, since it is the cgroup of the runtime")
                options.set_attributes |= RDONLY
        if kind == "sysfs" and "network" in self.foreign:
            return self._borrowed_sysfs(destination, options, origin)
        if kind == "mqueue" and "ipc" in self.foreign:
            self.warnings.append(f"{origin}/type: the host's /dev/mqueue, without an IPC namespace of its own")
            return self._bind_source("/dev/mqueue", destination, options, origin)
        return self._file_system(kind, mount.source, destination, options, origin)

    def _flags(self, kind: str, destination: str, options: MountOptions) -> int:
        flags = ops.ON_PROC if destination in PROC_FILES else 0
        if kind in NEVER_THROUGH_LINKS:
            flags |= ops.NO_SYMLINKS
        if kind == "bind" and destination == "/proc":
            flags |= ops.NO_SYMLINKS | ops.PROC_ROOT
        if options.copy_up:
            given = {option.partition("=")[0] for option in options.data}
            flags |= ops.COPY_UP | (ops.MODE_GIVEN if "mode" in given else 0)
            flags |= ops.OWNER_GIVEN if given & {"uid", "gid"} else 0
        return flags

    def _warn(self, superblock: int, why: str, origin: str) -> None:
        self._warn_of([name for name, (bit, is_set) in SUPERBLOCK.items() if is_set and superblock & bit], why, origin)

    def _warn_of(self, words: Sequence[str], why: str, origin: str) -> None:
        if words:
            self.warnings.append(f"{origin}/options: {', '.join(words)}: left out, {why}")

    def _attributes_for_bind(self, options: MountOptions, origin: str) -> MountOptions:
        """Return what of the options of a cgroup mount a bind mount in its place can have; warn of the rest."""
        why = "a matter of the file system, which is the host's"
        self._warn(options.superblock, why, origin)
        self._warn_of(options.data, why, origin)
        once = MountOptions()
        for name in ("set_attributes", "clear_attributes", "recursive_set", "recursive_clear"):
            setattr(once, name, getattr(options, name))
        return once

    def _file_system(
        self, kind: str, source: str | None, destination: str, options: MountOptions, origin: str
    ) -> list[Op]:
        namespace = self.mapped.slot_of(origin)
        first, *more = (*options.propagation, 0)[: len(options.propagation) or 1]
        then = [ops.remount(destination, origin, propagation=bits) for bits in more]
        flags = self._flags(kind, destination, options)
        detached = namespace != ops.NO_SLOT
        slot = self.slots.new() if detached else self.keep(destination)
        made = ops.mount(
            kind,
            source or kind,
            mount_options(kind, options.data, self.label),
            destination,
            origin,
            # On a new mount there is nothing below yet: recursive attributes are plain ones.
            set_attributes=options.set_attributes | options.recursive_set,
            propagation=0 if detached else first,
            superblock=options.superblock,
            flags=flags | (ops.DETACHED if detached else 0),
            kept=slot,
        )
        if not detached:
            return [made, *then]
        # Made by the caller's power, also where init will have less: whose a file system is is decided when it is made.
        mapped = [made, ops.idmap(slot, namespace, destination, origin)]
        kept = self.keep(destination)
        bound = ops.bind(slot, destination, origin, propagation=first, flags=flags, kept=kept)
        if self.early:
            self.before_user.extend(mapped)
            return [bound, *then]
        return [*mapped, bound, *then]

    def _bind(
        self, mount: Mount, destination: str, options: MountOptions, origin: str
    ) -> list[Op]:
        source = mount.source or ""
        if not source.startswith("/"):
            source = self.bundle + "/" + source
        return self._bind_source(source, destination, options, origin)

    def _bind_source(
        self, source: str, destination: str, options: MountOptions, origin: str
    ) -> list[Op]:
        first, *more = self._propagation_of_bind(options)
        slot = self.slots.new()
        opened = [ops.open_tree(slot, source, options.recursive, origin)]
        namespace = self.mapped.slot_of(origin)
        if namespace != ops.NO_SLOT:
            recursive = ops.RECURSIVE if options.idmap == "ridmap" else 0
            opened.append(ops.idmap(slot, namespace, destination, origin, recursive))
        bound = ops.bind(
            slot,
            destination,
            origin,
            set_attributes=options.set_attributes,
            clear_attributes=options.clear_attributes,
            propagation=first,
            recursive_set=options.recursive_set,
            recursive_clear=options.recursive_clear,
            flags=self._flags("bind", destination, options) | (ops.RECURSIVE if options.recursive else 0),
            kept=self.keep(destination),
        )
        then = [ops.remount(destination, origin, propagation=bits) for bits in more]
        if self.user_namespace and source == "/sys" and options.recursive and options.set_attributes & RDONLY:
            # What is mounted in it stays as it is, and cgroups in it may be the caller's own (CVE-2023-25809).
            base, place = self.find_base(below(destination, "fs/cgroup"))
            then.append(ops.readonly(place, origin, base))
        if self.early:
            self.before_user.extend(opened)
            return [bound, *then]
        return [*opened, bound, *then]

    def _propagation_of_bind(self, options: MountOptions) -> tuple[int, ...]:
        wanted = options.propagation
        if self.user_namespace and wanted[:1] not in (
            (SEVERED,),
            (MS_PRIVATE | MS_REC,),
            (MS_UNBINDABLE | MS_REC,),
        ):
            return (SEVERED, *wanted)
        return wanted or (0,)

    def _remount(self, destination: str, options: MountOptions, origin: str) -> list[Op]:
        first, *more = (*options.propagation, 0)[: len(options.propagation) or 1]
        done = ops.remount(
            destination,
            origin,
            options=options.data,
            set_attributes=options.set_attributes,
            clear_attributes=options.clear_attributes,
            propagation=first,
            superblock=options.superblock & ~SUPERBLOCK_UNNAMED,
            superblock_clear=options.superblock_clear & ~SUPERBLOCK_UNNAMED,
        )
        return [done, *(ops.remount(destination, origin, propagation=bits) for bits in more)]

    def _borrowed_cgroups(
        self, destination: str, options: MountOptions, origin: str
    ) -> list[Op]:
        """The host's tree of version 2, where a user namespace forbids to mount it: as what only the host may change.

        Whoever runs the runtime without being root may own cgroups in it (CVE-2023-25809).
        """
        if not (options.set_attributes | options.recursive_set) & RDONLY:
            self.warnings.append(f"{origin}/options: read-only, since the cgroups are not the container's own")
        once = self._attributes_for_bind(options, origin)
        once.set_attributes |= RDONLY
        once.clear_attributes &= ~RDONLY
        once.recursive_clear &= ~RDONLY
        once.propagation = options.propagation
        return self._bind_source(CGROUP_ROOT, destination, once, origin)

    def _borrowed_sysfs(self, destination: str, options: MountOptions, origin: str) -> list[Op]:
        """The host's /sys, where a user namespace forbids to mount another: with all that is mounted in it, read-only.

        The cgroups in it may be of the caller's own (CVE-2023-25809).
        """
        self.warnings.append(
            f"{origin}/type: the host's /sys, read-only, without a network namespace of its own"
        )
        once = MountOptions()
        once.recursive = True
        once.set_attributes = options.set_attributes
        once.recursive_set = RDONLY | options.set_attributes & (NOSUID | NODEV | NOEXEC)
        once.propagation = options.propagation
        return self._bind_source("/sys", destination, once, origin)

    def _legacy_cgroups(self, destination: str, options: MountOptions, origin: str) -> list[Op]:
        """A tmpfs with a directory for each hierarchy: the container's cgroup in it, or its own namespace's view.

        Spec: config-linux.md#cgroups-path says nothing of the shape; it is what runc and crun show.
        """
        once = self._attributes_for_bind(options, origin)
        # On a new mount there is nothing below yet: recursive attributes are plain ones.
        attributes = options.set_attributes | options.recursive_set
        readonly = attributes & RDONLY
        result = [
            ops.mount(
                "tmpfs",
                "tmpfs",
                mount_options("tmpfs", ("mode=755",), self.label),
                destination,
                origin,
                set_attributes=attributes & ~RDONLY,
            )
        ]
        for hierarchy in self.cgroups:
            place = below(destination, hierarchy.name)
            if self.own_cgroup_namespace:
                result.append(
                    ops.mount(
                        "cgroup",
                        "cgroup",
                        tuple(hierarchy.controllers.split(",")),
                        place,
                        origin,
                        set_attributes=attributes,
                    )
                )
            else:
                result.extend(self._bind_source(hierarchy.path, place, once, origin))
            result.extend(
                ops.symlink(below(destination, link), hierarchy.name, origin)
                for link in hierarchy.links
            )
        if readonly:
            result.append(ops.remount(destination, origin, set_attributes=readonly))
        # At last, so that recursive ones reach the hierarchies.
        result.extend(ops.remount(destination, origin, propagation=bits) for bits in options.propagation)
        return result


def normalize(destination: str) -> str:
    """Return a destination as an absolute path without "." and empty parts; ".." stays for the resolver.

    Spec: config.md#mounts: a relative destination is below "/".
    """
    if destination.startswith("/") and "//" not in destination and "/." not in destination:
        return destination.rstrip("/") or "/"
    parts = [part for part in destination.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def below(destination: str, name: str) -> str:
    """Return the path of what has this name in a destination, which is normal and may be "/"."""
    return f"{destination.rstrip('/')}/{name}"
