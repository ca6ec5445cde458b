# SPDX-License-Identifier: Apache-2.0
"""Running a command as root of a user namespace: with all ids, and without power over the host.

    python nested.py COMMAND ARGS…
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def nested() -> tuple[str, ...]:
    """Return the words that start a command so."""
    return (sys.executable, str(Path(__file__).resolve()))


def enter() -> None:
    """Unshare, while a child that stays outside writes the maps: all ids, each as itself."""
    go, ready = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text("0 0 4294967294\n")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(ready, b"x")
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("nested: cannot write the maps")
    os.close(go)
    os.close(ready)


if __name__ == "__main__":
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])
