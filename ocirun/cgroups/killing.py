# SPDX-License-Identifier: Apache-2.0
"""Signalling every process of a cgroup, so that none forks its way out and nobody else is hit.

Where the kernel cannot do it (cgroup.kill), each process is signalled through a pidfd.  A number
from cgroup.procs may be somebody else's by the time it is opened, so the list is read again
afterwards: who is listed while we hold the pidfd is a member, or the pidfd is of a dead process,
and then the signal goes nowhere.
"""

from __future__ import annotations

import os
from errno import ESRCH

from ocirun.errors import CgroupError, KernelError

from . import legacy, unified
from .files import failure, open_directory, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .hierarchies import Hierarchy

SIGKILL = 9
_FREEZE_DEADLINE_S = 2.0
_BATCH = 256  # pidfds open at once
_MAX_ROUNDS = 100


def kill_all(hierarchies: Sequence[Hierarchy], signal: int) -> None:
    """Send *signal* to the members of the first of *hierarchies*; see CgroupManager.

    SIGKILL thaws the container in all of them afterwards: nested cgroups may be frozen as well, and
    in version 1 a frozen process does not die.

    Nobody is in a cgroup that is gone: systemd takes a scope's away when it is empty, also beside us.
    """
    try:
        _kill_members(hierarchies[0], signal)
    except CgroupError:
        if os.access(hierarchies[0].directory, os.F_OK):
            raise
    if signal == SIGKILL:
        thaw_everywhere(hierarchies)


def _kill_members(hierarchy: Hierarchy, signal: int) -> None:
    fd = _open(hierarchy)
    try:
        inside = os.getpid() in processes(fd)
        if signal != SIGKILL or inside or hierarchy.version == 1 or not unified.kill(fd):
            _signal_each(hierarchy, fd, signal, inside)
    except OSError as error:
        raise failure(f"kill {hierarchy.directory}", error) from error
    finally:
        os.close(fd)


def kill_remaining(hierarchies: Sequence[Hierarchy]) -> None:
    """Send SIGKILL to the members of each of *hierarchies*, and thaw them."""
    for hierarchy in hierarchies:
        kill_all([hierarchy], SIGKILL)
    thaw_everywhere(hierarchies)


def thaw_everywhere(hierarchies: Sequence[Hierarchy]) -> None:
    """Thaw the container's cgroup and all below it, in each hierarchy that can freeze."""
    for hierarchy in hierarchies:
        if hierarchy.version == 1 and "freezer" not in hierarchy.controllers:
            continue
        try:
            fd = open_directory(hierarchy.directory)
        except FileNotFoundError:
            continue
        try:
            (unified if hierarchy.version == 2 else legacy).thaw_all(fd)
        finally:
            os.close(fd)


def _open(hierarchy: Hierarchy) -> int:
    try:
        return open_directory(hierarchy.directory)
    except OSError as error:
        raise failure(f"open {hierarchy.directory}", error) from error


def _signal_each(hierarchy: Hierarchy, fd: int, signal: int, inside: bool) -> None:
    """Freeze, signal each member, thaw; without freezing, go on until no new member appears."""
    freezer = unified if hierarchy.version == 2 else legacy
    can_freeze = hierarchy.version == 2 or "freezer" in hierarchy.controllers
    frozen_before = can_freeze and freezer.is_frozen("", fd)
    # Freezing our own cgroup would stop us before we could thaw it.
    freeze = can_freeze and not frozen_before and not inside
    if freeze:
        try:
            freezer.freeze(fd, _FREEZE_DEADLINE_S)
        except CgroupError:
            # A process in uninterruptible sleep; the rounds below still reach the others.
            freeze = False
    try:
        _signal_members(fd, signal)
    finally:
        if freeze or (frozen_before and signal == SIGKILL):
            freezer.thaw(fd)


def _signal_members(fd: int, signal: int) -> None:
    done = {0, 1, os.getpid()}
    for _ in range(_MAX_ROUNDS):
        pending = [pid for pid in processes(fd) if pid not in done]
        if not pending:
            return
        for start in range(0, len(pending), _BATCH):
            _signal_batch(fd, pending[start : start + _BATCH], signal)
        done.update(pending)


def _signal_batch(fd: int, pids: Sequence[int], signal: int) -> None:
    from ocirun._native import pidfd_signal

    opened: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        for pid in processes(fd):
            if pid in opened:
                try:
                    pidfd_signal(opened[pid], signal)
                except KernelError as error:
                    if error.errno != ESRCH:  # died meanwhile
                        raise
    finally:
        for pidfd in opened.values():
            os.close(pidfd)
