# SPDX-License-Identifier: Apache-2.0
"""Reading, writing and walking cgroup directories through descriptors.

cgroupfs has no symbolic links and this package refuses `..`, so a relative path opened below a
cgroup directory stays below it.  What could still lead out is something mounted over a directory;
the walks compare the device number and do not enter such a place.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENODEV, ENOENT, ENOTEMPTY, EOPNOTSUPP, ESRCH
from time import monotonic, sleep

from ocirun.errors import CgroupError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOVE_DEADLINE_S = 0.15
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def failure(
    what: str, error: OSError, *, pointer: str | None = None, hint: str | None = None
) -> CgroupError:
    """Word *error*, met while doing *what* ("write pids.max = 5"), as a CgroupError."""
    where = f"{pointer}: " if pointer else ""
    message = f"{where}{what}: {errno_text(error.errno or 0)}"
    return CgroupError(message, op=what.split(" ", 1)[0], json_pointer=pointer, hint=hint)


def open_directory(path: str, dir_fd: int | None = None) -> int:
    """Return an owned, close-on-exec descriptor of a cgroup directory."""
    return os.open(path, _DIRECTORY, dir_fd=dir_fd)


def read_file(path: str, dir_fd: int | None = None) -> str:
    """Return the whole of a cgroup file, without the last newline."""
    fd = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    try:
        data = chunk = os.read(fd, 65536)
        while chunk:
            chunk = os.read(fd, 65536)
            data += chunk
    finally:
        os.close(fd)
    return os.fsdecode(data).rstrip("\n")


def write_file(path: str, value: str, dir_fd: int | None = None) -> None:
    """Write *value* to a cgroup file in one write(2), which is how the kernel parses it."""
    # No O_TRUNC: it means nothing there and some files refuse it.
    fd = os.open(path, os.O_WRONLY, dir_fd=dir_fd)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def flat_value(text: str, key: str) -> str | None:
    """Return the value of *key* in a flat keyed file such as cgroup.events."""
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        if name == key:
            return value
    return None


def subdirectories(fd: int) -> list[str]:
    """Return the names of the child cgroups of the directory *fd* (borrowed)."""
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def descend(top: int) -> Iterator[tuple[int, str]]:
    """Yield (descriptor, name) for *top* and each cgroup below it, parents first.

    Descriptors are borrowed until the next step.  One descriptor is open at a time and nothing
    recurses, so that a container that nests its cgroups a thousand deep meets neither RLIMIT_NOFILE
    nor Python's recursion limit.  Cgroups that vanish meanwhile are skipped.
    """
    device = os.fstat(top).st_dev
    fd = os.dup(top)
    try:
        yield fd, "."
        pending = [_children_or_none(fd)]
        while pending:
            if not pending[-1]:
                pending.pop()
                if pending:
                    fd = _replace(fd, "..")
                continue
            name = pending[-1].pop()
            try:
                child = open_directory(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            if os.fstat(child).st_dev != device:
                os.close(child)
                continue
            os.close(fd)
            fd = child
            yield fd, name
            pending.append(_children_or_none(fd))
    finally:
        os.close(fd)


def remove_below(top: int) -> None:
    """Remove every cgroup below *top* (borrowed), deepest first; those still in use stay.

    Errors: whatever rmdir says other than EBUSY (still populated) and ENOENT (gone already).
    """
    device = os.fstat(top).st_dev
    fd = os.dup(top)
    names: list[str] = []
    try:
        pending = [subdirectories(fd)]
        while pending:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    child = open_directory(name, dir_fd=fd)
                except FileNotFoundError:
                    continue
                if os.fstat(child).st_dev != device:
                    os.close(child)
                    continue
                os.close(fd)
                fd = child
                names.append(name)
                pending.append(_children_or_none(fd))
                continue
            pending.pop()
            if pending:
                fd = _replace(fd, "..")
                remove_directory(names.pop(), dir_fd=fd)
    finally:
        os.close(fd)


def remove_directory(path: str, dir_fd: int | None = None) -> bool:
    """Remove one cgroup; False if it is still in use (EBUSY), True if it is gone."""
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == ENODEV:  # its parent was removed as well
            return True
        if error.errno in (EBUSY, ENOTEMPTY):
            return False
        raise
    return True


def processes(top: int) -> list[int]:
    """Return the pids in *top* (borrowed) and in all cgroups below it, as the caller's pid
    namespace sees them.

    Processes of another pid namespace read as 0 and are left out.
    """
    found: set[int] = set()
    for fd, _ in descend(top):
        try:
            text = read_file("cgroup.procs", fd)
        except OSError as error:
            # EOPNOTSUPP: a threaded cgroup, whose processes its domain lists.
            if error.errno in (EOPNOTSUPP, ENODEV, ENOENT):
                continue
            raise
        found.update(map(int, text.split()))
    found.discard(0)
    return sorted(found)


def move_process(path: str, pid: int, directory: int, name: str) -> None:
    """Move the process *pid* by writing to *path* below *directory*, which is called *name*.

    The kernel says EINVAL while it changes the cgroup's domain, and EBUSY while a child with
    controllers is being set up or for good if there is one; both are tried a few times.
    """
    backoff = Backoff(_MOVE_DEADLINE_S)
    while True:
        try:
            write_file(path, str(pid), directory)
        except OSError as error:
            if error.errno in (EINVAL, EBUSY) and backoff.wait():
                continue
            hint = None
            if error.errno == EBUSY:
                hint = (
                    "the cgroup has children with controllers, so it cannot hold processes itself"
                )
            elif error.errno == ESRCH:
                hint = "the process is gone"
            raise failure(f"write {name}/{path} = {pid}", error, hint=hint) from error
        return


def thaw_after(error: BaseException, thaw: Callable[[int], None], directory: int) -> None:
    """Undo a freezing that *error* ended; a failure becomes a note of it."""
    try:
        thaw(directory)
    except CgroupError as another:
        error.add_note(f"while thawing again: {another}")


class Backoff:
    """Waits that grow from 1 to 250 ms until a deadline, but six of them at least.

    A machine with too much to do may keep us from running for longer than a deadline takes, and then it would be over
    before anything was tried twice.
    """

    __slots__ = ("_delay_s", "_due", "_end_s")

    def __init__(self, deadline_s: float) -> None:
        self._end_s = monotonic() + deadline_s
        self._delay_s = 0.001
        self._due = 6

    def wait(self) -> bool:
        """Sleep once; False, at once, when the deadline is over."""
        pause = self.next_s()
        if pause <= 0:
            return False
        sleep(pause)
        return True

    def next_s(self) -> float:
        """Return the next wait in seconds, 0 or less when the deadline is over, and let the one
        after grow.
        """
        pause = self._delay_s if self._due > 0 else min(self._delay_s, self._end_s - monotonic())
        self._delay_s = min(self._delay_s * 2, 0.25)
        self._due -= 1
        return pause


def _replace(fd: int, path: str) -> int:
    """Open *path* below *fd* and close *fd*."""
    # ".." is safe here: the kernel does not move a cgroup to another parent.
    other = open_directory(path, dir_fd=fd)
    os.close(fd)
    return other


def _children_or_none(fd: int) -> list[str]:
    try:
        return subdirectories(fd)
    except FileNotFoundError:  # removed while we look
        return []
