# SPDX-License-Identifier: Apache-2.0
"""Building the C tools that tests use beside the probe."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / ".cache" / "tests"
FLAGS = ("-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror")

# What Compat can take away from a runtime; each set was missing, or forbidden, in some kernel or
# container profile that people use.
MASKS: dict[str, tuple[str, ...]] = {
    "openat2": ("openat2",),
    "fsopen": ("fsopen", "fsconfig", "fsmount"),
    "open_tree": ("open_tree", "move_mount"),
    "mount_setattr": ("mount_setattr",),
    "close_range": ("close_range",),
    "pidfd": ("pidfd_open", "pidfd_send_signal"),
    "clone3": ("clone3",),
    "memfd_create": ("memfd_create",),
    "execveat": ("execveat",),
    "statx": ("statx",),
    "fchmodat2": ("fchmodat2",),
}
MASKS["all"] = tuple(dict.fromkeys(name for names in MASKS.values() for name in names))


def tool(name: str) -> Path:
    """Build tests/support/NAME.c where needed and return the program."""
    source = HERE / f"{name}.c"
    target = BUILD / name
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    BUILD.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=BUILD, prefix=f".{name}-")
    os.close(handle)
    subprocess.run([os.environ.get("CC", "cc"), *FLAGS, "-o", temporary, str(source)], check=True)
    os.chmod(temporary, 0o755)
    os.rename(temporary, target)
    return target


def compat(mask: str, errno_name: str = "ENOSYS") -> tuple[str, ...]:
    """Return the words that start a command with the system calls of a mask failing."""
    return without(errno_name, *MASKS[mask])


def without(errno_name: str, *calls: str) -> tuple[str, ...]:
    """Return the words that start a command with these system calls failing."""
    return (str(tool("compat")), errno_name, ",".join(calls), "--")


class FaultK:
    """faultk (see faultk.c): kill, fail or signal at the K-th system call of the runtime's processes."""

    def __init__(self, log: Path, *payloads: Path, only: str = "changing", by: str = "both") -> None:
        self.log = log
        self._words = [str(tool("faultk")), "--only", only, "--by", by, "--log", str(log)]
        for path in payloads:
            self._words += ["--payload", str(path)]

    def count(self) -> tuple[str, ...]:
        """Return the words that only count."""
        return (*self._words, "--")

    def kill(self, number: int, victim: str) -> tuple[str, ...]:
        """Return the words that kill "parent", "init" or "both" at a call."""
        return (*self._words, "--kill-at", str(number), "--victim", victim, "--")

    def fail(self, number: int, error: int) -> tuple[str, ...]:
        """Return the words that make a call answer an errno."""
        return (*self._words, "--errno-at", str(number), "--errno", str(error), "--")

    def signal(self, number: int, signal: int) -> tuple[str, ...]:
        """Return the words that let a signal come just before a call."""
        return (*self._words, "--signal-at", str(number), "--signal", str(int(signal)), "--")

    def pids(self) -> list[int]:
        """Return who made each counted call of the last run so far."""
        return [int(line.split()[2]) for line in self.log.read_text().splitlines() if line[0].isdigit()]

    def calls(self) -> list[str]:
        """Return "ROLE NAME" of each counted call of the last run."""
        lines = self.log.read_text().splitlines()
        return [f"{line.split()[1]} {line.split()[3]}" for line in lines if line[0].isdigit()]
