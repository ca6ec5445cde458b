# SPDX-License-Identifier: Apache-2.0
"""What a process' cgroup limits it to, in version 1 and in version 2 alike."""

from __future__ import annotations

from pathlib import Path

TOP = Path("/sys/fs/cgroup")
UNIFIED = (TOP / "cgroup.controllers").exists()


class Limits:
    """The limits of one cgroup; None where there is none."""

    def __init__(self, directories: dict[str, Path]) -> None:
        self._directories = directories

    def _read(self, controller: str, one: str, two: str) -> str:
        return (self._directories["" if UNIFIED else controller] / (two if UNIFIED else one)).read_text().strip()

    @property
    def memory(self) -> int | None:
        """Bytes."""
        text = self._read("memory", "memory.limit_in_bytes", "memory.max")
        return None if text == "max" or int(text) >= 1 << 62 else int(text)

    @property
    def cpu(self) -> tuple[int, int]:
        """Quota and period in microseconds; a quota below 0 is none."""
        if UNIFIED:
            quota, period = self._read("", "", "cpu.max").split()
            return (-1 if quota == "max" else int(quota), int(period))
        return int(self._read("cpu", "cpu.cfs_quota_us", "")), int(self._read("cpu", "cpu.cfs_period_us", ""))

    @property
    def shares(self) -> int:
        """Version 1's shares, or what version 2's weight is made from, as near as it tells."""
        number = int(self._read("cpu", "cpu.shares", "cpu.weight"))
        return round((number - 1) * 262142 / 9999 + 2) if UNIFIED else number

    @property
    def pids(self) -> int | None:
        """How many processes."""
        text = self._read("pids", "pids.max", "pids.max")
        return None if text == "max" else int(text)

    @property
    def cpus(self) -> str:
        """Which processors."""
        return self._read("cpuset", "cpuset.cpus", "cpuset.cpus")


def of(pid: int) -> Limits:
    """Return the limits of the cgroup that a process is in."""
    directories = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            place = TOP / (controllers if controllers and not UNIFIED else "")
            directories[controller] = Path(f"{place}{path}") if controllers or UNIFIED else TOP
    return Limits(directories)


def paths(pid: int) -> set[str]:
    """Return the paths of a process in the hierarchies that are mounted and have controllers."""
    return listed(Path(f"/proc/{pid}/cgroup").read_text())


def listed(text: str) -> set[str]:
    """Return the same from what /proc/PID/cgroup says."""
    found = set()
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if UNIFIED or (controllers and (TOP / controllers.removeprefix("name=")).is_dir()):
            found.add(path)
    return found


def exists(name: str) -> bool:
    """Whether any hierarchy has a cgroup of this name."""
    return any(True for place in _all() if (place / name).is_dir())


def remove(name: str) -> None:
    """Remove an empty cgroup from every hierarchy."""
    for place in _all():
        if (place / name).is_dir():
            (place / name).rmdir()


def _all() -> list[Path]:
    return [TOP] if UNIFIED else [place for place in TOP.iterdir() if place.is_dir() and not place.is_symlink()]
