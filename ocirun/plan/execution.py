# SPDX-License-Identifier: Apache-2.0
"""The plan of exec: from a process document to a process in a container that is there already.

The order, and why:

 1. initial CPUs          config.md#linux-process: before the process is in the container's cgroup
 2. cgroup, RDT           paths of the host, so before any namespace; born in that of version 2, or moved by the parent
 3. final CPUs            the cgroup's cpuset has just chosen others
 4. procfs, OOM score, higher limits
                          while /proc is the runtime's, and before a user namespace takes the power over the host away
 5. namespaces            opened by the parent, from a directory of /proc that was proven to be the container's process;
                          the user namespace last with power over the host, first without
 6. fork                  a joined pid namespace is for children only.  Whoever traces or looks at processes in there
                          meets one that was never dumpable, and whose descriptors are the container's own
 7. root, session, keyring, terminal
 8. the process, its identity, the lookup of args[0]: as in `build`
 9. ready                 the parent makes the process known
10. descriptors closed, no_new_privs, filter, execve
"""

from __future__ import annotations

from ocirun.host import NAMESPACE_FILES
from ocirun.plan import ops
from ocirun.plan.labels import build_keyring
from ocirun.plan.left_out import left_out_capabilities
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.plan import Plan
from ocirun.plan.process import (
    CapabilitySets,
    build_affinity,
    build_last_steps,
    build_limits,
    build_process,
)
from ocirun.plan.slots import Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Linux, Process


class Joined:
    """What a plan of exec depends on beside the process and `linux` of the container's config.json.

    `namespaces` are those that the process enters, in the specification's words, all of them inputs of their name;
    `pid` is the container's process, for messages.  `join_paths` and `rdt_paths` are files by which the process joins
    cgroups and RDT groups.  `ids` are the user and group to be in a user namespace until the process's own.
    `privileged` says that the caller has power over its own namespaces, `is_root` that the files of /proc of a process
    that is not dumpable are its own.  `own_root` says that the container's root is not that of its mount namespace: it
    is the input "root".  `keyring` is the name of the container's session keyring, None where it has none.
    """

    __slots__ = (
        "available_capabilities",
        "dumpable",
        "ids",
        "join_paths",
        "keep_count",
        "keyring",
        "last_capability",
        "namespaces",
        "own_root",
        "pid",
        "privileged",
        "rdt_paths",
        "seccomp",
        "set_groups",
    )

    def __init__(
        self,
        pid: int,
        namespaces: Sequence[str],
        *,
        available_capabilities: int = (1 << 41) - 1,
        last_capability: int = 40,
        privileged: bool = True,
        is_root: bool = True,
        ids: tuple[int, int] = (0, 0),
        set_groups: bool = True,
        join_paths: Sequence[str] = (),
        rdt_paths: Sequence[str] = (),
        seccomp: CompiledFilter | None = None,
        keep_count: int = 0,
        keyring: str | None = None,
        own_root: bool = False,
    ) -> None:
        self.pid = pid
        self.namespaces = tuple(namespaces)
        self.available_capabilities = available_capabilities
        self.last_capability = last_capability
        self.privileged = privileged
        self.dumpable = 0 if is_root else ops.DUMPABLE
        self.ids = ids
        self.set_groups = set_groups
        self.join_paths = tuple(join_paths)
        self.rdt_paths = tuple(rdt_paths)
        self.seccomp = seccomp
        self.keep_count = keep_count
        self.keyring = keyring
        self.own_root = own_root


def build_joining(process: Process, linux: Linux, joined: Joined) -> Plan:
    """Return the plan that executes a process in a container.  Pure: reads nothing but its arguments."""
    slots = Slots()
    console_slot = slots.input("console") if process.terminal else ops.NO_SLOT
    notify = joined.seccomp is not None and joined.seccomp.notify
    agent_slot = slots.input("agent") if notify else ops.NO_SLOT
    root_slot = slots.input("root") if joined.own_root else ops.NO_SLOT
    opened = {kind: slots.input(kind) for kind in joined.namespaces}
    text_slot = slots.new() if notify else ops.NO_SLOT
    sets = CapabilitySets(process.capabilities, joined.available_capabilities)
    operations = [
        *_enter_cgroup(process, joined),
        *_while_on_the_host(process, joined),
        *_enter_namespaces(linux, opened, joined),
        ops.enter_root(root_slot),
        ops.setsid(),
        *(build_keyring(joined.keyring, process) if joined.keyring is not None else ()),
        *_terminal(process, console_slot),
        *build_process(
            process,
            linux,
            sets,
            process.env,
            last_capability=joined.last_capability,
            hold_admin=joined.seccomp is not None and not process.no_new_privileges,
            set_groups=joined.set_groups,
        ),
        ops.barrier(ops.BARRIER_READY, text_slot),
        *build_last_steps(process, sets, process.env, joined.seccomp, agent_slot, text_slot),
    ]
    return Plan(
        operations,
        slots,
        clone_flags=0,
        keep_count=joined.keep_count,
        two_steps="pid" in opened,
        makes_user_namespace=False,
        warnings=tuple(left_out_capabilities(sets)),
    )


def _enter_cgroup(process: Process, joined: Joined) -> list[Op]:
    affinity = process.exec_cpu_affinity
    return [
        *build_affinity(affinity.initial if affinity is not None else None, "initial"),
        ops.barrier(ops.BARRIER_CGROUP),
        *(ops.join_cgroup(path) for path in joined.join_paths),
        *(ops.join_cgroup(path, "/linux/intelRdt") for path in joined.rdt_paths),
        *build_affinity(affinity.final if affinity is not None else None, "final"),
    ]


def _while_on_the_host(process: Process, joined: Joined) -> list[Op]:
    result = []
    if process.apparmor_profile is not None or process.selinux_label is not None:
        result.append(ops.open_proc())
    if process.oom_score_adj is not None:
        adjustment = str(process.oom_score_adj)
        result.append(ops.write_proc("self/oom_score_adj", adjustment, "/process/oomScoreAdj", joined.dumpable))
    if "user" in joined.namespaces and joined.privileged:
        result.extend(build_limits(process, raise_only=True))
    return result


def _enter_namespaces(linux: Linux, opened: dict[str, int], joined: Joined) -> list[Op]:
    origins = dict.fromkeys(opened, "")  # of one that the configuration does not name
    origins |= {each.type: f"/linux/namespaces/{index}" for index, each in enumerate(linux.namespaces)}
    result = []
    for kind, slot in opened.items():
        path = f"/proc/{joined.pid}/ns/{NAMESPACE_FILES[kind]}"
        result.append(ops.open_namespace(slot, path, CLONE_FLAGS[kind], origins[kind]))
    # Our power over the host joins namespaces that belong to it; without it only the container's root can join his.
    for kind in sorted(opened, key=lambda kind: (kind == "user") == joined.privileged):
        result.append(ops.join(opened[kind], CLONE_FLAGS[kind], origins[kind]))
        if kind == "user":
            result.append(ops.become(*joined.ids, 0, origins[kind]))
    if "pid" in opened:
        result.append(ops.fork(0, origins["pid"]))
    return result


def _terminal(process: Process, slot: int) -> list[Op]:
    if not process.terminal:
        return []
    size = process.console_size
    rows, columns = (size.height, size.width) if size is not None else (0, 0)
    return [ops.console(slot, rows, columns, process.user.uid, 0)]
