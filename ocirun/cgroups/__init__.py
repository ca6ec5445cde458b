# SPDX-License-Identifier: Apache-2.0
"""Cgroups: where a container's processes are kept together, limited, frozen, killed and removed.

    resources (model) ──build_settings──▶ settings ─┐
    device rules ──compile──▶ lines or program ─────┤
                                                    ▼
    open_manager ──▶ CgroupManager: record · create · clone_into/join_paths/place · apply · … · remove

`resources` and `devices` are pure; `cgroupfs` has the effects, with `unified` and `legacy` for what
only version 2 or version 1 has.  `systemd` has a scope made and does the rest by `cgroupfs`, with `units`,
`unit_properties` and `unit_annotations` as its pure part, and `systemd_bus` for D-Bus.  Nothing here is kept between
calls but what `record()` returns.
"""

from __future__ import annotations

from ocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from ocirun.spec.resources import Resources

    from .hierarchies import Hierarchy
else:
    Protocol = object


class CgroupManager(Protocol):
    """What the runtime asks of a container's cgroups.

    A manager is used by one thread at a time, owns the descriptors it opens, and must be closed.
    """

    def record(self) -> dict[str, Any]:
        """Return what may come to exist, for the intent record; JSON types only.

        Before `create` it names the directories and refuses a cgroup that is in use; taken again
        after `create` it also holds the identity of what was made, and such a record lets `remove`
        be thorough.

        Errors: CgroupError if the container's cgroup has processes or is frozen.
        """

    def create_birthplace(self) -> None:
        """Make what `clone_into` needs, and nothing where there is no version 2; `create` makes the rest."""

    def create(self) -> None:
        """Make the cgroup.  Must come after `record` was saved.

        Errors: CgroupError; nothing that this call made is left then.
        """

    def clone_into(self, subgroup: str = "") -> int | None:
        """Return an owned directory descriptor for CLONE_INTO_CGROUP, None without version 2.

        *subgroup* is a path below the container's cgroup (exec).
        """

    def join_paths(self, subgroup: str = "") -> list[str]:
        """Return a file for each version 1 hierarchy; the new process writes "0" to each.

        That must happen while it has one thread, before it drops anything.  Why not `place`: a process that moves
        another makes the kernel wait for every CPU (12 ms on an idle host); a single-threaded process that moves itself
        does not (0.2 ms for nine hierarchies).
        """

    def place(
        self, pid: int, *, cloned: bool = False, joined: bool = False, subgroup: str = ""
    ) -> None:
        """Move *pid* into the cgroup in every hierarchy but those that `clone_into` or `join_paths`
        have done.

        Errors: CgroupError.
        """

    def apply(
        self, resources: Resources | None, in_user_namespace: bool, *, update: bool = False
    ) -> None:
        """Set the limits of *resources* and the device rules.

        Without *update* the devices that `resources` does not allow are denied, even if it is None.

        With *update* devices change only if `resources` lists some, all is done or nothing (the error says so), and
        pointers are relative to `resources`, which is a document of its own then.  Must come after init's last fork of
        its own, since pids.limit may be 0.  *in_user_namespace*: of the runtime, which then can
        give nobody a device node, so not being allowed to filter them is tolerated.

        Errors: CgroupError with the JSON pointer of the setting; InvalidConfig if it can be known
        beforehand that the host's cgroup version cannot express one.
        """

    def limits_now(self) -> dict[str, str]:
        """Return what cpu.max and memory.max hold, as far as there are such files.

        They have what an update must know that names one of two: a period without its quota, memory + swap without the
        memory.
        """

    def freeze(self, deadline_s: float = 10.0) -> None:
        """Freeze every process and wait.  Errors: CgroupError, after thawing again."""

    def thaw(self) -> None:
        """Let the processes go on."""

    def is_frozen(self) -> bool:
        """Tell whether `freeze` is in effect; a frozen ancestor does not count.  False if there is
        no cgroup.
        """

    def pids(self) -> list[int]:
        """Return the pids of all processes in the cgroup and below, sorted."""

    def kill_all(self, signal: int) -> None:
        """Send *signal* to every process in the cgroup and below, but never to pid 1 or to the
        caller.

        Does not wait for them to be gone.  SIGKILL reaches frozen processes, and leaves the cgroup
        thawed.
        """

    def init_subgroup(self, pid: int) -> str:
        """Return the cgroup of *pid* as a path below the container's cgroup.

        For exec, when the container moved its processes into cgroups of its own and the kernel
        therefore refuses new ones in the container's cgroup (EBUSY).  Errors: CgroupError if *pid*
        is elsewhere.
        """

    def remove(self, deadline_s: float = 10.0, *, keep_existing: bool = False) -> None:
        """Kill what is left and remove the cgroup, and the parents that were made for it if they
        are empty.

        Idempotent.  Another container's cgroup in the recorded place is left alone.  With
        *keep_existing*, for rolling back a `create`, a cgroup that was there before stays.

        Errors: CgroupError if something is still there after the deadline; call again later.
        """

    def paths(self) -> list[Hierarchy]:
        """Return each hierarchy with the container's path in it."""

    def close(self) -> None:
        """Close the descriptors.  The manager can be used afterwards; it opens them again."""


def open_manager(
    kind: str,
    layout: str,
    container_id: str,
    cgroups_path: str | None,
    recorded: dict[str, Any] | None = None,
    *,
    rootless: bool = False,
    optional: bool = False,
    annotations: Mapping[str, str] | None = None,
    resources: Resources | None = None,
    proc: tuple[str, str] | None = None,
) -> CgroupManager:
    """Return the cgroup manager *kind* ("cgroupfs", "systemd" or "disabled") for a container.

    *layout* is `HostFacts.cgroup_layout`.  With *recorded* (what `record` returned in another
    process) everything follows from it, the other arguments are not looked at and no file is read.
    *optional*: hierarchies that may not be written are left out if `cgroups_path` is absent.  *rootless*: systemd is
    the user's own.  *annotations* and *resources* are the configuration's: some of it systemd has to know when it
    makes the scope.  *proc*: the texts of /proc/self/cgroup and /proc/self/mountinfo, where they have been read.

    Errors: CgroupError, InvalidConfig.
    """
    if recorded is not None:
        kind = str(recorded.get("manager"))
    if kind == "disabled":
        from .disabled import DisabledManager

        return DisabledManager()
    if kind == "cgroupfs":
        from .cgroupfs import CgroupfsManager

        if recorded is not None:
            return CgroupfsManager.from_record(recorded)
        from .hierarchies import discover

        hierarchies = discover(layout, cgroups_path, container_id, proc)
        return CgroupfsManager(hierarchies, optional=optional and not cgroups_path)
    if kind == "systemd":
        from .systemd import SystemdManager

        if recorded is not None:
            return SystemdManager.from_record(recorded)
        return SystemdManager.new(
            layout,
            container_id,
            cgroups_path,
            rootless=rootless,
            annotations=annotations or {},
            resources=resources,
        )
    raise CgroupError(f"unknown cgroup manager {kind!r}", op="open")
