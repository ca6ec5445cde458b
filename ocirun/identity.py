# SPDX-License-Identifier: Apache-2.0
"""The container's process, found again by its record: pid, start time and boot, and from then on a pidfd.

A pid alone may be anybody's by now (V-20).
"""

from __future__ import annotations

import os
from errno import ENOSYS, EPERM, ESRCH

from ocirun import procfs
from ocirun.errors import KernelError, OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups import CgroupManager
    from ocirun.store import Record

_SIGKILL = 9
_FROZEN_AFTER_S = 0.5  # nothing else takes that long to die
_SLOW_PARENT_S = 10


def is_this_boot(record: Record) -> bool:
    """Say whether pids and start times of the record still mean anything."""
    return bool(record["bootId"] == procfs.boot_id())


def open_directory(record: Record) -> int:
    """Return an owned descriptor of /proc/PID of the container's process, -1 where it is gone or on its way out.

    What is opened below it is of this very process, or fails: procfs binds the directory to the process, not to its
    number (V-21).
    """
    init = record.get("init")
    if init is None or not is_this_boot(record):
        return -1
    try:
        fd = os.open(f"/proc/{init['pid']}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    try:
        content = procfs.read("stat", fd)
    except ProcessLookupError:
        content = b""
    if content and procfs.parse_stat(content)[1] == init["startTime"] and not procfs.is_ending(content):
        return fd
    os.close(fd)
    return -1


def open_pidfd(record: Record, *, or_zombie: bool = False) -> int:
    """Return an owned pidfd of the container's process, -1 where it is gone.

    The start time is compared after the pidfd was opened: from then on the pid cannot be reused behind it.
    """
    init = record.get("init")
    if init is None or not is_this_boot(record):
        return -1
    try:
        fd = os.pidfd_open(init["pid"])
    except OSError:
        return -1
    found = procfs.process_stat(init["pid"])
    if found is not None and found[1] == init["startTime"] and (or_zombie or found[0] not in "ZX"):
        return fd
    os.close(fd)
    return -1


def signal_process(record: Record, signal: int) -> None:
    """Send a signal to the container's process and nobody else.

    Through a pidfd; where a filter refuses those calls, by pid, right after its start time was compared.
    Errors: ProcessLookupError, PermissionError
    """
    from ocirun._native import pidfd_signal

    init = record["init"]
    fd = -1
    try:
        fd = open_pidfd(record)
        if fd >= 0:
            pidfd_signal(fd, signal)
            return
    except KernelError as error:
        if error.errno == ESRCH:
            raise ProcessLookupError(ESRCH, "ended meanwhile") from error
        if error.errno not in (ENOSYS, EPERM):
            raise
    finally:
        if fd >= 0:
            os.close(fd)
    if init is None or not is_this_boot(record) or not procfs.is_alive(init["pid"], init["startTime"]):
        raise ProcessLookupError(ESRCH, "ended meanwhile")
    os.kill(init["pid"], signal)


def wait_end(record: Record, pidfd: int, timeout_s: float, cgroup: CgroupManager) -> int | None:
    """Wait for the process, which was killed, to end; returns its wait status as far as that is known.

    Nothing that is removed then needs it to be reaped: no cgroup is busy by a zombie, and it has no mounts, descriptors
    or memory any more.  So we do not wait for its parent, who may never reap it, or wait for us.  Raises TimeoutError.
    """
    from ocirun._native import wait

    if pidfd < 0:
        wait_gone(record, timeout_s)
        return None
    try:
        return wait(pidfd, _FROZEN_AFTER_S, reaping_s=0)
    except TimeoutError:
        # A cgroup of version 1 keeps even SIGKILL from what it froze, and the container may have made one.
        if cgroup.paths():
            cgroup.kill_all(_SIGKILL)
        return wait(pidfd, timeout_s, reaping_s=0)


def wait_gone(record: Record, timeout_s: float) -> None:
    """Wait for the process to end, and leave it to its parent.  Raises TimeoutError."""
    import time

    init = record["init"]
    deadline = time.monotonic() + timeout_s
    while init is not None and procfs.is_alive(init["pid"], init["startTime"]):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def wait_exit_code(pidfd: int, timeout_s: float | None, container_id: str) -> int:
    """Wait for a process of a container to end; returns its exit code, or 128 + N where signal N ended it.

    Errors: a plain TimeoutError at the deadline; OcirunError with the code "exit_status_unknown" where nobody can tell:
    not our child, and a kernel before 6.15 or a parent that does not reap it.
    """
    from ocirun._native import wait

    # Who has all the time there is gives a slow parent more of it.
    found = wait(pidfd, timeout_s, reaping_s=_SLOW_PARENT_S if timeout_s is None else 1.0)
    if found is None:
        error = OcirunError(
            "the exit status is not known: the process is not a child of this one", container_id=container_id
        )
        error.code = "exit_status_unknown"
        raise error
    return exit_code(found)


def exit_code(wait_status: int) -> int:
    """Return what a shell would call the exit status: 128 + N for signal N."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)
