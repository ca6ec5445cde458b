# SPDX-License-Identifier: Apache-2.0
"""Subordinate ids: which ids beside their own users may map in a user namespace, and the programs that do it for them.

`newuidmap` and `newgidmap` (package uidmap) carry a privilege and check /etc/subuid and /etc/subgid, or what
/etc/nsswitch.conf names in their place.  What is read here only explains a refusal beforehand.

Sources: newuidmap(1), subuid(5)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: The first id and how many there are.
    Range = tuple[int, int]

#: Where the programs are looked for: never where the caller's environment says (V-15).  The last two are where NixOS
#: and Guix keep what has a privilege.
DIRECTORIES = (
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/run/wrappers/bin",
    "/run/privileged/bin",
)


def find_program(name: str, directories: Sequence[str] = DIRECTORIES) -> str:
    """Return the absolute path of newuidmap or newgidmap, "" where there is none."""
    for directory in directories:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def user_name(uid: int) -> str:
    """Return the name of a user, "" where nobody knows one."""
    import pwd  # asks the name services, which only users without root have to wait for

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def read_ranges(file: str, uid: int, name: str) -> tuple[Range, ...] | None:
    """Return the ranges that *file* ("subuid" or "subgid") gives to a user, by name or number.

    None where it is not the file that decides, but a name service.
    """
    try:
        with open("/etc/nsswitch.conf", encoding="utf-8", errors="replace") as services:
            if not decided_by_files(services.read()):
                return None
    except OSError:
        pass  # then files decide
    try:
        with open(f"/etc/{file}", encoding="utf-8", errors="replace") as lines:
            return parse_ranges(lines.read(), uid, name)
    except OSError:
        return ()


def decided_by_files(nsswitch: str) -> bool:
    """Say whether /etc/nsswitch.conf leaves subordinate ids to the files.  Source: subuid(5)"""
    for line in nsswitch.splitlines():
        database, _, services = line.partition("#")[0].partition(":")
        if database.strip() == "subid":
            return services.split() == ["files"]
    return True


def parse_ranges(text: str, uid: int, name: str) -> tuple[Range, ...]:
    """Return the ranges of a user in the text of /etc/subuid or /etc/subgid; a line that is none is passed over."""
    found = []
    for line in text.splitlines():
        owner, *numbers = line.split(":")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            continue
        if owner == str(uid) or (name and owner == name):
            found.append((int(numbers[0]), int(numbers[1])))
    return tuple(found)


def covers(ranges: Sequence[Range], first: int, size: int) -> bool:
    """Say whether all ids of a range lie in one of the ranges: newuidmap joins no neighbours."""
    return any(start <= first and first + size <= start + count for start, count in ranges)
