# SPDX-License-Identifier: Apache-2.0
"""Which state root a caller has who names none.

Source: XDG Base Directory Specification
"""

from __future__ import annotations

import os
import stat

from ocirun.errors import OcirunError

#: What is in XDG_RUNTIME_DIR may be cleaned away after some hours of disuse, but not with the sticky bit.
PRIVATE, PRIVATE_AND_KEPT = 0o700, 0o1700

_OTHERS_WRITE = 0o022


def default_root() -> tuple[str, int]:
    """Return the state root of this user, and the mode to make it with.

    Root has /run/ocirun.  Other users have XDG_RUNTIME_DIR/ocirun, and so has the root of a user namespace whom an
    engine of such a user has started: with the variable set, and USER not "root", as with runc.

    Errors: OcirunError where XDG_RUNTIME_DIR is not set, or is not a directory of the caller's alone.
    """
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    euid = os.geteuid()
    if euid == 0 and (not directory or os.environ.get("USER") == "root" or not _in_user_namespace()):
        return "/run/ocirun", PRIVATE
    if not directory:
        raise _refuse("XDG_RUNTIME_DIR is not set")
    if not directory.startswith("/"):
        raise _refuse(f"XDG_RUNTIME_DIR {directory!r} is not an absolute path")
    try:
        status = os.stat(directory)
    except OSError as error:
        raise _refuse(f"XDG_RUNTIME_DIR {directory}: {os.strerror(error.errno or 0).lower()}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise _refuse(f"XDG_RUNTIME_DIR {directory} is not a directory")
    if status.st_uid != euid:
        raise _refuse(f"XDG_RUNTIME_DIR {directory} belongs to uid {status.st_uid}, and the caller is {euid}")
    if status.st_mode & _OTHERS_WRITE:
        raise _refuse(f"others may write to XDG_RUNTIME_DIR {directory}: its mode is {status.st_mode & 0o7777:04o}")
    return os.path.join(directory, "ocirun"), PRIVATE_AND_KEPT


def _in_user_namespace() -> bool:
    from ocirun.host import HostFacts  # only the root of an outer container gets here

    return HostFacts().in_user_namespace


def _refuse(why: str) -> OcirunError:
    return OcirunError(
        f"no state root: {why}",
        hint="a login makes one (su and sudo do not): set the variable to a directory of your own, or pass --root DIR",
    )
