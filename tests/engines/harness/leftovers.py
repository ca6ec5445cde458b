# SPDX-License-Identifier: Apache-2.0
"""What is there: processes, mounts, cgroups, network namespaces and interfaces, and the runtimes' states.

The sandbox has nothing of anybody else, so that all of it is looked at, not only what looks like ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from harness.engine import TIMEOUT

STATE_ROOTS = (
    *(f"{top}/{runtime}" for top in ("/run", "/run/user/1000") for runtime in ("ocirun", "runc", "crun")),
    "/run/containerd/runc",
    "/run/docker/runtime-runc",
)
NETWORK_NAMESPACES = ("/run/netns", "/run/user/1000/netns")
DOCKER_NAMESPACES = "/run/docker/netns"  # the daemon sweeps up the file once a minute; the namespace is what is mounted on it
ENGINES_OWN = ("docker", "buildkit")  # cgroups that an engine keeps its containers in: made with the first, they may stay
CACHE = "/@seccomp"  # of compiled filters, which outlive the container that first had one


def look(*ignored: str) -> dict[str, set[str]]:
    """Return what is there by kind.  *ignored*: words that a line is left out for."""
    return {
        kind: {line for line in lines if not any(word in line for word in ignored)}
        for kind, lines in (
            ("process", _processes()),
            ("mount", _mounts()),
            ("cgroup", _cgroups()),
            ("network namespace", _namespaces()),
            ("interface", os.listdir("/sys/class/net")),
            ("state", (path for path in _below(STATE_ROOTS, 3) if CACHE not in path)),
        )
    }


def assert_none_since(before: dict[str, set[str]], *ignored: str, timeout: float = TIMEOUT) -> None:
    """Wait until nothing is there that was not *before*; raises AssertionError with what stays."""
    end = time.monotonic() + timeout
    while True:
        now = look(*ignored)
        left = {kind: sorted(now[kind] - before[kind]) for kind in now if now[kind] - before[kind]}
        if not left:
            return
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.1)


def _processes() -> Iterable[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            name = (entry / "comm").read_text().strip()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # has just ended
        if words:  # the kernel's threads, and zombies, have none
            yield f"{name}: {words}"
        elif state == "Z":
            yield f"zombie {name}"


def _mounts() -> Iterable[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield line.split()[4]


def _cgroups() -> Iterable[str]:
    for top, _, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(top) not in ENGINES_OWN:
            yield top


def _namespaces() -> Iterable[str]:
    yield from _below(NETWORK_NAMESPACES, 1)
    yield from filter(os.path.ismount, _below((DOCKER_NAMESPACES,), 1))


def _below(roots: Iterable[str], depth: int) -> Iterable[str]:
    for root in roots:
        # Unlike a glob it passes over what vanishes meanwhile.
        for top, directories, files in os.walk(root):
            yield from (f"{top}/{name}" for name in (*directories, *files))
            if top.count("/") - root.count("/") == depth - 1:
                directories.clear()
