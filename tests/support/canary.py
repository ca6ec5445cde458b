# SPDX-License-Identifier: Apache-2.0
"""A tree outside every rootfs that no container and no runtime may change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SECRET = "canary: this line must not leave the host\n"


class Canary:
    """Files and directories of known state; `assert_untouched` compares everything but atimes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        (path / "dir").mkdir(mode=0o755)
        (path / "dir/inner").write_text(SECRET)
        (path / "empty").mkdir(mode=0o755)
        (path / "empty").chmod(0o777)
        self.file = path / "file"
        self.file.write_text(SECRET)
        self.file.chmod(0o666)
        os.chown(self.file, 4321, 4322)
        os.setxattr(self.file, "user.canary", b"yes")
        self.name = path.name
        self._before = self._scan()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _scan(self) -> dict[str, tuple[object, ...]]:
        found = {}
        for top, dirs, files in os.walk(self.path):
            for name in [".", *dirs, *files]:
                path = os.path.join(top, name)
                st = os.lstat(path)
                content: bytes = b""
                xattrs: tuple[tuple[str, bytes], ...] = ()
                if stat.S_ISREG(st.st_mode):
                    content = Path(path).read_bytes()
                    xattrs = tuple((key, os.getxattr(path, key)) for key in sorted(os.listxattr(path)))
                found[os.path.relpath(path, self.path)] = (
                    st.st_mode, st.st_uid, st.st_gid, st.st_ino, st.st_dev, st.st_nlink,
                    st.st_mtime_ns, st.st_ctime_ns, st.st_rdev, content, xattrs,
                )  # fmt: skip
        return found

    def assert_untouched(self) -> None:
        """Fail when anything in the tree changed, vanished or was added."""
        now = self._scan()
        assert now == self._before, {
            name: (self._before.get(name), now.get(name))
            for name in self._before.keys() | now.keys()
            if self._before.get(name) != now.get(name)
        }
