# SPDX-License-Identifier: Apache-2.0
"""Giving a container's cgroup to a user of the container, who can then make cgroups below it.

Spec: config-linux.md#cgroup-ownership; Kernel: cgroups(7), "Cgroups delegation"
"""

from __future__ import annotations

import os

from .files import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .hierarchies import Hierarchy

#: What the kernel says may be given away; the other files are the container's limits.
DELEGATE = "/sys/kernel/cgroup/delegate"
#: The same for a kernel that does not say (before 4.15).
ALWAYS = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def delegate(hierarchies: Sequence[Hierarchy], uid: int, files: str = DELEGATE) -> None:
    """Make *uid*, a number of the host, the owner of the cgroup; nothing where version 1 is in use.

    Errors: CgroupError.
    """
    if [each.version for each in hierarchies] != [2]:
        return  # delegation is not safe in version 1
    directory = hierarchies[0].directory
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, uid, -1)
            for name in _names(files):
                try:
                    os.chown(name, uid, -1, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    pass  # of a controller that is not on
        finally:
            os.close(fd)
    except OSError as error:
        raise failure(f"chown {directory}", error) from error


def _names(files: str) -> Sequence[str]:
    try:
        fd = os.open(files, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ALWAYS
    try:
        return os.read(fd, 1 << 16).decode().split()
    finally:
        os.close(fd)
