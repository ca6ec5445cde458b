# SPDX-License-Identifier: Apache-2.0
"""What must be the same on the host before and after a container's life.

The test process is a child subreaper (tests/conftest.py), so whatever the runtime leaves running is
among its descendants; cgroups and keys are recognised by the tag in the container's ID.  That keeps
the comparison exact while other programs use containers on the same machine.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.bundle import TAG
from support.command import reap
from support.report import Mount

CGROUP_ROOT = Path("/sys/fs/cgroup")


def descendants() -> dict[int, str]:
    """Return the live (not zombie) descendants of this process with their command names."""
    children: dict[int, list[int]] = {}
    alive: dict[int, str] = {}
    for number in os.listdir("/proc"):
        if not number.isdigit():
            continue
        try:
            with open(f"/proc/{number}/stat", errors="surrogateescape") as file:
                left, _, right = file.read().rpartition(")")
        except OSError:
            continue
        state, parent = right.split(maxsplit=2)[:2]
        children.setdefault(int(parent), []).append(int(number))
        if state not in "ZX":
            alive[int(number)] = left.partition("(")[2]
    found: dict[int, str] = {}
    queue = [os.getpid()]
    while queue:
        for pid in children.get(queue.pop(), ()):
            queue.append(pid)
            if pid in alive:
                found[pid] = alive[pid]
    return found


def cgroups(tag: str = TAG) -> set[str]:
    """Return the cgroup directories that carry the tag."""
    return {top for top, _, _ in os.walk(CGROUP_ROOT) if tag in top}


def keys(tag: str = TAG) -> set[str]:
    """Return the keyrings named after containers of this test process."""
    try:
        lines = Path("/proc/keys").read_text().splitlines()
    except OSError:
        return set()
    return {line.split("keyring")[-1].strip() for line in lines if tag in line}


def own_process() -> dict[str, object]:
    """Return the attributes of this process that a library must leave alone."""
    mask = os.umask(0)
    os.umask(mask)
    status = Path("/proc/self/status").read_text()
    # Not SigQ, which counts what is queued for all processes of the user.
    kept = ("SigPnd", "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "Cap", "NoNewPrivs", "Seccomp", "Groups", "Uid", "Gid", "Name")
    return {
        "fds": {
            int(name): os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{name}")
        },
        "cwd": os.getcwd(),
        "umask": mask,
        "environ": dict(os.environ),
        "status": [line for line in status.splitlines() if line.startswith(kept)],
        "signals": {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()},
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),
    }


def memfds(pids: Iterable[int]) -> set[str]:
    """Return the memfds held by these processes and this one."""
    found = set()
    for pid in (os.getpid(), *pids):
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                link = os.readlink(f"/proc/{pid}/fd/{name}")
                if link.startswith("/memfd:"):
                    found.add(f"{pid} {link}")
        except OSError:
            continue
    return found


def device_nodes() -> list[tuple[str, int, int, int]]:
    """Return mode and owner of the host's device nodes."""
    return [
        (entry.name, st.st_mode, st.st_uid, st.st_gid)
        for entry in os.scandir("/dev")
        if (st := entry.stat(follow_symlinks=False))
    ]


class HostSnapshot:
    """The state of the host as one container run could change it."""

    def __init__(self, state_root: Path) -> None:
        self.state_root = state_root
        self.before = self._take()

    def _take(self) -> dict[str, Any]:
        roots = self.state_root
        processes = descendants()
        # a peer's own lock files and directories at the top level are not containers
        listing = {name for name in os.listdir(roots) if TAG in name} if roots.is_dir() else set()
        return {
            "mountinfo": Path("/proc/self/mountinfo").read_text().splitlines(),
            "processes": processes,
            "cgroups": cgroups(),
            "state root": listing,
            "memfds": memfds(processes),
            "devices": device_nodes(),
        }

    def differences(self) -> dict[str, object]:
        """Return what is there now and was not before, or the reverse."""
        found: dict[str, object] = {}
        for name, after in self._take().items():
            before: Any = self.before[name]
            if name == "mountinfo":
                # A mount goes as well when whoever owns the directory removes that, in his own mount namespace.
                before = [line for line in before if line in after or os.path.lexists(Mount(line).target)]
            if before != after:
                found[f"{name}: gone"] = [item for item in before if item not in after]
                found[f"{name}: new"] = [item for item in after if item not in before]
        return found

    def assert_clean(self, within_s: float = 60.0) -> None:
        """Fail unless the host is as it was; processes that are just exiting get `within_s`."""
        deadline = time.monotonic() + within_s
        while differences := self.differences():
            if time.monotonic() > deadline:
                raise AssertionError(f"the host is not as before: {differences}")
            time.sleep(0.01)


def remove_leftovers() -> None:
    """Remove what a failed test left, so that one failure stays one failure."""
    paths = sorted(cgroups(), key=len, reverse=True)
    for path in paths:
        for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            try:
                with open(f"{path}/{name}", "r+") as file:
                    file.write(thawed)
            except OSError:
                continue  # no freezer, or gone
    end = time.monotonic() + 10
    # Until they are gone: whoever takes a snapshot while one is on its way out misses it afterwards.
    while (left := descendants()) and time.monotonic() < end:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()  # a pid namespace does not end before all that was executed in it is reaped
        time.sleep(0.01)
    reap()  # who ended last: the next test may count its children
    for path in paths:
        for _ in range(100):
            try:
                os.rmdir(path)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
