# SPDX-License-Identifier: Apache-2.0
"""What is special about cgroup version 2: delegated controllers, cgroup.kill, cgroup.freeze,
cgroup.events.
"""

from __future__ import annotations

import os
from errno import ENOENT, EOPNOTSUPP

from ocirun.errors import CgroupError

from .files import Backoff, descend, failure, flat_value, open_directory, read_file, thaw_after, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Those that statistics come from, besides limits.  The others (hugetlb, rdma, misc) are enabled
# when a limit asks for them, so that neither the host's root nor each container carries them for
# nothing.
USUAL_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


def is_frozen(prefix: str, directory: int | None = None) -> bool:
    """Tell whether a cgroup itself was frozen; a frozen ancestor does not count.

    The cgroup is the directory *prefix*, with a slash at the end, or *directory* with an empty one.

    Kernel: admin-guide/cgroup-v2.rst, cgroup.freeze (Linux 5.2)
    """
    return read_file(f"{prefix}cgroup.freeze", directory) == "1"


def freeze(directory: int, deadline_s: float) -> None:
    """Freeze all processes of the cgroup and of those below it, and wait until they are.

    Errors: CgroupError, after the deadline too; whatever is raised, the cgroup is thawed again then.
    """
    try:
        write_file("cgroup.freeze", "1", directory)
        if not wait_for_event(directory, "frozen", "1", deadline_s):
            raise CgroupError(f"the cgroup did not freeze within {deadline_s:g} s", op="freeze")
    except BaseException as error:
        thaw_after(error, thaw, directory)
        if isinstance(error, OSError):
            raise failure("write cgroup.freeze = 1", error) from error
        raise


def thaw(directory: int) -> None:
    """Thaw the cgroup itself; one that is frozen below it stays so."""
    try:
        write_file("cgroup.freeze", "0", directory)
    except OSError as error:
        raise failure("write cgroup.freeze = 0", error) from error


def thaw_all(directory: int) -> None:
    """Thaw the cgroup and all below it, parents first."""
    for fd, _ in descend(directory):
        try:
            write_file("cgroup.freeze", "0", fd)
        except OSError:
            continue  # vanished (ENODEV, ENOENT): nothing frozen is in there any more


def kill(directory: int) -> bool:
    """Send SIGKILL to every process of the cgroup and of those below it; no fork escapes.

    Returns False where the kernel has no cgroup.kill.  Does not wait for the processes to be gone.

    Kernel: admin-guide/cgroup-v2.rst, cgroup.kill (Linux 5.14)
    """
    try:
        write_file("cgroup.kill", "1", directory)
    except OSError as error:
        if error.errno in (ENOENT, EOPNOTSUPP):  # EOPNOTSUPP: a threaded cgroup
            return False
        raise
    return True


def wait_for_event(directory: int, key: str, value: str, deadline_s: float) -> bool:
    """Wait until cgroup.events says *key* *value*; False if the deadline passes first."""
    from select import POLLPRI, poll  # lazily: only waiting needs it

    backoff = Backoff(deadline_s)
    fd = os.open("cgroup.events", os.O_RDONLY, dir_fd=directory)
    try:
        poller = poll()
        poller.register(fd, POLLPRI)
        while True:
            # Reading the file first arms the notification.
            if flat_value(os.pread(fd, 4096, 0).decode(), key) == value:
                return True
            pause_s = backoff.next_s()
            if pause_s <= 0:
                return False
            poller.poll(pause_s * 1000)
    finally:
        os.close(fd)


def enable_controllers(
    mount_point: str, path: str, wanted: Iterable[str] = USUAL_CONTROLLERS
) -> None:
    """Make controllers available in the cgroup *path* by enabling them in each of its ancestors,
    best effort.

    What is on already is not written again,
    because the kernel stops all forks of the host for such a write.  A controller that is not
    delegated to us, or that cannot be had below an ancestor because it holds processes, stays off:
    writing its limits fails then, with a reason.
    """
    fd = open_directory(mount_point)
    try:
        available = read_file("cgroup.controllers", fd).split()
        names = [name for name in wanted if name in available]
        leaf = read_file(f"{path}/cgroup.controllers", fd).split()
        if all(name in leaf for name in names):
            return
        ancestor = "."
        for component in path.split("/"):
            enabled = read_file(f"{ancestor}/cgroup.subtree_control", fd).split()
            missing = [name for name in names if name not in enabled]
            if missing and not _is_inhabited(ancestor, fd):
                _enable(missing, ancestor, fd)
            ancestor = component if ancestor == "." else f"{ancestor}/{component}"
    except OSError as error:
        if error.errno != ENOENT:
            raise failure("read cgroup.controllers", error) from error
        raise failure(f"open {mount_point}/{path}", error) from error
    finally:
        os.close(fd)


def _is_inhabited(ancestor: str, root: int) -> bool:
    """Tell whether a cgroup that is not the root of all holds processes, so that none below it may have controllers.

    For memory and io the kernel says EBUSY.  cpu, cpuset and pids it would enable, and make the cgroups below
    "domain invalid" with it, which no process can enter (EOPNOTSUPP).

    Kernel: admin-guide/cgroup-v2.rst, "No Internal Process Constraint", "Threads"
    """
    try:
        os.stat(f"{ancestor}/cgroup.type", dir_fd=root)
        return bool(read_file(f"{ancestor}/cgroup.procs", root))
    except OSError as error:
        if error.errno == ENOENT:
            return False  # the root of all, or of a kernel before 4.14, which has no threaded cgroups
        if error.errno == EOPNOTSUPP:
            return True  # threaded itself
        raise


def _enable(names: list[str], ancestor: str, root: int) -> None:
    if not names:
        return
    control = f"{ancestor}/cgroup.subtree_control"
    try:
        write_file(control, " ".join(f"+{name}" for name in names), root)
    except OSError:
        # All or nothing is how the kernel takes the list, and one of them may be refused (cpu with
        # realtime tasks, or one that is not delegated): then the others, each by itself.
        for name in names:
            try:
                write_file(control, f"+{name}", root)
            except OSError:
                continue
