# SPDX-License-Identifier: Apache-2.0
"""The state root: one directory for each container, with a record that is there before anything else is (design D7).

    <root>/<id>/state.json    the record: first the intent (what may come to exist), then also the identities
    <root>/<id>/config.json   the configuration that was validated at create; later changes of the bundle do not count
    <root>/<id>/start.sock    what `start` connects to; while it is there the container has not been started
    <root>/~<id>.<random>     a directory on its way out, its id is free already
    <root>/@seccomp           compiled filters; neither character can begin an id

Records are replaced whole: written beside, fsynced, renamed.  Readers take no lock.
"""

from __future__ import annotations

import os
import stat
import time
from errno import ENOTEMPTY, ESTALE

from ocirun.errors import (
    Busy,
    ContainerExists,
    ContainerNotFound,
    CorruptState,
    InvalidContainerId,
    OcirunError,
    StateError,
)
from ocirun.strict_json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Record = dict[str, Any]

RECORD = "state.json"
CONFIG = "config.json"
START_SOCKET = "start.sock"
NOTIFY_DIRECTORY = "notify"
LEAVING = "~"
SECCOMP_CACHE = "@seccomp"

SCHEMA_VERSION = 1
LOCK_DEADLINE_S = 30.0
_MAX_RECORD = 16 << 20
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MAX_ID = 200  # NAME_MAX, less what the name on the way out adds


def check_id(container_id: str) -> None:
    """Refuse an ID that is not a plain file name of runc's alphabet.  Errors: InvalidContainerId"""
    if (
        not container_id
        or len(container_id) > _MAX_ID
        or container_id in (".", "..")
        or not _ID_CHARACTERS.issuperset(container_id)
    ):
        raise InvalidContainerId(
            f"invalid container ID {container_id!r}: it must be 1 to {_MAX_ID} of the characters"
            " A-Z a-z 0-9 _ + - . and neither . nor .."
        )


class Entry:
    """The directory of one container.  Owns a descriptor of it; close() releases the lock too."""

    __slots__ = ("_locked", "fd", "id", "path")

    def __init__(self, container_id: str, path: str, fd: int) -> None:
        self.id = container_id
        self.path = path
        self.fd = fd
        self._locked = False

    def lock(self, deadline_s: float = LOCK_DEADLINE_S, *, while_held: Callable[[], None] | None = None) -> None:
        """Serialise this operation with others on the container.

        `while_held` is called as long as another one holds the lock, and ends the wait by an error of its own.
        Errors: Busy at the deadline; ContainerNotFound when the container went away meanwhile.
        """
        import fcntl  # not at the top: readers take no lock, and state is in a hurry

        deadline = time.monotonic() + deadline_s
        pause = 0.001
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if while_held is not None:
                    while_held()
                if time.monotonic() >= deadline:
                    raise Busy(
                        f"another operation on the container did not finish within {deadline_s:g} s",
                        container_id=self.id,
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, 0.1)
        self._locked = True
        if not self._is_current():
            self.close()
            raise ContainerNotFound("container does not exist", container_id=self.id)

    def _is_current(self) -> bool:
        """Say whether the path still leads to this directory: it may have been removed, and made anew."""
        try:
            now = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(self.fd)
        return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Unlock and close.  Unlocking is said explicitly: a child that another thread of the host process forked
        meanwhile holds a copy of the descriptor, and with it the lock."""
        if self.fd >= 0:
            if self._locked:
                import fcntl

                fcntl.flock(self.fd, fcntl.LOCK_UN)
            os.close(self.fd)
            self.fd = -1
            self._locked = False

    def write_record(self, record: Record) -> None:
        """Replace the record; it is on the disk when this returns."""
        self._replace(RECORD, dumps(record).encode())
        os.fsync(self.fd)

    def write_config(self, content: bytes) -> None:
        """Keep the validated configuration."""
        self._replace(CONFIG, content, sync=False)

    def _replace(self, name: str, content: bytes, *, sync: bool = True) -> None:
        temporary = f"{name}.{os.getpid()}"
        fd = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=self.fd,
        )
        try:
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(fd, view) :]
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except BaseException as error:
            try:
                os.unlink(temporary, dir_fd=self.fd)
            except FileNotFoundError:
                pass
            if isinstance(error, OSError):
                error.filename = f"{self.path}/{name}"  # write(2) and fsync(2) do not know it
            raise

    def read_record(self) -> Record:
        """Return the record.

        Errors: CorruptState; ContainerNotFound where it was never written, or was removed since the entry was opened.
        """
        try:
            content = self.read(RECORD)
        except FileNotFoundError:
            raise ContainerNotFound("container does not exist", container_id=self.id) from None
        try:
            record = loads(content, what=RECORD)
        except OcirunError as error:
            raise CorruptState(f"{self.path}/{RECORD}: {error}", container_id=self.id) from error
        if not isinstance(record, dict) or record.get("schemaVersion") != SCHEMA_VERSION:
            raise CorruptState(
                f"{self.path}/{RECORD}: not a record of this version", container_id=self.id
            )
        return record

    def read(self, name: str) -> bytes:
        """Return a file of the directory; never blocks on a FIFO, never follows a link."""
        try:
            fd = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            what = os.strerror(error.errno or 0)
            raise CorruptState(f"{self.path}/{name}: {what}", container_id=self.id) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_RECORD:
                raise CorruptState(f"{self.path}/{name}: not a small file", container_id=self.id)
            parts = []
            while part := os.read(fd, 1 << 20):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def has(self, name: str) -> bool:
        """Say whether there is such a file."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def unlink(self, name: str) -> None:
        """Remove a file that may be gone already."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def short_path(self, name: str) -> str:
        """Return a path of a file that fits into a socket address (108 bytes) however deep the root is."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def remove(self) -> None:
        """Remove the directory; the id is free from the first step on."""
        parent, name = os.path.split(self.path)
        doomed = os.path.join(parent, f"{LEAVING}{name}.{os.urandom(6).hex()}")
        try:
            os.rename(self.path, doomed)
        except FileNotFoundError:
            return
        remove_tree(doomed)


def remove_leftover(path: str) -> bool:
    """Remove a directory on its way out, unless whoever renamed it still holds the lock and is at it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    entry = Entry(os.path.basename(path), path, fd)
    try:
        entry.lock(0)
        remove_tree(path)
    except (Busy, ContainerNotFound):
        return False
    finally:
        entry.close()
    return True


def remove_tree(path: str) -> None:
    """Remove a container's directory with all that is in it; no link is followed, and nothing below a mount is touched.

    A container with CAP_SYS_ADMIN can write to its notify directory, and nest directories there as deep as it likes:
    one descriptor is open at a time, paths have one component, and nothing recurses.  Of several that remove a
    directory at once (delete, and gc beside it) each does what the others have not done yet.
    Errors: OSError, for instance EBUSY of a mount, or ESTALE where a directory that is being emptied was moved.
    """
    parent, name = os.path.split(path)
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    entered: list[tuple[str, tuple[int, int]]] = []  # name, and identity of the directory that it is in
    pending = [[name]]
    try:
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                if _remove_name(name, fd):
                    continue
                try:
                    child = os.open(name, _ENTER, dir_fd=fd)
                except FileNotFoundError:
                    continue
                entered.append((name, _identity(fd)))
                os.close(fd)
                fd = child
                pending.append(_names_in(fd))
                continue
            pending.pop()
            if not entered:
                return
            name, above = entered.pop()
            child, fd = fd, os.open("..", _ENTER, dir_fd=fd)
            os.close(child)
            if _identity(fd) != above:
                raise OSError(ESTALE, "was moved while it was removed", name)
            if not _remove_name(name, fd):
                raise OSError(ENOTEMPTY, os.strerror(ENOTEMPTY), name)
    finally:
        os.close(fd)


_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _remove_name(name: str, dir_fd: int) -> bool:
    """Remove a file or an empty directory that may be gone already; False if it is a directory that is not empty."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        pass
    else:
        return True
    try:
        # Before a look into it: the kernel answers EBUSY for the root of a mount, whatever is in that.
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != ENOTEMPTY:
            raise
        return False
    return True


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _names_in(fd: int) -> list[str]:
    try:
        return os.listdir(fd)
    except FileNotFoundError:  # removed since it was opened
        return []


class Store:
    """The state root.  The directory is made when the first container is."""

    __slots__ = ("mode", "root")

    def __init__(self, root: str, mode: int = 0o700) -> None:
        """`mode` is what the root is made with."""
        self.root = os.path.abspath(root)
        self.mode = mode

    def create(self, container_id: str) -> Entry:
        """Make the directory of a new container, locked.  Errors: InvalidContainerId, ContainerExists, OSError."""
        check_id(container_id)
        path = os.path.join(self.root, container_id)
        while True:
            try:
                os.mkdir(path, 0o711)
            except FileNotFoundError:
                self.make_root()
                continue
            except FileExistsError:
                raise ContainerExists(
                    f"container with given ID already exists: {container_id}", container_id=container_id
                ) from None
            try:
                self._check_owner()
                return self._open_locked(container_id, path)
            except ContainerNotFound:
                continue  # an empty directory that nobody has locked is what gc looks for: it was quicker
            except BaseException as error:  # a signal among them, which may come while we wait for the lock
                try:
                    os.rmdir(path)
                except OSError as failure:
                    error.add_note(f"while undoing: {failure}")
                raise

    def _open_locked(self, container_id: str, path: str) -> Entry:
        entry = self._open(container_id, path)
        try:
            entry.lock()
        except BaseException:
            entry.close()
            raise
        return entry

    def _check_owner(self) -> None:
        """Refuse a root in which somebody else could have prepared, or could change, what we rely on (S-62)."""
        status = os.stat(self.root)
        if status.st_uid not in (0, os.geteuid()) or (
            status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX
        ):
            raise StateError(
                f"the state root {self.root} belongs to uid {status.st_uid} with mode"
                f" {stat.S_IMODE(status.st_mode):04o}: others could change it"
            )

    def open(self, container_id: str) -> Entry:
        """Return the directory of an existing container, not locked.  Errors: ContainerNotFound."""
        check_id(container_id)
        return self._open(container_id, os.path.join(self.root, container_id))

    def _open(self, container_id: str, path: str) -> Entry:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ContainerNotFound("container does not exist", container_id=container_id) from None
        return Entry(container_id, path, fd)

    def make_root(self) -> None:
        missing = []
        path = self.root
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, self.mode if directory == self.root else 0o700)
            except FileExistsError:
                if not os.path.isdir(directory):
                    raise

    def ids(self) -> Iterator[str]:
        """Yield the ids of all containers, in order."""
        yield from sorted(name for name in self._names() if name[0] not in (LEAVING, SECCOMP_CACHE[0]))

    def leftovers(self) -> Iterator[str]:
        """Yield the paths of directories on their way out: whoever removed them was interrupted."""
        for name in self._names():
            if name[0] == LEAVING:
                yield os.path.join(self.root, name)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
