# SPDX-License-Identifier: Apache-2.0
"""What scenarios of podman do again and again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.engine import Engine, eventually

# The kernel of tests/vm has none, and without it podman makes no network.
HAS_NETFILTER = subprocess.run(["iptables", "--list", "--numeric"], capture_output=True, check=False).returncode == 0
needs_netfilter = pytest.mark.skipif(not HAS_NETFILTER, reason="machine: the kernel has no netfilter")
WAIT = "echo ready; sleep 1000 & wait $!"  # unlike a plain `sleep`, a shell as process 1 can have traps


def background(podman: Engine, *words: str | Path, name: str = "one", image: str = "busybox") -> str:
    """Start a container that sleeps; *words* are options of `podman run`.  Returns its id."""
    return podman("run", "--detach", "--name", name, *words, image, "sleep", "1000").ok().text


def trapping(podman: Engine, trap: str, *words: str | Path, name: str = "one") -> str:
    """Start a container whose shell has *trap*, and wait until it has.  Returns its id."""
    script = f"{trap}\n{WAIT}"
    container = podman("run", "--detach", "--name", name, *words, "busybox", "sh", "-c", script).ok().text
    in_log(podman, "ready", name)
    return container


def in_log(podman: Engine, words: str, name: str = "one") -> None:
    """Wait until *words* are in the log of a container."""
    eventually(lambda: words in podman("logs", name).out, f"{words!r} never came")


def inspect(podman: Engine, name: str = "one") -> dict[str, Any]:
    """Return what podman knows of a container."""
    found: dict[str, Any] = podman("inspect", name).ok().json[0]
    return found


def state(podman: Engine, name: str = "one") -> dict[str, Any]:
    """Return the state that podman sees a container in."""
    found: dict[str, Any] = json.loads(podman("inspect", "--format", "{{json .State}}", name).ok().out)
    return found


def inside(podman: Engine, *words: str, name: str = "one") -> str:
    """Run a command in a container by `exec`; returns what it prints."""
    return podman("exec", name, *words).ok().text


def limit(podman: Engine, version1: str, version2: str, name: str = "one") -> str:
    """Return what a cgroup's file says inside: by the names of version 1 (with its controller) and of version 2."""
    return inside(podman, "sh", "-c", f"cat /sys/fs/cgroup/{version1} 2>/dev/null || cat /sys/fs/cgroup/{version2}", name=name)


def processes(podman: Engine, name: str = "one") -> list[str]:
    """Return the command lines of a container's processes."""
    return [line.strip() for line in podman("top", name, "args").ok().lines[1:]]


def fields(text: str) -> dict[str, str]:
    """Return lines `Name: value`, as in /proc/self/status."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
