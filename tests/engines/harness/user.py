# SPDX-License-Identifier: Apache-2.0
"""An ordinary user with subordinate ids, whom only the sandbox has; or, under systemd, the machine's, who lingers."""

from __future__ import annotations

import os
from pathlib import Path

NAME, UID = "user", 1000
SUBIDS = 100000  # the first of 65,536
RUNTIME_DIR = Path(f"/run/user/{UID}")


class User:
    """Adds the user; `argv` before a command and `env` make it his."""

    def __init__(self, home: Path) -> None:
        """*home* comes to exist, and a directory of his below /run, which systemd makes where it has his session."""
        self.home = home
        self.argv = ("setpriv", "--reuid", NAME, "--regid", NAME, "--init-groups")
        self.env = {"HOME": str(home), "USER": NAME, "LOGNAME": NAME, "XDG_RUNTIME_DIR": str(RUNTIME_DIR)}
        self.make_directory(home)
        if RUNTIME_DIR.exists():
            self.env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={RUNTIME_DIR}/bus"
            return
        self.make_directory(RUNTIME_DIR)
        for name, line in (
            ("passwd", f"{NAME}:x:{UID}:{UID}::{home}:/bin/sh"),
            ("group", f"{NAME}:x:{UID}:"),
            ("subuid", f"{NAME}:{SUBIDS}:65536"),
            ("subgid", f"{NAME}:{SUBIDS}:65536"),
        ):
            path = Path("/etc", name)
            others = path.read_text().splitlines() if path.exists() else []
            others = [each for each in others if each.split(":")[0] != NAME and each.split(":")[2:3] != [str(UID)]]
            path.write_text("\n".join([*others, line, ""]))

    @staticmethod
    def make_directory(path: Path) -> Path:
        """Make a directory of the user."""
        path.mkdir(mode=0o700)
        os.chown(path, UID, UID)
        return path
