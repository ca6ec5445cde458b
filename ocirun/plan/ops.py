# SPDX-License-Identifier: Apache-2.0
"""The operations of a plan: one constructor for each opcode of `_native/abi.h`, with the same name.

An operation is data.  `origin` is the JSON pointer that it comes from; a failure of ocirun-init is reported with it.
Slots are numbers that the builder hands out; they stand for descriptors.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Text = str | bytes | tuple[str, ...] | None

NO_SLOT = -1
SYNC_SLOT = 0

# Flags of abi.h; tests/native/test_abi.py holds the two together.
RECURSIVE = 1
NO_SYMLINKS = 2
ON_PROC = 4
COPY_UP = 8
MODE_GIVEN = 32
OWNER_GIVEN = 64
DUMPABLE = 16
SETGROUPS = 32
REPLACE = 64
NOTIFY = 128
PROC_ROOT = 256
NO_PIVOT = 256
FINAL = 512
BIND_CONSOLE = 1024
BEST_EFFORT = 2048
TOLERANT = 8192
RETRY = 16384
RAISE = 32768
DETACHED = 16384
IF_THERE = 1
SAME_MODE = 1
SAME_UID = 2
SAME_GID = 4

BARRIER_CGROUP = 1
BARRIER_LIMITS = 2
BARRIER_NETWORK = 3
BARRIER_CREATE_RUNTIME = 4
BARRIER_CREATED = 5
BARRIER_READY = 6
BARRIER_MOUNT = 7


class Op:
    """One operation: opcode name, origin, and the operands that its constructor below names."""

    __slots__ = ("flags", "name", "numbers", "origin", "slots", "texts")

    def __init__(
        self,
        name: str,
        origin: str,
        texts: tuple[Text, ...] = (),
        numbers: tuple[int, ...] = (),
        slots: tuple[int, ...] = (),
        flags: int = 0,
    ) -> None:
        self.name = name
        self.origin = origin
        self.texts = texts
        self.numbers = numbers
        self.slots = slots
        self.flags = flags

    def __repr__(self) -> str:
        return (
            f"Op({self.name!r}, {self.origin!r}, {self.texts!r}, {self.numbers!r}, {self.slots!r}, {self.flags})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Op) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


# Namespaces


def open_namespace(slot: int, path: str, kind: int, origin: str) -> Op:
    return Op("OPEN_NAMESPACE", origin, (path,), (kind,), (slot,))


def affinity(mask: bytes, origin: str) -> Op:
    return Op("AFFINITY", origin, (mask,))


def join_cgroup(path: str, origin: str = "/linux/cgroupsPath") -> Op:
    return Op("JOIN_CGROUP", origin, (path,))


def join(slot: int, kind: int, origin: str) -> Op:
    return Op("JOIN", origin, (), (kind,), (slot,))


def unshare(flags: int, origin: str) -> Op:
    return Op("UNSHARE", origin, (), (flags,))


def id_maps(flags: int, origin: str) -> Op:
    return Op("ID_MAPS", origin, flags=flags)


def become(uid: int, gid: int, flags: int, origin: str) -> Op:
    return Op("BECOME", origin, (), (uid, gid), flags=flags)


def fork(clone_flags: int, origin: str) -> Op:
    return Op("FORK", origin, (), (clone_flags,))


def barrier(which: int, slot: int = NO_SLOT, *, sent: int = NO_SLOT) -> Op:
    return Op("BARRIER", "", (), (which,), (slot, sent))


def open_proc() -> Op:
    return Op("OPEN_PROC", "")


def enter_root(slot: int = NO_SLOT) -> Op:
    return Op("ENTER_ROOT", "/root/path", (), (), (slot,))


def write_proc(path: str, data: str, origin: str, flags: int = 0) -> Op:
    return Op("WRITE_PROC", origin, (path, data), flags=flags)


def sysctl(path: str, value: str, origin: str) -> Op:
    return Op("SYSCTL", origin, (path, value))


def hostname(name: str) -> Op:
    return Op("HOSTNAME", "/hostname", (name,))


def domainname(name: str) -> Op:
    return Op("DOMAINNAME", "/domainname", (name,))


def loopback(origin: str) -> Op:
    return Op("LOOPBACK", origin)


def open_netlink(slot: int, origin: str) -> Op:
    return Op("OPEN_NETLINK", origin, (), (), (slot,))


def keyring(name: str) -> Op:
    return Op("KEYRING", "", (name,), flags=BEST_EFFORT)


# Mounts


def propagation(flags: int, origin: str) -> Op:
    return Op("PROPAGATION", origin, (), (flags,))


def open_tree(slot: int, path: str, recursive: bool, origin: str, propagation: int = 0) -> Op:
    numbers = (propagation,) if propagation else ()
    return Op("OPEN_TREE", origin, (path,), numbers, (slot,), RECURSIVE if recursive else 0)


def idmap(slot: int, namespace_slot: int, destination: str, origin: str, flags: int = 0) -> Op:
    return Op("IDMAP", origin, (destination,), (), (slot, namespace_slot), flags)


def rootfs(
    slot: int, path: str, own_propagation: int, top_propagation: int, node_slot: int = NO_SLOT
) -> Op:
    return Op(
        "ROOTFS", "/root/path", (path,), (own_propagation, top_propagation), (slot, node_slot)
    )


def mount(
    kind: str,
    source: str | None,
    options: Sequence[str],
    destination: str,
    origin: str,
    *,
    set_attributes: int = 0,
    propagation: int = 0,
    superblock: int = 0,
    superblock_clear: int = 0,
    flags: int = 0,
    kept: int = NO_SLOT,
) -> Op:
    return Op(
        "MOUNT",
        origin,
        (kind, source, tuple(options), destination),
        (set_attributes, 0, propagation, len(options), superblock, superblock_clear),
        (kept,),
        flags,
    )


def bind(
    slot: int,
    destination: str,
    origin: str,
    *,
    set_attributes: int = 0,
    clear_attributes: int = 0,
    propagation: int = 0,
    recursive_set: int = 0,
    recursive_clear: int = 0,
    flags: int = 0,
    kept: int = NO_SLOT,
) -> Op:
    return Op(
        "BIND",
        origin,
        (None, None, None, destination),
        (set_attributes, clear_attributes, propagation, 0, recursive_set, recursive_clear),
        (slot, kept),
        flags,
    )


def remount(
    destination: str,
    origin: str,
    *,
    options: Sequence[str] = (),
    set_attributes: int = 0,
    clear_attributes: int = 0,
    propagation: int = 0,
    superblock: int = 0,
    superblock_clear: int = 0,
) -> Op:
    return Op(
        "REMOUNT",
        origin,
        (None, None, tuple(options), destination),
        (
            set_attributes,
            clear_attributes,
            propagation,
            len(options),
            superblock,
            superblock_clear,
        ),
    )


def resolve(slot: int, path: str, origin: str) -> Op:
    return Op("RESOLVE", origin, (path,), (), (slot,))


def unmount(slot: int, path: str, origin: str, flags: int = 0) -> Op:
    return Op("UNMOUNT", origin, (path,), (), (slot,), flags)


def mask(path: str, origin: str, base: int = NO_SLOT, label: str | None = None) -> Op:
    return Op("MASK", origin, (path, label), (), (base,))


def readonly(path: str, origin: str, base: int = NO_SLOT) -> Op:
    return Op("READONLY", origin, (path,), (), (base,))


def pivot(flags: int) -> Op:
    return Op("PIVOT", "/root/path", flags=flags)


def root_attributes(set_attributes: int, propagation: int, origin: str) -> Op:
    return Op("ROOT_ATTRIBUTES", origin, (), (set_attributes, 0, propagation))


# Things below the root


def directory(path: str, origin: str) -> Op:
    return Op("DIRECTORY", origin, (path,))


def device(
    path: str, mode: int, number: int, uid: int, gid: int, origin: str, base: int = NO_SLOT
) -> Op:
    return Op("DEVICE", origin, (path,), (mode, number, uid, gid), (base,))


def bind_device(
    slot: int,
    name: str | None,
    path: str,
    mode: int,
    number: int,
    uid: int,
    gid: int,
    origin: str,
    *,
    propagation: int = 0,
    flags: int = 0,
) -> Op:
    return Op("BIND_DEVICE", origin, (path, name), (mode, number, uid, gid, propagation), (slot,), flags)


def symlink(path: str, target: str, origin: str, flags: int = 0) -> Op:
    return Op("SYMLINK", origin, (path, target), flags=flags)


def console(slot: int, rows: int, columns: int, uid: int, flags: int) -> Op:
    return Op("CONSOLE", "/process/terminal", (), (rows, columns, uid), (slot,), flags)


def stdio(uid: int) -> Op:
    return Op("STDIO", "/process/user/uid", (), (uid,))


# The process


def setsid() -> Op:
    return Op("SETSID", "")


def chdir(path: str, origin: str, flags: int = 0) -> Op:
    return Op("CHDIR", origin, (path,), flags=flags)


def rlimit(resource: int, soft: int, hard: int, origin: str, flags: int = 0) -> Op:
    return Op("RLIMIT", origin, (), (resource, soft, hard), flags=flags)


def personality(value: int) -> Op:
    return Op("PERSONALITY", "/linux/personality", (), (value,))


def scheduler(policy: int, flags: int, nice: int, priority: int, times: bytes) -> Op:
    return Op("SCHEDULER", "/process/scheduler", (times,), (policy, flags, nice, priority))


def io_priority(value: int) -> Op:
    return Op("IO_PRIORITY", "/process/ioPriority", (), (value,))


def memory_policy(mode: int, mask: bytes | None, bits: int) -> Op:
    return Op("MEMORY_POLICY", "/linux/memoryPolicy", (mask,), (mode, bits))


def bounding(kept: int, last: int) -> Op:
    """Drop all but *kept*, up to *last*, the highest of this kernel: no EINVAL can end the work early."""
    return Op("BOUNDING", "/process/capabilities/bounding", (), (kept, last))


def ids(uid: int, gid: int, groups: bytes | None, origin: str) -> Op:
    return Op("IDS", origin, (groups,), (uid, gid))


def capabilities(
    effective: int, permitted: int, inheritable: int, ambient: int, flags: int = 0
) -> Op:
    return Op(
        "CAPABILITIES",
        "/process/capabilities",
        (),
        (effective, permitted, inheritable, ambient),
        flags=flags,
    )


def no_new_privileges() -> Op:
    return Op("NO_NEW_PRIVILEGES", "/process/noNewPrivileges")


def find_home(uid: int) -> Op:
    return Op("FIND_HOME", "/process/env", (), (uid,))


def find_executable(name: str, path: str | None) -> Op:
    return Op("FIND_EXECUTABLE", "/process/args/0" if name else "/process", (name, path))


def wait_start(slot: int) -> Op:
    return Op("WAIT_START", "", (), (), (slot,))


#: Of every hook: the specification has none, and what a hook makes is not meant to be anybody's to write.
HOOK_UMASK = 0o022


def hook(
    path: str,
    args: Sequence[str],
    env: Sequence[str],
    state: str,
    pid_offset: int,
    timeout_ms: int,
    origin: str,
    following: int = 0,
) -> Op:
    """Run a hook; the `following` operations behind this one are done by its process alone."""
    return Op(
        "HOOK",
        origin,
        (path, tuple(args), tuple(env), state),
        (len(args), len(env), timeout_ms, pid_offset, HOOK_UMASK, following),
    )


def seccomp(
    program: bytes, flags: int, agent_slot: int = NO_SLOT, text_slot: int = NO_SLOT
) -> Op:
    return Op(
        "SECCOMP",
        "/linux/seccomp",
        (program,),
        (flags,),
        (agent_slot, text_slot),
        NOTIFY if agent_slot >= 0 else 0,
    )


def announce(agent_slot: int = NO_SLOT, text_slot: int = NO_SLOT) -> Op:
    return Op("ANNOUNCE", "", (), (), (agent_slot, text_slot))


def execute(
    args: Sequence[str], env: Sequence[str], umask: int, origin: str, path: str | None = None
) -> Op:
    return Op(
        "EXEC", origin, (tuple(args), tuple(env), path), (len(args), len(env), umask)
    )


def end() -> Op:
    return Op("END", "")
