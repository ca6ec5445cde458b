# SPDX-License-Identifier: Apache-2.0
"""The machine that the suite runs on: a mount namespace for each worker, cgroups, what the kernel has."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWTIME, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x80, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
NAMESPACES = {
    "mount": ("mnt", CLONE_NEWNS),
    "pid": ("pid", CLONE_NEWPID),
    "network": ("net", CLONE_NEWNET),
    "ipc": ("ipc", CLONE_NEWIPC),
    "uts": ("uts", CLONE_NEWUTS),
    "user": ("user", CLONE_NEWUSER),
    "cgroup": ("cgroup", CLONE_NEWCGROUP),
    "time": ("time", CLONE_NEWTIME),
}
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
PER_LINUX32, ASK_PERSONALITY = 8, 0xFFFFFFFF
CGROUP = Path("/sys/fs/cgroup")
#: cgroup v2 alone; else v1, perhaps with an unused v2 tree beside it
PURE = (CGROUP / "cgroup.controllers").exists()
X86_64 = platform.machine() == "x86_64"


def check(result: int, what: str) -> None:
    """Raise OSError when a call of libc failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source: str, target: str | Path, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)"""
    words = [text.encode() if text is not None else None for text in (source, str(target), kind)]
    check(libc.mount(*words, flags, data.encode() if data else None), f"mount {target}")


def umount(target: str | Path) -> None:
    """umount2(2), detached"""
    check(libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


def be_a_host(hide_unified: bool = False) -> None:
    """Give this process mounts of its own, shared as systemd has them, and the orphans of what it starts.

    What one runtime mounts is then never seen by another, and the end of a container's process can be waited for.
    """
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    if os.geteuid() != 0:
        return
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if hide_unified and not PURE and os.path.ismount(CGROUP / "unified"):
        umount(CGROUP / "unified")
    mount("none", "/", None, MS_REC | MS_SHARED)


def unescape(text: str) -> str:
    """Undo the escapes of mountinfo."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


class Mount:
    """One line of mountinfo."""

    def __init__(self, line: str) -> None:
        left, right = line.split(" - ", 1)
        fields = left.split(" ")
        self.root = unescape(fields[3])
        self.target = unescape(fields[4])
        self.options = set(fields[5].split(","))
        self.optional = {field.split(":")[0] for field in fields[6:]}
        self.type, source, data = right.split(" ", 2)
        self.source = unescape(source)
        self.data = set(data.split(","))
        self.line = line

    @property
    def propagation(self) -> str:
        """Return private, shared, slave, slave+shared or unbindable."""
        if "unbindable" in self.optional:
            return "unbindable"
        words = [word for word, key in (("slave", "master"), ("shared", "shared")) if key in self.optional]
        return "+".join(words) or "private"


def mounts(text: str) -> list[Mount]:
    """Parse a mountinfo file."""
    return [Mount(line) for line in text.splitlines() if line]


def has_32_bit_personality() -> bool:
    """Say whether the kernel shows PER_LINUX32 another machine.  User-mode Linux does not."""
    before, real = libc.personality(ASK_PERSONALITY), os.uname().machine
    libc.personality(PER_LINUX32)
    try:
        return os.uname().machine != real
    finally:
        libc.personality(before)


def own_mounts() -> list[str]:
    """Return where something is mounted, as this process sees it."""
    return [mount.target for mount in mounts(Path("/proc/self/mountinfo").read_text())]


# -- cgroups ---------------------------------------------------------------------------------------------------------


def hierarchies() -> dict[str, Path]:
    """Return controller -> mount point; "" is version 2.  Co-mounted controllers have an entry each."""
    found: dict[str, Path] = {}
    for entry in mounts(Path("/proc/self/mountinfo").read_text()):
        if entry.type == "cgroup2":
            found[""] = Path(entry.target)
        elif entry.type == "cgroup":
            for word in entry.data:
                found.setdefault(word, Path(entry.target))
    return found


def cgroups_named(word: str) -> list[Path]:
    """Return every cgroup directory below which, or in whose name, is this word."""
    found = []
    for root in set(hierarchies().values()):
        for place, names, _ in os.walk(root):
            found += [Path(place) / name for name in names if word in name or word in place]
    return found


def cgroup_of(pid: int, controller: str) -> Path:
    """Return the directory of the cgroup that a process is in, for one controller of version 1, or in version 2."""
    roots = hierarchies()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if PURE and not controllers:
            return roots[""] / path.lstrip("/")
        if controller in controllers.split(",") and controller in roots:
            return roots[controller] / path.lstrip("/")
    raise LookupError(controller)


def has_controller(name: str) -> bool:
    """Say whether there is such a controller to set limits with."""
    if PURE:
        return name in (CGROUP / "cgroup.controllers").read_text().split()
    return name in hierarchies()


# -- what is left behind -----------------------------------------------------------------------------------------------


def children() -> Iterator[int]:
    """Yield the processes that this one is the parent of, zombies left out."""
    for task in os.listdir("/proc/self/task"):
        try:
            words = Path(f"/proc/self/task/{task}/children").read_text().split()
        except FileNotFoundError:
            continue  # a thread that has just ended
        for word in words:
            try:
                state = Path(f"/proc/{word}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                yield int(word)


def reap(but: int = 0) -> None:
    """Wait for every child that has ended; at the latest when it comes to the process `but` it stops."""
    try:
        while info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if info.si_pid == but:
                return
            os.waitid(os.P_PID, info.si_pid, os.WEXITED)
    except ChildProcessError:
        pass


def elf_machine(path: Path) -> int:
    """Return e_machine of a program."""
    return int(struct.unpack_from("<H", path.read_bytes()[:20], 18)[0])
