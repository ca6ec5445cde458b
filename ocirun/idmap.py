# SPDX-License-Identifier: Apache-2.0
"""User namespaces as seen from outside: writing the maps of a new one, reading those of one that is there, and having
one for its maps alone.

Kernel: user_namespaces(7)
"""

from __future__ import annotations

import os

from ocirun import _native
from ocirun.errors import InitDied, KernelError, UnsupportedFeature
from ocirun.init.failure import describe_failure
from ocirun.init.process import describe_status, kill_child
from ocirun.init.program import ProgramRunner
from ocirun.init.protocol import FAILED
from ocirun.plan import ops
from ocirun.plan.encode import encode
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.spec.id_maps import OWN_ID, PROGRAM, IdMaps, gid_map_writer, uid_map_writer
from ocirun.spec.model import IdMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from ocirun.host import HostFacts
    from ocirun.plan.ops import Op

    T = TypeVar("T")

_DEADLINE_S = 60.0
_PROGRAM_S = 30.0
_FILES = {"newuidmap": "/etc/subuid", "newgidmap": "/etc/subgid"}


def write_maps(
    pid: int, maps: IdMaps, facts: HostFacts, open_init: Callable[[], int], fallback_directory: str
) -> None:
    """Write the maps of *pid*'s user namespace, by whoever may: ourselves, or newuidmap and newgidmap.

    Must run while init waits at NEED_ID_MAPS: the maps can be written once only.  A user who maps its own group alone
    has setgroups(2) denied in the namespace.

    Spec: config-linux.md#user-namespace-mappings; Kernel: user_namespaces(7)
    Errors: KernelError, EPERM when the caller may not map one of the ids; UnsupportedFeature,
    with what newuidmap said.
    """
    own = f"/proc/{pid}"
    programs = ProgramRunner(open_init, fallback_directory)
    if uid_map_writer(maps.uid_mappings, facts) == PROGRAM:
        pointer = f"{maps.pointer}/uidMappings"
        _run_program("newuidmap", facts.newuidmap, pid, maps.uid_mappings, pointer, programs)
    else:
        _write(f"{own}/uid_map", _lines(maps.uid_mappings), f"{maps.pointer}/uidMappings")
    pointer = f"{maps.pointer}/gidMappings"
    writer = gid_map_writer(maps.gid_mappings, facts)
    if writer == PROGRAM:
        _run_program("newgidmap", facts.newgidmap, pid, maps.gid_mappings, pointer, programs)
        return
    if writer == OWN_ID and facts.may_set_groups:
        _write(f"{own}/setgroups", "deny", pointer)
    _write(f"{own}/gid_map", _lines(maps.gid_mappings), pointer)


def _run_program(
    name: str,
    path: str,
    pid: int,
    mappings: Sequence[IdMapping],
    pointer: str,
    programs: ProgramRunner,
) -> None:
    if not path:  # it was there when the configuration was validated
        raise UnsupportedFeature(f"{pointer}: {name} is not installed", json_pointer=pointer)
    numbers = [str(number) for each in mappings for number in (each.container_id, each.host_id, each.size)]
    args = (path, str(pid), *numbers)
    finished = programs.run(
        path, args, (), directory="/", stdin=b"", timeout_s=_PROGRAM_S, origin=pointer
    )
    if finished.timed_out:
        what = f"was killed after {_PROGRAM_S:g} s"
    elif finished.status == 0:
        return
    else:
        what = f"ended {describe_status(finished.status)}"
    said = f": {finished.text}" if finished.text else ""
    raise UnsupportedFeature(
        f"{pointer}: {path} {what}{said}",
        op=name,
        json_pointer=pointer,
        hint=f"the user's ranges are in {_FILES[name]}; the program must be set-user-ID root or have its"
        " capability, and the runtime must not run with no_new_privs",
    )


def make_user_namespace(maps: IdMaps, open_init: Callable[[], int], fallback_directory: str) -> int:
    """Return an owned descriptor of a new user namespace with these maps, in which nobody is.

    Somebody has to be in it until the descriptor is there; that process ends with ours, if not before.

    Spec: config.md#mounts, uidMappings; Kernel: mount_setattr(2), MOUNT_ATTR_IDMAP
    Errors: KernelError, with the pointer of the maps.
    """
    # Dumpable, or opening its namespace would take CAP_SYS_PTRACE.
    operations = [
        ops.unshare(CLONE_FLAGS["user"], f"{maps.pointer}/uidMappings"),
        ops.id_maps(ops.DUMPABLE, f"{maps.pointer}/uidMappings"),
    ]

    def take(pid: int) -> int:
        # Id-mapped mounts take power over the host: so do these maps.
        _write(f"/proc/{pid}/uid_map", _lines(maps.uid_mappings), f"{maps.pointer}/uidMappings")
        _write(f"/proc/{pid}/gid_map", _lines(maps.gid_mappings), f"{maps.pointer}/gidMappings")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    return _visit(operations, (), open_init, fallback_directory, take)


def try_user_namespace(open_init: Callable[[], int], fallback_directory: str) -> None:
    """Make a user namespace, and a namespace of another kind in it, which AppArmor may forbid alone; they end at once.

    Errors: InitError, KernelError.
    """
    operations = [
        ops.unshare(CLONE_FLAGS["user"], ""),
        ops.unshare(CLONE_FLAGS["uts"], ""),
        ops.barrier(ops.BARRIER_CGROUP),
    ]
    _visit(operations, (), open_init, fallback_directory, lambda _: None)


def open_user_namespace(path: str, pointer: str) -> int:
    """Return an owned descriptor of the file at *path*; whether it is a user namespace, read_maps finds out.

    Errors: KernelError.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "openat", path, json_pointer=pointer) from error


def read_maps(
    namespace: int, path: str, pointer: str, open_init: Callable[[], int], fallback_directory: str
) -> IdMaps:
    """Return the maps of this user namespace (borrowed, opened at *path*), in the numbers of our own namespace.

    Only the files of a process that is in it tell them.  Errors: InitError, also if it is no user namespace;
    KernelError.
    """
    slot = 1
    operations = [
        ops.open_namespace(slot, path, CLONE_FLAGS["user"], pointer),
        ops.join(slot, CLONE_FLAGS["user"], pointer),
        ops.barrier(ops.BARRIER_CGROUP),
    ]

    def read(pid: int) -> IdMaps:
        maps = IdMaps(_read_map(f"/proc/{pid}/uid_map"), _read_map(f"/proc/{pid}/gid_map"), pointer)
        maps.may_set_groups = _read(f"/proc/{pid}/setgroups").strip() != b"deny"
        return maps

    return _visit(operations, (namespace,), open_init, fallback_directory, read)


def _visit(
    operations: list[Op],
    inputs: tuple[int, ...],
    open_init: Callable[[], int],
    fallback_directory: str,
    look: Callable[[int], T],
) -> T:
    """Call *look* with the pid of a process that has done these operations, then end it."""
    # A plan has to end in an execution; this one never gets there.
    slots = 1 + len(inputs)
    content = encode([*operations, ops.execute(("",), (), 0, "")], slots, slots, 0)
    ours, theirs = _native.socketpair()
    try:
        plan = _native.plan_file(content, fallback_directory)
        try:
            executable = open_init()
            try:
                spawned = _native.spawn(executable, plan, (theirs, theirs, theirs), (), (theirs, *inputs))
            finally:
                os.close(executable)
        finally:
            os.close(plan)
            os.close(theirs)
        try:
            message = _native.receive(ours, _DEADLINE_S)
            if message is None:
                raise InitDied("ocirun-init died in a user namespace")
            if message.kind == FAILED:
                raise describe_failure(message, "")
            return look(spawned.pid)
        finally:
            _end(spawned)
    finally:
        os.close(ours)


def _end(spawned: _native.Spawned) -> None:
    kill_child(spawned.pid, spawned.pidfd)
    try:
        _native.wait(spawned.pidfd, 10.0)
    finally:
        os.close(spawned.pidfd)


def _lines(mappings: Sequence[IdMapping]) -> str:
    return "".join(f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings)


def _write(path: str, text: str, pointer: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # One write: the kernel takes the map whole or not at all.
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or 0, "write", path, json_pointer=pointer) from error


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A map has at most 340 lines of 33 bytes.
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _read_map(path: str) -> list[IdMapping]:
    numbers = [[int(word) for word in line.split()] for line in _read(path).split(b"\n") if line]
    return [
        IdMapping({"containerID": inside, "hostID": outside, "size": size})
        for inside, outside, size in numbers
    ]
