# SPDX-License-Identifier: Apache-2.0
"""The plans of `mounts add` and `mounts remove`, for a process that enters the container's mounts and ends there.

The order, and why:

 1. procfs                UNMOUNT goes through it, and /proc will be the container's
 2. sources               cloned where their paths mean what the caller meant, and cut off from the host at once: the
                          container runs, and could mount something in them as soon as it sees them
 3. namespaces            mount and user alone: nothing that is a matter of the others can be mounted
 4. root                  every path is resolved below it
 5. each mount            made detached; the parent notes which it is; attached

Spec: none; crun has the command.  Kernel: open_tree(2), move_mount(2), mount_setattr(2), umount2(2)
"""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.host import NAMESPACE_FILES
from ocirun.plan import ops
from ocirun.plan.labels import mount_options
from ocirun.plan.mapped_mounts import MappedMounts
from ocirun.plan.mounts import PROC_FILES, SEVERED, normalize
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.plan import Plan
from ocirun.plan.slots import Slots
from ocirun.spec.mount_options import (
    MS_REC,
    MS_SHARED,
    SUPERBLOCK,
    SUPERBLOCK_UNNAMED,
    parse_options,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.plan.ops import Op
    from ocirun.spec.id_maps import IdMaps
    from ocirun.spec.model import Mount
    from ocirun.spec.mount_options import MountOptions

#: The namespaces of the container that are entered, if they are not the caller's.
ENTERED = ("mount", "user")

#: What a file system shows is a matter of a namespace that is not entered, or of the container's cgroup.
_OF_OTHER_NAMESPACES = frozenset({"proc", "sysfs", "mqueue", "cgroup", "cgroup2"})


class Place:
    """The container that is entered: as `Joined` of `ocirun.plan.execution`, which documents the members."""

    __slots__ = ("ids", "namespaces", "own_root", "pid", "privileged")

    def __init__(
        self,
        pid: int,
        namespaces: Sequence[str],
        *,
        privileged: bool,
        ids: tuple[int, int],
        own_root: bool,
    ) -> None:
        self.pid = pid
        self.namespaces = tuple(namespaces)
        self.privileged = privileged
        self.ids = ids
        self.own_root = own_root


def check(mounts: Sequence[Mount], *, may_clone: bool) -> list[Problem]:
    """Return what cannot be mounted in a container that runs; pointers are relative to the list.

    `may_clone`: the caller may clone mounts of its own mount namespace.
    """
    problems = []
    for index, mount in enumerate(mounts):
        options = parse_options(mount.options)
        found = [*_check_bind(options, may_clone)] if is_bind(mount, options) else [*_check_new(mount, options)]
        found += _check_any(options)
        problems += [Problem("rule", f"/{index}/{member}", message) for member, message in found]
    return problems


def _check_bind(options: MountOptions, may_clone: bool) -> Iterator[tuple[str, str]]:
    names = [name for name, (bit, is_set) in SUPERBLOCK.items() if is_set and options.superblock & bit]
    if names:
        yield "options", f"{', '.join(names)}: a matter of the file system, which a bind shares"
    if not may_clone:
        yield "source", "to bind something of the host takes CAP_SYS_ADMIN over the runtime's mount namespace"


def _check_new(mount: Mount, options: MountOptions) -> Iterator[tuple[str, str]]:
    if mount.type in _OF_OTHER_NAMESPACES:
        yield "type", f"{mount.type}: only `create` can mount it, among the namespaces that it shows"
    elif mount.type is None:
        yield "type", "is missing: a bind needs the option bind or rbind"
    if options.superblock & SUPERBLOCK_UNNAMED:
        yield "options", "silent and iversion need mount(2), which knows no descriptors"


def _check_any(options: MountOptions) -> Iterator[tuple[str, str]]:
    if options.remount:
        yield "options", "remount: the mounts of `create` stay as they are"
    if options.copy_up:
        yield "options", "tmpcopyup: what would be copied may change meanwhile"
    if len(options.propagation) > 1:
        yield "options", "more than one kind of propagation"
    for bits in options.propagation:
        if bits & MS_SHARED:
            yield "options", "shared: what is mounted in a running container is not shared with the host"
        elif options.recursive and not bits & MS_REC:
            yield "options", "an rbind takes rprivate, rslave or runbindable"


def is_bind(mount: Mount, options: MountOptions) -> bool:
    """Say whether something that is there is to be mounted in a second place."""
    return options.bind or mount.type == "bind"


def build_adding(
    mounts: Sequence[Mount], bundle: str, place: Place, *, maps: IdMaps | None, label: str | None
) -> Plan:
    """Return the plan that adds mounts that have passed `check`.  Pure: reads nothing but its arguments.

    `maps` are those of the container's user namespace, `label` is `linux.mountLabel`.
    """
    slots = Slots()
    mapped = MappedMounts(mounts, maps, slots)
    root, opened = _inputs(slots, place)
    on_the_host: list[Op] = [ops.open_proc()]
    inside: list[Op] = []
    for index, mount in enumerate(mounts):
        origin = f"/{index}"
        options = parse_options(mount.options)
        namespace = mapped.slot_of(f"/mounts/{index}")
        destination = normalize(mount.destination)
        slot = slots.new()
        made: list[Op] = []
        bound: dict[str, int] = {"flags": ops.ON_PROC if destination in PROC_FILES else 0}
        if destination == "/proc":
            bound["flags"] = ops.NO_SYMLINKS | ops.PROC_ROOT  # as with `create`: nothing but a procfs
        if is_bind(mount, options):
            source = mount.source or ""
            source = source if source.startswith("/") else f"{bundle}/{source}"
            made.append(ops.open_tree(slot, source, options.recursive, origin, SEVERED))
            bound["flags"] |= ops.RECURSIVE if options.recursive else 0
            for name in ("set_attributes", "clear_attributes", "recursive_set", "recursive_clear"):
                bound[name] = getattr(options, name)
            is_on_the_host = True
        else:
            made.append(_new_mount(mount, options, destination, origin, slot, label))
            # Whose a file system is is decided when it is made: to map its ids takes power over it.
            is_on_the_host = namespace != ops.NO_SLOT
        if namespace != ops.NO_SLOT:
            below = ops.RECURSIVE if options.idmap == "ridmap" else 0
            made.append(ops.idmap(slot, namespace, destination, origin, below))
        (on_the_host if is_on_the_host else inside).extend(made)
        propagation = options.propagation[0] if options.propagation else 0
        inside.append(ops.barrier(ops.BARRIER_MOUNT, slot, sent=slot))
        inside.append(ops.bind(slot, destination, origin, propagation=propagation, **bound))
    return _plan([*on_the_host, *_enter(place, root, opened), *inside, ops.end()], slots, mapped.maps)


def _new_mount(
    mount: Mount, options: MountOptions, destination: str, origin: str, slot: int, label: str | None
) -> Op:
    kind = mount.type or ""
    return ops.mount(
        kind,
        mount.source or kind,
        mount_options(kind, options.data, label),
        destination,
        origin,
        # On a new mount there is nothing below yet: recursive attributes are plain ones.
        set_attributes=options.set_attributes | options.recursive_set,
        superblock=options.superblock,
        flags=ops.DETACHED,
        kept=slot,
    )


def build_removing(destinations: Sequence[tuple[str, str]], place: Place) -> Plan:
    """Return the plan that unmounts what the parent recognises at (pointer, destination), all of them or none."""
    slots = Slots()
    root, opened = _inputs(slots, place)
    found = [(pointer, path, slots.new()) for pointer, path in destinations]
    operations = [ops.open_proc(), *_enter(place, root, opened)]
    for pointer, path, slot in found:
        operations.append(ops.resolve(slot, path, pointer))
        operations.append(ops.barrier(ops.BARRIER_MOUNT, slot, sent=slot))
    # A mount takes those that are mounted in it along.
    found.sort(key=lambda each: each[1].count("/"), reverse=True)
    operations += [ops.unmount(slot, path, pointer) for pointer, path, slot in found]
    return _plan([*operations, ops.end()], slots)


def build_taking_back(attached: Sequence[tuple[str, str]], place: Place) -> Plan:
    """Return the plan that unmounts the inputs "mount0" … of (pointer, destination), the last first."""
    slots = Slots()
    inputs = [slots.input(f"mount{number}") for number in range(len(attached))]
    root, opened = _inputs(slots, place)
    operations = [ops.open_proc(), *_enter(place, root, opened)]
    for slot, (pointer, path) in reversed([*zip(inputs, attached, strict=True)]):
        operations.append(ops.unmount(slot, path, pointer, ops.IF_THERE))
    return _plan([*operations, ops.end()], slots)


def _inputs(slots: Slots, place: Place) -> tuple[int, dict[str, int]]:
    root = slots.input("root") if place.own_root else ops.NO_SLOT
    return root, {kind: slots.input(kind) for kind in place.namespaces}


def _enter(place: Place, root: int, opened: dict[str, int]) -> list[Op]:
    result = []
    for kind, slot in opened.items():
        path = f"/proc/{place.pid}/ns/{NAMESPACE_FILES[kind]}"
        result.append(ops.open_namespace(slot, path, CLONE_FLAGS[kind], ""))
    # As for exec: our power over the host joins what belongs to it; without it only the container's root can.
    for kind in sorted(opened, key=lambda kind: (kind == "user") == place.privileged):
        result.append(ops.join(opened[kind], CLONE_FLAGS[kind], ""))
        if kind == "user":
            result.append(ops.become(*place.ids, 0, ""))
    result.append(ops.enter_root(root))
    return result


def _plan(operations: Sequence[Op], slots: Slots, maps: Sequence[IdMaps] = ()) -> Plan:
    return Plan(
        operations, slots, clone_flags=0, keep_count=0, two_steps=False, makes_user_namespace=False, maps=maps
    )
