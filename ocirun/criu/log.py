# SPDX-License-Identifier: Apache-2.0
"""Why CRIU failed, from its own log."""

from __future__ import annotations

import os

_MAX_LOG = 16 << 20
_MAX_LINES = 5
#: What CRIU calls an error and goes on after, since it only tries the kernel; what says only that there was one.
_SAYS_NOTHING = (
    "RLIMIT_NOFILE",
    "Unable to create tun",
    "Dumping FAILED",
    "Restoring FAILED",
    "RPC client reported script error",
)


def read_reasons(directory: int, name: str) -> list[str]:
    """Return what the log in a directory says of errors, the first of which is mostly the cause; [] without a log."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        parts: list[bytes] = []
        size = 0
        while size < _MAX_LOG and (part := os.read(fd, 1 << 20)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(fd)
    return find_reasons(b"".join(parts).decode("utf-8", "replace"))


def find_reasons(log: str) -> list[str]:
    """Return the texts of the lines "(TIME) Error (FILE:LINE): TEXT" of a log, without those that say nothing."""
    found: list[str] = []
    for line in log.splitlines():
        before, mark, after = line.partition("Error (")
        place, colon, text = after.partition("): ")
        if not mark or not colon or ":" not in place or (before.strip() and not before.strip().endswith((")", ":"))):
            continue
        if text not in found and not any(each in text for each in _SAYS_NOTHING):
            found.append(text.strip())
    return found[:_MAX_LINES]
