# SPDX-License-Identifier: Apache-2.0
"""`process`: limits, identity, capabilities, environment, and the last steps to execve.

Spec: config.md#process; Kernel: capabilities(7), prlimit(2), personality(2), seccomp(2)
"""

from __future__ import annotations

from sys import byteorder

from ocirun.plan import ops
from ocirun.plan.labels import build_execution
from ocirun.spec.ranges import LAST_CPU, LAST_NODE, parse_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Capabilities, Linux, Process

#: In the kernel's order: the index is the number.  capabilities(7)
CAPABILITY_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
CAPABILITY_BITS = {f"CAP_{name}": 1 << number for number, name in enumerate(CAPABILITY_NAMES)}
CAP_SYS_ADMIN = CAPABILITY_BITS["CAP_SYS_ADMIN"]

#: getrlimit(2), asm-generic numbering: the one of every machine that ocirun-init is built for.
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}

#: What engines rely on where the specification would leave the caller's umask alone (design D12).
DEFAULT_UMASK = 0o022


class CapabilitySets:
    """The five sets as bit masks, cut down to what this kernel knows and this runtime may give.

    Spec: config.md#linux-process: what cannot be mapped (`unknown`) or granted (`withheld`: set, name, what it
    would have to be) is a warning, no error.
    """

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted", "unknown", "withheld")

    def __init__(self, capabilities: Capabilities | None, available: int) -> None:
        self.unknown: list[str] = []
        self.withheld: list[tuple[str, str, str]] = []
        if capabilities is None:
            # An absent object is an empty one, as with crun: nobody asked for privileges.
            self.bounding = self.effective = self.inheritable = self.permitted = self.ambient = 0
            return
        self.bounding = self._mask(capabilities.bounding, available)
        self.permitted = self._mask(capabilities.permitted, available)
        # capabilities(7): capset(2) and prctl(2) take no others.  Engines list them all the same.
        self.effective = self._within(
            "effective", self._mask(capabilities.effective, available), self.permitted, "permitted"
        )
        self.inheritable = self._within(
            "inheritable", self._mask(capabilities.inheritable, available), self.bounding, "in the bounding set"
        )
        raisable = self.permitted & self.inheritable
        wanted = self._mask(capabilities.ambient, available)
        self.ambient = self._within("ambient", wanted, raisable, "permitted and inheritable")

    def _within(self, kind: str, wanted: int, possible: int, what: str) -> int:
        for name, bit in CAPABILITY_BITS.items() if wanted & ~possible else ():
            if bit & wanted & ~possible:
                self.withheld.append((kind, name, what))
        return wanted & possible

    def _mask(self, names: tuple[str, ...], available: int) -> int:
        mask = 0
        for name in names:
            bit = CAPABILITY_BITS.get(name, 0)
            if bit & available:
                mask |= bit
            elif name not in self.unknown:
                self.unknown.append(name)
        return mask


def build_limits(process: Process, *, raise_only: bool = False) -> list[Op]:
    """Return the resource limits; with `raise_only` what must happen while CAP_SYS_RESOURCE is there."""
    return [
        ops.rlimit(
            RLIMITS[limit.type],
            limit.soft,
            limit.hard,
            f"/process/rlimits/{index}",
            ops.RAISE if raise_only else 0,
        )
        for index, limit in enumerate(process.rlimits)
    ]


#: sched(7), sched_setattr(2)
SCHEDULER_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
#: ioprio_set(2): the class is above 13 bits of level.
IO_PRIORITY_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: set_mempolicy(2)
MEMORY_POLICY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_POLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}


def build_scheduling(process: Process, linux: Linux) -> list[Op]:
    """Return the scheduler, the I/O priority and the NUMA policy of the process."""
    result = []
    scheduler = process.scheduler
    if scheduler is not None:
        times = (scheduler.runtime or 0, scheduler.deadline or 0, scheduler.period or 0)
        result.append(
            ops.scheduler(
                SCHEDULER_POLICIES[scheduler.policy],
                sum(SCHEDULER_FLAGS[flag] for flag in set(scheduler.flags)),
                # A signed number in an unsigned field; the kernel reads 32 bits of it.
                (scheduler.nice or 0) & 0xFFFFFFFF,
                scheduler.priority or 0,
                b"".join(each.to_bytes(8, byteorder) for each in times),
            )
        )
    if process.io_priority is not None:
        level = process.io_priority.priority or 0
        result.append(ops.io_priority(IO_PRIORITY_CLASSES[process.io_priority.class_] << 13 | level))
    policy = linux.memory_policy
    if policy is not None:
        encoded = None if policy.nodes is None else _encode_mask(parse_ranges(policy.nodes, LAST_NODE))
        mode = MEMORY_POLICY_MODES[policy.mode] | sum(
            MEMORY_POLICY_FLAGS[flag] for flag in set(policy.flags)
        )
        result.append(ops.memory_policy(mode, encoded, 8 * len(encoded or b"")))
    return result


def _encode_mask(ranges: Sequence[tuple[int, int]]) -> bytes:
    """Return a set of numbers as the kernel reads one: words of 64 bits in this machine's order, the lowest first."""
    mask = 0
    for first, last in ranges:
        mask |= (1 << (last + 1)) - (1 << first)
    encoded = mask.to_bytes(8 * -(-mask.bit_length() // 64), byteorder)
    if byteorder == "big":
        encoded = b"".join(encoded[at : at + 8] for at in range(len(encoded) - 8, -1, -8))
    return encoded


def build_affinity(cpus: str | None, which: str) -> list[Op]:
    """Return what keeps the process on some CPUs; *which* of execCPUAffinity's members says so."""
    if cpus is None:
        return []
    return [ops.affinity(_encode_mask(parse_ranges(cpus, LAST_CPU)), f"/process/execCPUAffinity/{which}")]


def build_process(
    process: Process,
    linux: Linux,
    sets: CapabilitySets,
    env: tuple[str, ...],
    *,
    last_capability: int,
    hold_admin: bool,
    set_groups: bool,
) -> list[Op]:
    """Return everything that makes the process what its document says, but for the last steps.

    Inside the container's namespaces and its root.  Limits are late, since init itself must not run into them; labels
    while the files of /proc that take them may still be opened, and before no_new_privs, which may forbid the change.
    """
    result = [ops.stdio(process.user.uid)]
    if linux.personality is not None:
        result.append(ops.personality(PERSONALITIES[linux.personality.domain]))
    result.extend(build_scheduling(process, linux))
    result.extend(build_limits(process))
    result.extend(build_execution(process))
    result.extend(
        build_identity(
            process, sets, last_capability=last_capability, hold_admin=hold_admin, set_groups=set_groups
        )
    )
    result.extend(build_executable(process, env))
    return result


def build_identity(
    process: Process,
    sets: CapabilitySets,
    *,
    last_capability: int,
    hold_admin: bool,
    set_groups: bool,
) -> list[Op]:
    """Return the change to the process's user and capabilities.

    The order is: bounding while CAP_SETPCAP is there; groups, then ids, with capabilities kept across them; the
    directory, as root first and as the user where root is refused; at last the sets themselves.
    """
    user = process.user
    groups: bytes | None = None
    if set_groups:
        groups = b"".join(gid.to_bytes(4, byteorder) for gid in user.additional_gids)
    held = CAP_SYS_ADMIN if hold_admin else 0
    return [
        ops.bounding(sets.bounding, last_capability),
        ops.chdir(process.cwd, "/process/cwd", ops.TOLERANT),
        ops.ids(user.uid, user.gid, groups, "/process/user"),
        ops.chdir(process.cwd, "/process/cwd", ops.RETRY),
        ops.capabilities(sets.effective, sets.permitted | held, sets.inheritable, sets.ambient),
    ]


def build_executable(process: Process, env: tuple[str, ...]) -> list[Op]:
    """Return the lookup of args[0], as the user who will execute it."""
    path = None
    for entry in env:
        if entry.startswith("PATH="):
            path = entry[5:]
    result = [ops.find_executable(process.args[0], path)]
    if not any(entry.startswith("HOME=") for entry in env):
        result.append(ops.find_home(process.user.uid))
    return result


def build_hook_confinement(
    process: Process, sets: CapabilitySets, seccomp: CompiledFilter | None
) -> list[Op]:
    """Return what confines a startContainer hook, a program of the image, as the process will be.

    Done by the hook's own process, so that a profile has to allow what the hook does and not what it takes to run one.
    There is one agent, for the process: what it would have to decide is ENOSYS for a hook (seccomp(2)).
    """
    load = None
    if seccomp is not None:
        load = ops.seccomp(seccomp.program, seccomp.flags_without_agent)
    return _confinement(process, sets, load)


def _confinement(process: Process, sets: CapabilitySets, load: Op | None) -> list[Op]:
    """Return no_new_privs and the filter, and the fall of what it takes to load that."""
    if process.no_new_privileges:
        return [ops.no_new_privileges(), *([] if load is None else [load])]
    if load is None:
        return []
    raised = (sets.effective | CAP_SYS_ADMIN, sets.permitted | CAP_SYS_ADMIN)
    return [
        ops.capabilities(*raised, sets.inheritable, sets.ambient),
        load,
        ops.capabilities(sets.effective, sets.permitted, sets.inheritable, 0, ops.FINAL),
    ]


def build_last_steps(
    process: Process,
    sets: CapabilitySets,
    env: tuple[str, ...],
    seccomp: CompiledFilter | None,
    agent_slot: int,
    text_slot: int,
) -> list[Op]:
    """Return everything from the close of all descriptors to execve.

    Descriptors and the word to `start` come before the filter, which may forbid both.  Without no_new_privs loading a
    filter takes CAP_SYS_ADMIN, so what is dropped after it is dropped under the filter: capset, capget, execve (and
    write, exit_group where execve fails) are all that a profile must allow beside the program's own needs.
    """
    load = ops.seccomp(seccomp.program, seccomp.flags, agent_slot, text_slot) if seccomp is not None else None
    result = [ops.announce(agent_slot, text_slot), *_confinement(process, sets, load)]
    umask = DEFAULT_UMASK if process.user.umask is None else process.user.umask
    result.append(ops.execute(process.args, env, umask, "/process/args/0"))
    return result

