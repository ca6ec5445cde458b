# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: where the container's cgroup is, and whose it is."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context, unique
from conformance.harness.runtime import Container


def place(c: Context, container: Container) -> Path:
    """Return the container's cgroup."""
    c.need_controller("pids")
    return machine.cgroup_of(container.pid, "pids")


def top() -> Path:
    """Return where the hierarchy is mounted."""
    return machine.CGROUP if machine.PURE else machine.hierarchies()["pids"]


@case("cgroups-path-absolute", each={"one": "/{}", "deep": "/{}/a/b"})
def cgroups_path_absolute(c: Context, shape: str) -> None:
    """An absolute path is below the mount point."""
    name = unique("cg")
    c.linux(cgroupsPath=shape.format(name))
    c.equal("cgroup", str(place(c, c.create())), str(top()) + shape.format(name))


@case("cgroups-path-absolute")
def cgroups_path_in_every_hierarchy(c: Context) -> None:
    """It is the same path for every controller."""
    c.need(not machine.PURE, "there is one hierarchy only")
    name = unique("cg")
    container = c.linux(cgroupsPath=f"/{name}").create()
    wrong = {}
    for controller in ("cpu", "cpuset", "memory", "pids", "devices", "blkio", "freezer"):
        if machine.has_controller(controller):
            seen = machine.cgroup_of(container.pid, controller)
            if seen != machine.hierarchies()[controller] / name:
                wrong[controller] = str(seen)
    c.equal("controllers with another path", wrong, {})


@case("cgroups-path-relative", "cgroups-path-consistent")
def cgroups_path_relative(c: Context) -> None:
    """A relative path is always the same place."""
    name = unique("cg")
    seen = []
    for _ in range(2):
        container = c.linux(cgroupsPath=name).running()
        seen.append(str(place(c, container)))
        container.kill("KILL")
        container.wait()
        container.wait_status("stopped")
        c.ok("delete", container.delete())
        c.id = unique()
    c.true("the name is in the path", name in seen[0], seen[0])
    c.equal("the second time", seen[1], seen[0])


@case("cgroups-path-consistent")
def cgroups_path_same_for_two(c: Context) -> None:
    """Two containers one after the other with the same absolute path are in the same cgroup."""
    name = unique("cg")
    seen = []
    for _ in range(2):
        container = c.linux(cgroupsPath=f"/{name}").create()
        seen.append(str(place(c, container)))
        container.kill("KILL")
        container.wait()
        container.wait_status("stopped")
        c.ok("delete", container.delete())
        c.id = unique()
    c.equal("the second time", seen[1], seen[0])


@case("cgroups-path-made", "lifecycle-undo")
def cgroups_path_made_and_removed(c: Context) -> None:
    """The cgroup is made by create, and gone after delete."""
    name = unique("cg")
    c.linux(cgroupsPath=f"/{name}")
    c.equal("it is there before", (top() / name).exists(), False)
    container = c.probe(["exit", "0"]).create()
    c.equal("it is there when created", place(c, container), top() / name)
    container.start().finish()
    c.equal("it is there after delete", (top() / name).exists(), False)


@case("cgroups-path-absolute", "lifecycle-environment")
def cgroup_has_all_processes(c: Context) -> None:
    """What the program forks is in the cgroup."""
    container = c.running(["fork", "3"])
    pids = (place(c, container) / "cgroup.procs").read_text().split()
    c.equal("number of processes", len(pids), 4)
    c.true("the program is one of them", str(container.pid) in pids, pids)


# -- whose it is -------------------------------------------------------------------------------------------------------

MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}


def owner(path: Path) -> int:
    """Return the uid of a file's owner."""
    return path.stat().st_uid


def owned(c: Context, *, cgroup_namespace: bool = True, read_only: bool = False, mounted: bool = True) -> Container:
    """Create a container in a user namespace that might own its cgroup."""
    c.userns()
    if cgroup_namespace:
        c.namespace("cgroup")
    if mounted:
        c.config["mounts"].append(MOUNT | {"options": [*MOUNT["options"], *(["ro"] if read_only else [])]})
    return c.create()


@case("cgroup-owner-v1")
def cgroup_owner_of_version_1(c: Context) -> None:
    """A cgroup of version 1 stays the host's."""
    c.need(not machine.PURE, "cgroup version 2")
    c.equal("owner", owner(place(c, owned(c))), os.geteuid())


@case("cgroup-owner-when")
def cgroup_owner_changed(c: Context) -> None:
    """With /sys/fs/cgroup to be written, the cgroup is that of the container's user."""
    c.need(machine.PURE, "cgroup version 1")
    path = place(c, owned(c))
    c.equal("owner", owner(path), 100000)
    c.equal("owner of cgroup.procs", owner(path / "cgroup.procs"), 100000)


@case("cgroup-owner-files")
def cgroup_owner_of_limits(c: Context) -> None:
    """The files of limits stay the host's."""
    c.need(machine.PURE, "cgroup version 1")
    listed = Path("/sys/kernel/cgroup/delegate").read_text().split()
    path = place(c, owned(c))
    wrong = {
        entry.name: owner(entry)
        for entry in path.iterdir()
        if entry.is_file() and owner(entry) != (100000 if entry.name in listed else 0)
    }
    c.equal("files with the wrong owner", wrong, {})


@case("cgroup-owner-when", each={"read-only": {"read_only": True}, "not-mounted": {"mounted": False}})
def cgroup_owner_not_changed(c: Context, options: dict[str, bool]) -> None:
    """Without /sys/fs/cgroup to be written the cgroup stays the host's."""
    c.need(machine.PURE, "cgroup version 1")
    c.equal("owner", owner(place(c, owned(c, **options))), 0)


@case("cgroup-owner-namespace")
def cgroup_owner_without_namespace(c: Context) -> None:
    """Without a cgroup namespace of its own the cgroup stays the host's."""
    c.need(machine.PURE, "cgroup version 1")
    c.equal("owner", owner(place(c, owned(c, cgroup_namespace=False))), 0)
