# SPDX-License-Identifier: Apache-2.0
"""What is special about cgroup version 1: the freezer controller, and cpusets that start empty."""

from __future__ import annotations

from ocirun.errors import CgroupError

from .files import Backoff, descend, failure, read_file, thaw_after, write_file

FREEZER_STATE = "freezer.state"


def is_frozen(prefix: str, directory: int | None = None) -> bool:
    """Tell whether a cgroup itself was frozen; a frozen ancestor does not count.

    The cgroup is the directory *prefix*, with a slash at the end, or *directory* with an empty one.

    Kernel: admin-guide/cgroup-v1/freezer-subsystem.rst
    """
    return read_file(f"{prefix}freezer.self_freezing", directory) == "1"


def freeze(directory: int, deadline_s: float) -> None:
    """Freeze all tasks of the cgroup and of those below it, and wait until they are.

    Errors: CgroupError, after the deadline too; whatever is raised, the cgroup is thawed again then.
    """
    backoff = Backoff(deadline_s)
    try:
        while True:
            # Writing it again makes the kernel look again: tasks that forked meanwhile may have
            # been missed.
            write_file(FREEZER_STATE, "FROZEN", directory)
            if read_file(FREEZER_STATE, directory) == "FROZEN":
                return
            if not backoff.wait():
                raise CgroupError(f"the cgroup did not freeze within {deadline_s:g} s", op="freeze")
    except BaseException as error:
        thaw_after(error, thaw, directory)
        if isinstance(error, OSError):
            raise failure("write freezer.state = FROZEN", error) from error
        raise


def thaw(directory: int) -> None:
    """Thaw the cgroup itself; one that is frozen below it stays so."""
    try:
        write_file(FREEZER_STATE, "THAWED", directory)
    except OSError as error:
        raise failure("write freezer.state = THAWED", error) from error


def thaw_all(directory: int) -> None:
    """Thaw the cgroup and all below it, parents first."""
    for fd, _ in descend(directory):
        try:
            write_file(FREEZER_STATE, "THAWED", fd)
        except OSError:
            continue  # vanished (ENODEV, ENOENT): nothing frozen is in there any more


def seed_cpuset(mount_point: str, path: str) -> None:
    """Give each cgroup of *path* that has no CPUs or memory nodes those of its parent.

    A new cpuset is empty and takes no task (ENOSPC) until both are set.

    Kernel: cpuset(7)
    """
    for name in ("cpuset.cpus", "cpuset.mems"):
        empty = []
        directory = f"{mount_point}/{path}"
        while len(directory) >= len(mount_point):
            value = read_file(f"{directory}/{name}")
            if value:
                break
            empty.append(directory)
            directory = directory.rpartition("/")[0]
        else:
            raise CgroupError(f"{name} is empty up to the root of the hierarchy", op="cpuset")
        for directory in reversed(empty):
            write_file(f"{directory}/{name}", value)
