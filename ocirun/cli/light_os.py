# SPDX-License-Identifier: Apache-2.0
"""What the packed modules get for `os`: as much of it as they use (see pack.py).

The standard module takes 1.7 ms to import, a tenth of what `state` takes: it makes a class for each kind of collection,
and `os.environ` of them.  The system calls are in `posix` in any case; what is here is the little that `os` adds.
Whatever else is loaded imports the real one.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR

globals().update({name: value for name, value in vars(posix).items() if not name.startswith("_")})

SEEK_SET = 0


def fsencode(name: str | bytes) -> bytes:
    """As os.fsencode: the launcher has Python use UTF-8 for paths."""
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name


def fsdecode(name: str | bytes) -> str:
    """As os.fsdecode."""
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


def makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    """As os.makedirs."""
    head, tail = path.split(name)
    if not tail:
        head, tail = path.split(head)
    if head and tail and not path.exists(head):
        makedirs(head, exist_ok=exist_ok)
    try:
        posix.mkdir(name, mode)
    except OSError:
        if not exist_ok or not path.isdir(name):
            raise


class environ:  # noqa: N801  # stands for a module's attribute
    """As os.environ, to be read only."""

    @staticmethod
    def get(name: str, default: str | None = None) -> str | None:
        """Return a variable."""
        value = posix.environ.get(fsencode(name))
        return default if value is None else fsdecode(value)


class path:  # noqa: N801  # stands for a module
    """As os.path, for text."""

    @staticmethod
    def join(first: str, *more: str) -> str:
        """Join components; an absolute one drops those before it."""
        for each in more:
            if each.startswith("/") or not first:
                first = each
            else:
                first = first + each if first.endswith("/") else f"{first}/{each}"
        return first

    @staticmethod
    def split(name: str) -> tuple[str, str]:
        """Return what is before the last slash, and what is behind it."""
        head, slash, tail = name.rpartition("/")
        head += slash
        return head.rstrip("/") or head, tail

    @staticmethod
    def dirname(name: str) -> str:
        """Return what is before the last slash."""
        return path.split(name)[0]

    @staticmethod
    def basename(name: str) -> str:
        """Return what is behind the last slash."""
        return name.rpartition("/")[2]

    @staticmethod
    def abspath(name: str) -> str:
        """Return a path from the root on, without "." and ".."."""
        if not name.startswith("/"):  # the working directory may have been removed
            name = path.join(posix.getcwd(), name)
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        # POSIX lets two slashes at the beginning mean something else.
        slashes = "//" if name.startswith("//") and not name.startswith("///") else "/"
        return slashes + "/".join(parts)

    @staticmethod
    def exists(name: str) -> bool:
        """Say whether a path leads to anything."""
        try:
            posix.stat(name)
        except (OSError, ValueError):
            return False
        return True

    @staticmethod
    def isdir(name: str) -> bool:
        """Say whether a path leads to a directory."""
        try:
            return S_ISDIR(posix.stat(name).st_mode)
        except (OSError, ValueError):
            return False
