# SPDX-License-Identifier: Apache-2.0
"""Running a runtime as a user who is not root: without any privilege, with a home and subordinate ids."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.bundle import TAG, Bundle
from support.command import RuntimeCommand

MS_BIND, MNT_DETACH = 0x1000, 2
UID = GID = 61842
NAME = "ocirunuser"
FIRST_SUBORDINATE, SUBORDINATES = 7000000, 65536
# What belongs to whom a cgroup is delegated to; the rest stays root's.  cgroup-v2.rst, Delegation Containment
DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks")
FILES = {
    "passwd": f"{NAME}:x:{UID}:{GID}::/nonexistent:/bin/sh\n",
    "group": f"{NAME}:x:{GID}:\n",
    "subuid": f"{NAME}:{FIRST_SUBORDINATE}:{SUBORDINATES}\n",
    "subgid": f"{UID}:{FIRST_SUBORDINATE}:{SUBORDINATES}\n",
}
# crun gives up on a hybrid tree, and the user cannot take the unified part away.
WITHOUT_UNIFIED = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")


class Accounts:
    """The user's entries in /etc, in this mount namespace alone."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._directory = Path(tempfile.mkdtemp(prefix=f"{TAG}-etc"))
        for name, entry in FILES.items():
            real, copy = Path("/etc", name), self._directory / name
            before = real.read_text() if real.exists() else ""
            if not real.exists():
                real.touch()  # something to mount on, and empty is the same as missing
            copy.write_text(before + entry)
            copy.chmod(0o644)
            if self._libc.mount(str(copy).encode(), str(real).encode(), None, MS_BIND, None) < 0:
                raise OSError(ctypes.get_errno(), f"cannot mount {real}")

    def remove(self) -> None:
        """Take them away."""
        for name in FILES:
            self._libc.umount2(f"/etc/{name}".encode(), MNT_DETACH)
        shutil.rmtree(self._directory)


class User:
    """The user, with a home of its own below a test's directory."""

    def __init__(self, workdir: Path) -> None:
        self.home = workdir / "home"
        self.runtime_directory = workdir / "run-user"
        for directory in (self.home, self.runtime_directory):
            directory.mkdir(mode=0o700)
            os.chown(directory, UID, GID)

    def words(
        self, *, groups: Sequence[int] = (), env: Sequence[str] = (), before: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the words that start a command as the user; `before` are words that start the rest as root."""
        listed = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
        become = ("setpriv", "--reuid", str(UID), "--regid", str(GID), *listed)
        return (*before, *become, "env", f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.runtime_directory}", *env)

    def runtime(self, runtime: RuntimeCommand, *wrapper: str) -> RuntimeCommand:
        """Return the runtime as the user calls it, with a state root of the user's; `wrapper`: other `words`."""
        words = wrapper or self.words()
        if runtime.name == "crun":
            words = (*WITHOUT_UNIFIED, *words)
        other = RuntimeCommand(runtime.name, ("crun",) if runtime.name == "crun" else runtime.argv, runtime.workdir)
        other.wrapper = words
        other.root = self.home / "state"
        return other

    def own(self, bundle: Bundle, uid: int = UID, gid: int = GID) -> Bundle:
        """Give a bundle to the user (or to one of the subordinate ids)."""
        bundle.write()
        for top, directories, files in os.walk(bundle.path):
            for name in (".", *directories, *files):
                os.chown(os.path.join(top, name), uid, gid, follow_symlinks=False)
        return bundle


def single(bundle: Bundle, inside: int = 0) -> Bundle:
    """Put a bundle into a user namespace that has the user alone."""
    mapping = [{"containerID": inside, "hostID": UID, "size": 1}]
    return bundle.namespaces("user").linux(uidMappings=mapping, gidMappings=mapping)


def subordinate(bundle: Bundle) -> Bundle:
    """Put a bundle into a user namespace that has the user as root, and all its subordinate ids."""
    mappings = [
        {"containerID": 0, "hostID": UID, "size": 1},
        {"containerID": 1, "hostID": FIRST_SUBORDINATE, "size": SUBORDINATES},
    ]
    return bundle.namespaces("user").linux(uidMappings=mappings, gidMappings=mappings)


def delegate(path: Path, *, below: bool = True) -> Path:
    """Make a cgroup and give it to the user, with one below it for the user's own processes, which is returned."""
    session = path / "session"
    for directory in (path, session) if below else (path,):
        directory.mkdir()
        os.chown(directory, UID, GID)
        for name in DELEGATED:
            if (directory / name).exists():
                os.chown(directory / name, UID, GID)
    return session


def is_kept(directory: Path) -> bool:
    """Say whether a directory is for its owner alone, and has the sticky bit."""
    status = directory.stat()
    return stat.S_IMODE(status.st_mode) == 0o1700 and status.st_uid == UID
