# SPDX-License-Identifier: Apache-2.0
"""What the host's /proc says about processes: the identity that outlives the reuse of pids (V-20)."""

from __future__ import annotations

import os


def read(path: str, dir_fd: int | None = None) -> bytes:
    """Return the content of a small file of /proc or /sys."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)


_boot_id = ""


def boot_id() -> str:
    """Return the random name of this boot: start times of another boot say nothing."""
    global _boot_id  # no process lives longer than that  # noqa: PLW0603
    if not _boot_id:
        _boot_id = read("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot_id


def process_stat(pid: int) -> tuple[str, int] | None:
    """Return (state letter, start time in clock ticks after boot) of a process, None where it is gone.

    Kernel: proc_pid_stat(5).  The name in the second field may hold anything, a ")" too: the last one ends it.
    """
    try:
        content = read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_stat(content)


def parse_stat(content: bytes) -> tuple[str, int]:
    """Parse /proc/PID/stat."""
    fields = content[content.rindex(b")") + 1 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def is_ending(content: bytes) -> bool:
    """Say whether /proc/PID/stat is of a process that has ended, or is about to: PF_EXITING among its flags.

    The first process of a pid namespace is in that state until all others in it are reaped.
    """
    fields = content[content.rindex(b")") + 1 :].split()
    return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & 0x4)


def is_alive(pid: int, start_time: int) -> bool:
    """Say whether the process with this pid and start time still runs; a zombie does not."""
    stat = process_stat(pid)
    return stat is not None and stat[1] == start_time and stat[0] not in "ZX"
