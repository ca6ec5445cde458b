# SPDX-License-Identifier: Apache-2.0
"""A container's cgroups, looked at from the host, in any layout."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import TIMEOUT

ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()


def mount_point(controller: str) -> Path:
    """Return where a controller's hierarchy is mounted: version 1 if it has it, else version 2."""
    unified = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup" and controller in options.split(","):
            return Path(left.split(" ")[4])
        if kind == "cgroup2":
            unified = Path(left.split(" ")[4])
    assert unified is not None
    return unified


def directory(pid: int, controller: str) -> Path:
    """Return the cgroup directory of a process: of a v1 controller, or of the unified tree."""
    unified = None
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return mount_point(controller) / path.lstrip("/")
        if controllers == "":
            unified = mount_point("") / path.lstrip("/")
    assert unified is not None, f"process {pid} is in no cgroup of {controller}"
    return unified


def mounted(text: str) -> dict[str, str]:
    """Return controllers -> path of the lines of /proc/PID/cgroup whose hierarchy is mounted here.

    One that nobody mounts any more stays in that file for as long as the kernel keeps it, and others mount theirs where
    only they see it.
    """
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or (not PURE and mount_point(controllers.split(",")[0]) != mount_point("")):
            found[controllers] = path
    return found


def words(pid: int, controller: str, v1: str, v2: str) -> list[str]:
    """Return the words of a limit's file; *v1* and *v2* are its names in the two versions."""
    found = directory(pid, controller)
    name = v2 if (found / "cgroup.controllers").exists() else v1
    return (found / name).read_text().split()


def flat(path: Path) -> dict[str, str]:
    """Read a file of "key value" lines."""
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def until(condition: Callable[[], bool], what: str, deadline_s: float = TIMEOUT) -> None:
    """Wait for what the kernel gives no event for."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def legacy_hierarchy(controller: str) -> Iterator[None]:
    """Mount a version 1 hierarchy that this machine has not mounted, for this mount namespace alone."""
    place = Path(tempfile.mkdtemp()) / controller
    place.mkdir()
    command = ["mount", "-t", "cgroup", "-o", controller, "cgroup", str(place)]
    in_use = ROOT / "unified/cgroup.subtree_control"

    def mount() -> bool:
        # A controller is in one tree at a time, and leaves the other when the last cgroup there has let go of it.
        if in_use.exists() and controller in in_use.read_text().split():
            try:
                in_use.write_text(f"-{controller}")
            except OSError:
                return False  # another test's cgroup has it just now
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0

    end = time.monotonic() + 10
    while not mount():
        if time.monotonic() > end:
            # A removed cgroup that something still refers to keeps it for good; the kernel cannot say what that is.
            place.rmdir()
            place.parent.rmdir()
            pytest.skip(f"machine: another tree holds the controller {controller}")
        time.sleep(0.02)
    try:
        yield
        assert not [each for each in place.iterdir() if each.is_dir()], "something is left"
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()
        place.parent.rmdir()
        # The hierarchy itself ends when the kernel has let go of its last cgroup, which may take long: the next mount
        # waits for it, or is skipped.


@contextmanager
def disk(mebibytes: int = 16) -> Iterator[tuple[str, int, int]]:
    """Make a block device that nobody else uses; gives (path, major, minor)."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as image:
        image.truncate(mebibytes << 20)
        done = subprocess.run(["losetup", "--find", "--show", image.name], check=True, capture_output=True, text=True)
        path = done.stdout.strip()
        scheduler = Path(f"/sys/block/{Path(path).name}/queue/scheduler")
        try:
            rdev = Path(path).stat().st_rdev
            scheduler.write_text("none")
            yield path, os.major(rdev), os.minor(rdev)
        finally:
            scheduler.write_text("none")
            subprocess.run(["losetup", "--detach", path], check=True)
