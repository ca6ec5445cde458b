# SPDX-License-Identifier: Apache-2.0
"""Namespaces: which are made when init is cloned, which by init, which are joined, which need a second process.

Kernel: namespaces(7), clone(2), setns(2), user_namespaces(7), time_namespaces(7)
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.slots import Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.spec.model import Linux, TimeOffset

#: The specification's word -> CLONE_NEW*
CLONE_FLAGS = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}


class Namespaces:
    """What `linux.namespaces` asks for.

    `created` and `joined` map the specification's word to its index in the list, `paths` to the path joined;
    `netlink` is the slot of the socket by which the parent brings `linux.netDevices` into the network namespace,
    `user` that of a joined user namespace which the parent has opened.
    """

    __slots__ = ("created", "joined", "netlink", "paths", "user")

    def __init__(self, linux: Linux) -> None:
        self.created: dict[str, int] = {}
        self.joined: dict[str, int] = {}
        self.paths: dict[str, str] = {}
        self.netlink = ops.NO_SLOT
        self.user = ops.NO_SLOT
        for index, namespace in enumerate(linux.namespaces):
            if namespace.path is None:
                self.created[namespace.type] = index
            else:
                self.joined[namespace.type] = index
                self.paths[namespace.type] = namespace.path

    def has(self, kind: str) -> bool:
        """Say whether the container has a namespace of its own or a joined one of this kind."""
        return kind in self.created or kind in self.joined

    def foreign(self, *, in_user_namespace: bool) -> frozenset[str]:
        """Return the kinds of namespaces that the user namespace of the container has no power over.

        A namespace belongs to the user namespace that it was made in; one that is joined, to that which is joined with
        it.  `in_user_namespace` says whether the runtime is in one itself, and does not own the host's namespaces.
        """
        if "user" in self.created:
            return frozenset(CLONE_FLAGS).difference(self.created)
        if "user" in self.joined or in_user_namespace:
            return frozenset(CLONE_FLAGS).difference(self.created, self.joined)
        return frozenset()

    @property
    def in_two_steps(self) -> bool:
        """Say whether init has to be forked by a first process.

        A user namespace needs its maps before the next exec, so it cannot be made by the spawn; a joined pid
        namespace and a time namespace take effect for children only.
        """
        return self.has("user") or "pid" in self.joined or self.has("time")

    @property
    def spawn_flags(self) -> int:
        """Return the CLONE_NEW* flags of the spawn itself: all new ones but one, where one step is enough.

        A network namespace takes the kernel longer than all others together.  Init makes it, while the parent, which
        would wait for clone(2), makes the cgroups.
        """
        return 0 if self.in_two_steps else self._flags_of(self.created) & ~CLONE_FLAGS["network"]

    def _flags_of(self, kinds: dict[str, int]) -> int:
        # The cgroup namespace is rooted where its maker is, and init is placed after its birth.
        return sum(CLONE_FLAGS[kind] for kind in kinds if kind != "cgroup")

    def build(
        self, linux: Linux, slots: Slots, before_user: Sequence[Op], sources: Sequence[Op], entry: UserEntry
    ) -> list[Op]:
        """Return the operations that enter all namespaces but a new cgroup namespace.

        `before_user` is what needs the caller's privileges over host objects, and `sources` what it can reach of the
        host's files; both come before a user namespace is entered.  A caller that may clone mounts in a user namespace
        alone does so there, while it is still itself.  Namespaces' paths are opened before anything changes, so all of
        them are paths of the runtime's.
        """
        result = []
        opened = {}
        if linux.net_devices:
            self.netlink = slots.new()
        for kind, index in self.joined.items():
            opened[kind] = self.user if kind == "user" and self.user >= 0 else slots.new()
            origin = f"/linux/namespaces/{index}/path"
            result.append(
                ops.open_namespace(opened[kind], self.paths[kind], CLONE_FLAGS[kind], origin)
            )
        result.extend(before_user)
        if entry.clones_outside:
            result.extend(sources)
        # With power over the others the user namespace last, which takes it away; without it first, which gives it.
        last = entry.clones_outside
        for kind in sorted(opened, key=lambda kind: (kind == "user") == last):
            origin = f"/linux/namespaces/{self.joined[kind]}"
            result.append(ops.join(opened[kind], CLONE_FLAGS[kind], origin))
            if kind == "network" and self.netlink >= 0:
                # Before a user namespace takes away what the joined one asks for.
                result.append(ops.open_netlink(self.netlink, "/linux/netDevices"))
        if self.in_two_steps:
            result.extend(self._build_two_steps(linux, () if entry.clones_outside else sources, entry))
        elif "network" in self.created:
            origin = f"/linux/namespaces/{self.created['network']}"
            result.append(ops.unshare(CLONE_FLAGS["network"], origin))
        return result

    def build_network(self) -> list[Op]:
        """Return what a new network namespace needs, and the wait for devices that are moved into the container's."""
        result = []
        if "network" in self.created:
            result.append(ops.loopback(f"/linux/namespaces/{self.created['network']}"))
            if self.netlink >= 0:
                result.append(ops.open_netlink(self.netlink, "/linux/netDevices"))
        if self.netlink >= 0:
            result.append(ops.barrier(ops.BARRIER_NETWORK, sent=self.netlink))
        return result

    def _build_two_steps(self, linux: Linux, sources: Sequence[Op], entry: UserEntry) -> list[Op]:
        result = []
        become = []
        if self.has("user"):
            origin = f"/linux/namespaces/{(self.created | self.joined)['user']}"
            flags = entry.set_groups if "user" in self.created else 0
            become.append(ops.become(*entry.ids, flags, origin))
        if "user" in self.created:
            result.append(ops.unshare(CLONE_FLAGS["user"], origin))
            result.append(ops.id_maps(entry.dumpable, "/linux/uidMappings"))
        if entry.clones_outside:
            result.extend(become)
        others = {kind: 0 for kind in self.created if kind not in ("user", "pid")}
        if self._flags_of(others):
            result.append(ops.unshare(self._flags_of(others), "/linux/namespaces"))
        if not entry.clones_outside:
            result.extend(sources)
            result.extend(become)
        if "time" in self.created and linux.time_offsets is not None:
            # Only while no process is inside: the fork below makes the first one.  Nobody can look at us in a user
            # namespace that is new; in a joined one we had better stay hidden.
            result.extend(_time_offsets(linux, entry.dumpable if "user" in self.created else 0))
        result.append(ops.fork(CLONE_FLAGS["pid"] if "pid" in self.created else 0, "/linux/namespaces"))
        # No limit may be in force before this fork (pids.limit may be 0), all of them must be before what follows.
        result.append(ops.barrier(ops.BARRIER_LIMITS))
        return result


class UserEntry:
    """How a user namespace is entered.

    `ids` are the user and group to be there; `set_groups` (a flag of BECOME) and `dumpable` (of ID_MAPS and WRITE_PROC)
    say what that takes; `clones_outside` that the caller has power over its own mounts.
    """

    __slots__ = ("clones_outside", "dumpable", "ids", "set_groups")

    def __init__(
        self, ids: tuple[int, int], *, set_groups: bool, hidden: bool, clones_outside: bool
    ) -> None:
        self.ids = ids
        self.set_groups = ops.SETGROUPS if set_groups else 0
        self.dumpable = 0 if hidden else ops.DUMPABLE
        self.clones_outside = clones_outside


def _time_offsets(linux: Linux, flags: int) -> list[Op]:
    assert linux.time_offsets is not None
    clocks: tuple[tuple[str, TimeOffset | None], ...] = (
        ("monotonic", linux.time_offsets.monotonic),
        ("boottime", linux.time_offsets.boottime),
    )
    return [
        ops.write_proc(
            "self/timens_offsets",
            f"{clock} {offset.secs} {offset.nanosecs}",
            f"/linux/timeOffsets/{clock}",
            flags,
        )
        for clock, offset in clocks
        if offset is not None
    ]
