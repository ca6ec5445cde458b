# SPDX-License-Identifier: Apache-2.0
"""Compiled seccomp filters on disk.

A filter is found again under a digest of everything that had a part in it: the whole profile but
for the two fields about the listener, the generator's version, the architecture, the kernel.
libseccomp has a part as well, but asking it for its version would mean loading it; instead, an
entry remembers the library *file* that made it, and is out of date when that file is no longer the
same.

The directory must be ours alone (owner, mode 0700).  An entry is used only if it is a regular file
of ours, says itself that it belongs to the digest that it was looked up by, and carries the right
digest of its own contents; anything else is ignored and in time written over.  No failure of the
cache is an error: without it, filters are compiled each time.
"""

from __future__ import annotations

import os
import stat
import sys

try:
    from _blake2 import blake2b  # hashlib would cost ten times as much as the rest of this module
except ImportError:  # an interpreter without it
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_ENTRIES = 128
MAX_PROGRAM = 4096 * 8  # BPF_MAXINSNS instructions of 8 bytes

# podman gives each container metadata of its own; with that in the digest nothing would ever be
# found again.
_NO_INFLUENCE = ("listenerPath", "listenerMetadata")

_MAGIC = b"ocirun seccomp 1\n"
_DIGEST = 32
_MAX_FILE = MAX_PROGRAM + (1 << 20)  # the names that were skipped have no bound of their own


class Entry:
    """One compiled filter.

    `library` is the path of the libseccomp that made it ("" if unknown), `identity` what that file
    was like then.
    """

    __slots__ = ("flags", "identity", "library", "program", "skipped_names")

    def __init__(
        self,
        program: bytes,
        flags: int,
        skipped_names: tuple[str, ...],
        library: str,
        identity: str,
    ) -> None:
        self.program = program
        self.flags = flags
        self.skipped_names = skipped_names
        self.library = library
        self.identity = identity

    def is_current(self) -> bool:
        """Say whether the libseccomp that made this filter is still the one that is installed."""
        return bool(self.identity) and file_identity(self.library) == self.identity


def file_identity(path: str) -> str:
    """Return what tells one state of the file at *path* from another, "" if there is none.

    Symbolic links are followed: a package manager moves the link of a library's soname to the new
    file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def digest(profile: Mapping[str, Any], *influences: str | int) -> bytes:
    """Return the digest under which the filter of *profile* is kept."""
    import _json

    system = os.uname()
    subject = [
        {key: value for key, value in profile.items() if key not in _NO_INFLUENCE},
        [*influences, sys.byteorder, sys.maxsize],
        [system.machine, system.release, system.version],
    ]
    # The encoder that json.dumps is made of; importing json costs more than all the rest.
    encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", True, False, False)
    return blake2b("".join(encode(subject, 0)).encode("ascii"), digest_size=_DIGEST).digest()


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


def load(directory: str, key: bytes) -> Entry | None:
    """Return the entry of *key*, or None if there is none that can be trusted."""
    try:
        directory_fd = _open_directory(directory)
        try:
            # O_NONBLOCK: whatever has been put there, opening it must not wait.
            fd = os.open(
                key.hex(),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=directory_fd,
            )
        finally:
            os.close(directory_fd)
        try:
            found = os.fstat(fd)
            if (
                not stat.S_ISREG(found.st_mode)
                or found.st_uid != os.geteuid()
                or found.st_mode & 0o022
                or found.st_size > _MAX_FILE
            ):
                return None
            data = os.read(fd, found.st_size + 1)
        finally:
            os.close(fd)
        return _decode(data, key)
    except (OSError, ValueError):
        return None


def store(directory: str, key: bytes, entry: Entry) -> None:
    """Keep *entry* for the next time, if possible."""
    if not entry.identity or "\n" in entry.library:
        return
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        directory_fd = _open_directory(directory)
    except OSError:
        return
    # Not hidden behind a fixed prefix: pruning counts and removes what a crash left.
    temporary = f"{key.hex()}.{os.urandom(6).hex()}"
    try:
        try:
            _write_new(directory_fd, temporary, _encode(entry, key))
            os.rename(temporary, key.hex(), src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        except OSError:
            _remove(directory_fd, temporary)
        else:
            _prune(directory_fd)
    finally:
        os.close(directory_fd)


def _open_directory(path: str) -> int:
    """Open the cache.  Errors: PermissionError if others could write to it or have made it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise PermissionError(f"{path} is not ours alone")
    return fd


def _write_new(directory_fd: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory_fd)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _prune(directory_fd: int) -> None:
    """Remove the entries that were not used for longest, down to `MAX_ENTRIES`."""
    names = os.listdir(directory_fd)
    if len(names) <= MAX_ENTRIES:
        return
    ages = []
    for name in names:
        try:
            found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        except OSError:  # another process removed it
            continue
        # The kernel itself notes a use, though with relatime no more than once a day.
        ages.append((max(found.st_atime_ns, found.st_mtime_ns), name))
    ages.sort()
    for _, name in ages[: len(ages) - MAX_ENTRIES]:
        _remove(directory_fd, name)


def _remove(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except OSError:
        pass


def _encode(entry: Entry, key: bytes) -> bytes:
    # ascii() leaves neither a tab nor a line feed inside a name.
    skipped = "\t".join(ascii(name) for name in entry.skipped_names)
    lines = (str(entry.flags).encode(), os.fsencode(entry.library), entry.identity.encode())
    body = key + b"\n".join((*lines, skipped.encode(), entry.program))
    return _MAGIC + blake2b(body, digest_size=_DIGEST).digest() + body


def _decode(data: bytes, key: bytes) -> Entry | None:
    """Return what `_encode` encoded; None or ValueError if *data* is something else."""
    start = len(_MAGIC) + _DIGEST
    body = data[start:]
    if (
        not data.startswith(_MAGIC)
        or blake2b(body, digest_size=_DIGEST).digest() != data[len(_MAGIC) : start]
        or body[:_DIGEST] != key
    ):
        return None
    flags, library, identity, skipped, program = body[_DIGEST:].split(b"\n", 4)
    if not 0 < len(program) <= MAX_PROGRAM or len(program) % 8:
        return None
    return Entry(
        program,
        int(flags),
        tuple(_unquote(name) for name in skipped.decode("ascii").split("\t") if name),
        os.fsdecode(library),
        identity.decode("ascii"),
    )


def _unquote(text: str) -> str:
    """Undo ascii()."""
    return text[1:-1].encode("ascii").decode("unicode_escape")
