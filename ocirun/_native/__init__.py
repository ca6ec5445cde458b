# SPDX-License-Identifier: Apache-2.0
"""The typed face of the C shim: the only importer of `_shim`, and one of the two places that know about cffi.

Functions raise `KernelError`; descriptors that they return are owned by the caller.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EINTR, ENOSYS, EPERM, ETIMEDOUT
from time import monotonic

from ocirun._native._bpf_face import attach_device_program, load_device_program
from ocirun._native._shim import ffi, lib
from ocirun.errors import InternalError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_MESSAGE", "Message", "Spawned", "adopt_orphans", "attach_device_program", "connect", "ffi", "lib", "listen",
    "load_device_program", "open_init", "pidfd_signal", "plan_file", "receive", "receive_bytes", "receive_fd",
    "remind_of", "reminded", "send", "send_text", "site_name", "socketpair", "spawn", "wait",
]  # fmt: skip

MAX_MESSAGE: int = lib.OCIRUN_MAX_MESSAGE


def site_name(site: int) -> str:
    """Return the name of a call site as messages show it: the system call, in lower case."""
    name: str = ffi.typeof("enum ocirun_site").elements.get(site, f"OCIRUN_SITE_{site}")
    return name.removeprefix("OCIRUN_SITE_").lower()


def _check(result: int, op: str, detail: str = "") -> int:
    if result < 0:
        raise KernelError(-result, op, detail)
    return result


def _deadline_ms(timeout_s: float | None) -> int:
    return -1 if timeout_s is None else int((monotonic() + timeout_s) * 1000)


def open_init(fallback_directory: str) -> tuple[int, bool]:
    """Return an owned descriptor of ocirun-init (CVE-2019-5736), and whether it is sealed.

    Where memfd_create(2) is refused, an unlinked read-only file in `fallback_directory` serves, and is not sealed; it
    must not be started a second time, since what runs first could reach it.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ocirun-init")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        program = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    result = lib.ocirun_sealed_memfd(b"ocirun-init", program, len(program), 1)
    if result >= 0:
        return int(result), True
    if -result not in (ENOSYS, EPERM, 13):  # 13: EACCES, vm.memfd_noexec = 2
        raise KernelError(-result, "memfd_create", "ocirun-init")
    return _unlinked_copy(program, fallback_directory), False


def _unlinked_copy(program: bytes, directory: str) -> int:
    writer = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o500)
    try:
        os.write(writer, program)
        # Opened again for reading only, so that no writer is left: execveat(2) would answer ETXTBSY.
        return os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)


def plan_file(content: bytes, fallback_directory: str) -> int:
    """Return an owned descriptor for a plan or a text: a sealed memfd, or an unlinked file where memfds are refused."""
    result = lib.ocirun_sealed_memfd(b"ocirun-plan", content, len(content), 0)
    if result >= 0:
        return int(result)
    if -result not in (ENOSYS, EPERM, 13):
        raise KernelError(-result, "memfd_create", "plan")
    return _unlinked_copy(content, fallback_directory)


class Spawned:
    """A process that was started: its pid, an owned pidfd, and whether it was born in the cgroup asked for."""

    __slots__ = ("pid", "pidfd", "placed")

    def __init__(self, pid: int, pidfd: int, placed: bool) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.placed = placed


def spawn(
    executable: int,
    plan: int,
    stdio: Sequence[int],
    keep: Sequence[int],
    inputs: Sequence[int],
    *,
    clone_flags: int = 0,
    cgroup: int = -1,
) -> Spawned:
    """Start ocirun-init on a plan; all descriptors are borrowed.

    `keep` become 3.., `inputs` are the plan's first slots.  Nothing of the calling process or thread is changed.
    """
    numbers = [*stdio, *keep, plan, *inputs]
    descriptors = ffi.new("int[]", numbers)
    request = ffi.new("struct ocirun_spawn *")
    request.executable = executable
    request.descriptors = descriptors
    request.count = len(numbers)
    request.keep_count = len(keep)
    request.clone_flags = clone_flags
    request.cgroup = cgroup
    pid = lib.ocirun_spawn(request)
    if pid < 0:
        raise KernelError(-pid, site_name(request.site), "starting ocirun-init")
    return Spawned(pid, request.pidfd, bool(request.placed))


def socketpair() -> tuple[int, int]:
    """Return two connected SOCK_SEQPACKET descriptors, both owned."""
    pair = ffi.new("int[2]")
    _check(lib.ocirun_socketpair(pair), "socketpair")
    return pair[0], pair[1]


def listen(path: str, shown: str) -> int:
    """Bind and listen on a SOCK_SEQPACKET socket; the path must be short (108 bytes), see `short_path`.

    `shown` is the path that people know, for the message of an error.
    """
    return _check(lib.ocirun_listen(os.fsencode(path)), "bind", shown)


def connect(path: str, *, stream: bool, timeout_s: float = 10.0) -> int:
    """Connect to a unix socket of any path length; returns an owned descriptor."""
    deadline_ms = _deadline_ms(timeout_s)
    short = os.fsencode(path)
    directory = -1
    if len(short) >= 100:
        directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        short = f"/proc/self/fd/{directory}/".encode() + os.fsencode(os.path.basename(path))
    try:
        while True:
            result = lib.ocirun_connect(short, int(stream), deadline_ms)
            # EINTR returns to Python so that signal handlers run; the next turn goes on waiting.
            if result != -EINTR:
                return _check(result, "connect", path)
    finally:
        if directory >= 0:
            os.close(directory)


class Message:
    """A message of ocirun-init, decoded; `rights` is an owned descriptor or -1."""

    __slots__ = ("detail", "error", "kind", "op", "origin", "pid", "rights", "site", "value")

    def __init__(self, content: bytes, rights: int) -> None:
        size = ffi.sizeof("struct ocirun_message")
        if len(content) < size:
            raise InternalError(f"message of {len(content)} bytes from ocirun-init")
        head = ffi.cast("struct ocirun_message *", ffi.from_buffer(content))
        end_of_origin = size + head.origin_size
        self.kind: int = head.kind
        self.op: int = head.op
        self.site: int = head.site
        self.error: int = head.error
        self.pid: int = head.pid
        self.value: int = head.value
        self.origin = content[size:end_of_origin].decode("utf-8", "replace")
        self.detail = content[end_of_origin : end_of_origin + head.detail_size].decode(
            "utf-8", "replace"
        )
        self.rights = rights


def receive(fd: int, timeout_s: float | None) -> Message | None:
    """Wait for one message; None at end-of-file.  Raises TimeoutError (a plain one) at the deadline."""
    buffer = ffi.new("char[]", MAX_MESSAGE)
    rights = ffi.new("int *")
    deadline_ms = _deadline_ms(timeout_s)
    while True:
        size = lib.ocirun_receive(fd, buffer, MAX_MESSAGE, rights, deadline_ms)
        if size not in (-EINTR, -EAGAIN):
            break
    if size == -ETIMEDOUT:
        raise TimeoutError
    if _check(size, "recvmsg") == 0:
        return None
    return Message(bytes(ffi.buffer(buffer, size)), rights[0])


def receive_fd(fd: int, timeout_s: float) -> int:
    """Wait for a message that carries a descriptor, and return that, owned; -1 at end-of-file.

    Raises TimeoutError at the deadline.
    """
    buffer = ffi.new("char[]", MAX_MESSAGE)
    rights = ffi.new("int *")
    deadline_ms = _deadline_ms(timeout_s)
    while True:
        size = lib.ocirun_receive(fd, buffer, MAX_MESSAGE, rights, deadline_ms)
        if size not in (-EINTR, -EAGAIN):
            break
    if size == -ETIMEDOUT:
        raise TimeoutError
    if _check(size, "recvmsg") == 0:
        return -1
    if rights[0] < 0:
        raise InternalError("a message without the descriptor that it should carry")
    return int(rights[0])


def receive_bytes(fd: int, size: int, timeout_s: float | None) -> tuple[bytes, int]:
    """Wait for a message of somebody else's protocol; returns it with an owned descriptor or -1, b"" at end-of-file.

    What is longer than *size* is cut off.  Raises TimeoutError at the deadline.
    """
    buffer = ffi.new("char[]", size)
    rights = ffi.new("int *")
    deadline_ms = _deadline_ms(timeout_s)
    while True:
        received = lib.ocirun_receive(fd, buffer, size, rights, deadline_ms)
        if received not in (-EINTR, -EAGAIN):
            break
    if received == -ETIMEDOUT:
        raise TimeoutError
    return bytes(ffi.buffer(buffer, _check(received, "recvmsg"))), int(rights[0])


def send(fd: int, kind: int, rights: int = -1) -> None:
    """Send one message without text; `rights` is borrowed."""
    message = ffi.new("struct ocirun_message *")
    message.kind = kind
    _check(
        lib.ocirun_send(fd, ffi.cast("char *", message), ffi.sizeof("struct ocirun_message"), rights),
        "sendmsg",
    )


def send_text(fd: int, text: bytes, rights: int = -1) -> None:
    """Send bytes and a descriptor over a stream socket, as console and agent sockets expect."""
    _check(lib.ocirun_send(fd, ffi.from_buffer(text), len(text), rights), "sendmsg")


def wait(pidfd: int, timeout_s: float | None, *, reaping_s: float = 1.0) -> int | None:
    """Wait for a process to end; returns its status as waitpid(2) gives it, None where nobody can tell.

    Somebody else's child tells it when it was reaped, for which its parent has *reaping_s* from its end on.

    Raises TimeoutError at the deadline.  Reaps the process if it is our child.
    """
    status = ffi.new("int *")
    deadline_ms = _deadline_ms(timeout_s)
    while True:
        result = lib.ocirun_wait(pidfd, deadline_ms, int(reaping_s * 1000), status)
        if result != -EINTR:
            break
    if result == -ETIMEDOUT:
        raise TimeoutError
    _check(result, "poll")
    return None if status[0] < 0 else int(status[0])


def pidfd_signal(pidfd: int, number: int) -> None:
    """Send a signal through a pidfd; ESRCH as KernelError where the process is gone."""
    _check(lib.ocirun_pidfd_signal(pidfd, number), "pidfd_send_signal")


def adopt_orphans() -> None:
    """Become the parent of what descendants of this process leave behind.  For the command only (design D6)."""
    _check(lib.ocirun_adopt_orphans(), "prctl")


def remind_of(number: int, reminder: int) -> None:
    """Have the signal *reminder* follow the signal *number* every 2 ms, until `reminded` is called when all is handled.

    Both have handlers of Python's.  A signal that comes just before a system call that waits is handled in time by it.
    For the command only (design D6).
    """
    _check(lib.ocirun_remind_of(number, reminder), "timer_create")


def reminded() -> None:
    """Say that the reminder was handled, and with it, or soon, whatever signals came before it."""
    lib.ocirun_reminded()
