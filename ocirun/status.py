# SPDX-License-Identifier: Apache-2.0
"""What a container is doing, computed from the kernel whenever somebody asks (design D7).

The facts: is init (or what it became) alive, by pid, start time and boot; is the start socket still there, and is
ocirun-init still what runs; is the cgroup frozen.
"""

from __future__ import annotations

import os

from ocirun import procfs
from ocirun.identity import is_this_boot
from ocirun.spec.state import CREATED, CREATING, PAUSED, RUNNING, STOPPED, State
from ocirun.store import START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.store import Entry, Record


def compute(entry: Entry, record: Record) -> tuple[str, int]:
    """Return (status, pid); the pid is 0 for a container that is stopped or has no process yet."""
    init: dict[str, Any] | None = record.get("init")
    if init is None:
        return (CREATING if is_creator_alive(record) else STOPPED), 0
    pid: int = init["pid"]
    if not is_this_boot(record) or not procfs.is_alive(pid, init["startTime"]):
        return STOPPED, 0
    if is_frozen(record):
        return PAUSED, pid
    if entry.has(START_SOCKET) and _runs_init(pid, init["executable"]):
        # A creation about to end may still fail, but holds the lock that `start` and `delete` wait for.
        return CREATED, pid
    return RUNNING, pid


def state_of(entry: Entry, record: Record) -> State:
    """Return the state document."""
    status, pid = compute(entry, record)
    return State(
        entry.id,
        status,
        pid=pid,
        bundle=record["bundle"],
        rootfs=record["rootfs"],
        created=record["created"],
        owner=record["owner"],
        annotations=record["annotations"],
    )


def is_creator_alive(record: Record) -> bool:
    """Say whether the process that is creating the container is still there."""
    creator = record["creator"]
    return is_this_boot(record) and procfs.is_alive(creator["pid"], creator["startTime"])


def _runs_init(pid: int, executable: list[int]) -> bool:
    """Say whether the process is still ocirun-init, by the identity of its sealed file."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        # Not ours to look at, or just gone: the start socket alone has to do.
        return True
    return [status.st_dev, status.st_ino] == executable


def is_frozen(record: Record) -> bool:
    """Say whether the container's cgroup is frozen, without loading a cgroup manager: `state` is asked often."""
    for path, frozen in record["frozenFiles"]:
        try:
            if procfs.read(path).strip() == frozen.encode():
                return True
        except OSError:
            continue
    return False
