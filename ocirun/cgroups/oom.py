# SPDX-License-Identifier: Apache-2.0
"""Learning that a container ran out of memory.

Version 2 counts the processes that were killed for it, in the cgroup and in those below it.  Version 1 says that the
cgroup's limit was hit and nothing could be freed, before anybody is killed, and also where nobody will be
(disableOOMKiller); it does not tell of cgroups below.
"""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT

from ocirun.errors import CgroupError

from .files import failure, open_directory, write_file
from .keyed import flat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from .hierarchies import Hierarchy
else:
    Protocol = object

_COUNTER = "oom_kill"


class OomWatch(Protocol):
    """Counts from the moment it is made; owns descriptors and must be closed."""

    fd: int
    mask: int  # what poll(2) is to look for

    def take(self) -> dict[str, int] | None:
        """Return what has happened since the last call, by the kernel's word for it, {} if nothing has.

        None when the cgroup is gone, and nothing more will come.
        """

    def close(self) -> None:
        """Close the descriptors."""


def watch_oom(hierarchies: Sequence[Hierarchy]) -> OomWatch:
    """Return what tells of the container's lack of memory.  Errors: CgroupError, with the reason why nothing can."""
    unified = None
    for hierarchy in hierarchies:
        try:
            if "memory" in hierarchy.controllers:
                return LegacyWatch(hierarchy.directory)
            if hierarchy.version == 2:
                unified = hierarchy
        except OSError as error:
            raise failure(f"watch {hierarchy.directory}/memory.oom_control", error) from error
    if unified is None:
        raise CgroupError("the container is in no cgroup of the memory controller", op="watch")
    try:
        return UnifiedWatch(unified.directory)
    except OSError as error:
        hint = "the memory controller is off in its parent's cgroup.subtree_control" if error.errno == ENOENT else None
        raise failure(f"watch {unified.directory}/memory.events", error, hint=hint) from error


class UnifiedWatch:
    """Version 2: memory.events.  Kernel: admin-guide/cgroup-v2.rst; the file can be polled (kernfs)."""

    def __init__(self, directory: str) -> None:
        from select import POLLPRI

        self.mask: int = POLLPRI
        self.fd = os.open(f"{directory}/memory.events", os.O_RDONLY)
        self._seen = self._read() or 0

    def take(self) -> dict[str, int] | None:
        """See OomWatch."""
        now = self._read()
        if now is None:
            return None
        new, self._seen = now - self._seen, now
        return {_COUNTER: new} if new else {}

    def _read(self) -> int | None:
        """Return the counter, None when the cgroup is gone.  Reading arms the notification."""
        try:
            return flat(os.pread(self.fd, 4096, 0).decode()).get(_COUNTER, 0)  # Linux 4.13
        except OSError as error:
            if error.errno != ENODEV:
                raise failure("read memory.events", error) from error
            return None

    def close(self) -> None:
        """See OomWatch."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class LegacyWatch:
    """Version 1: an eventfd on memory.oom_control.  Kernel: admin-guide/cgroup-v1/memory.rst, "OOM Control" """

    def __init__(self, directory: str) -> None:
        from select import POLLIN

        self.mask: int = POLLIN
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._directory = -1
        try:
            self._directory = open_directory(directory)
            control = os.open("memory.oom_control", os.O_RDONLY, dir_fd=self._directory)
            try:
                write_file("cgroup.event_control", f"{self.fd} {control}", self._directory)
            finally:
                os.close(control)
        except BaseException:
            self.close()
            raise

    def take(self) -> dict[str, int] | None:
        """See OomWatch."""
        try:
            count = os.eventfd_read(self.fd)
        except BlockingIOError:
            return {}
        if not self._is_removed():
            return {"oom": count}
        # The kernel signals the end of the cgroup the same way.
        return {"oom": count - 1} if count > 1 else None

    def _is_removed(self) -> bool:
        try:
            os.stat("memory.oom_control", dir_fd=self._directory)
        except OSError as error:
            if error.errno not in (ENOENT, ENODEV):
                raise failure("stat memory.oom_control", error) from error
            return True
        return False

    def close(self) -> None:
        """See OomWatch."""
        for fd in (self.fd, self._directory):
            if fd >= 0:
                os.close(fd)
        self.fd = self._directory = -1
