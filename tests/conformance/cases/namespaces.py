# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: namespaces, ID mappings, time offsets."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context
from conformance.harness.runtime import parse_lines

UNSHARE = {
    "mount": "--mount", "pid": "--pid", "network": "--net", "ipc": "--ipc", "uts": "--uts", "user": "--user",
    "cgroup": "--cgroup", "time": "--time",
}  # fmt: skip
KINDS = tuple(machine.NAMESPACES)


class Holder:
    """A process of ours in namespaces of its own."""

    def __init__(self, c: Context, *options: str) -> None:
        c.need(shutil.which("unshare"), "no unshare(1)")
        words = ["unshare", *options]
        if "--pid" in options or "--time" in options:
            words += ["--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*words, str(c.probe_path), "seq", "ready", "--", "sleep"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        c.need(parse_lines(line), f"unshare {' '.join(options)} does not work here")
        if "--user" in options:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{self._process.pid}/{name}").write_text("0 0 65536")
        inner = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.pid = int(inner[0]) if inner else self._process.pid

    def ns(self, name: str) -> str:
        """Return the path of one of its namespaces."""
        return f"/proc/{self.pid}/ns/{name}"

    def __enter__(self) -> Holder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def inode(pid: int | str, kind: str) -> int:
    """Return the number of a process's namespace."""
    return os.stat(f"/proc/{pid}/ns/{machine.NAMESPACES[kind][0]}").st_ino


def prepare(c: Context, kind: str) -> None:
    """Leave out what the case cannot do here."""
    c.need(os.path.exists(f"/proc/self/ns/{machine.NAMESPACES[kind][0]}"), f"the kernel has no {kind} namespaces")


def new_namespace(c: Context, kind: str) -> None:
    """Without a path the process is in a namespace that nobody else is in."""
    prepare(c, kind)
    if kind == "user":
        c.userns()
    else:
        c.namespace(kind)
    container = c.running()
    c.true(f"the {kind} namespace is new", inode(container.pid, kind) != inode("self", kind))


@case("namespace-new", "namespace-types", each={kind: kind for kind in KINDS if kind != "time"})
def namespace_new(c: Context, kind: str) -> None:
    """A namespace without a path is new."""
    new_namespace(c, kind)


@case("namespace-new", "namespace-time")
def namespace_new_time(c: Context) -> None:
    """A time namespace without a path is new."""
    new_namespace(c, "time")


def join(c: Context, kind: str) -> None:
    """With a path the process is in that namespace."""
    prepare(c, kind)
    with Holder(c, UNSHARE[kind]) as holder:
        wanted = inode(holder.pid, kind)
        c.namespace(kind, holder.ns(machine.NAMESPACES[kind][0]))
        if kind == "uts":
            c.set({"hostname": None})
        container = c.running()
        c.equal(f"the {kind} namespace", inode(container.pid, kind), wanted)


@case("namespace-join", each={kind: kind for kind in KINDS if kind != "time"})
def namespace_join(c: Context, kind: str) -> None:
    """A namespace with a path is joined."""
    join(c, kind)


@case("namespace-join", "namespace-time")
def namespace_join_time(c: Context) -> None:
    """A time namespace with a path is joined."""
    join(c, "time")


@case("namespace-inherit", each={kind: kind for kind in KINDS if kind not in ("mount", "user", "time")})
def namespace_inherited(c: Context, kind: str) -> None:
    """A type that is not listed is that of the runtime."""
    prepare(c, kind)
    c.without_namespace(kind)
    if kind == "uts":
        c.set({"hostname": None})
    if kind == "network":
        c.config["mounts"] = [entry for entry in c.config["mounts"] if entry["type"] != "sysfs"]
    container = c.running()
    c.equal(f"the {kind} namespace", inode(container.pid, kind), inode("self", kind))


@case("namespace-inherit", each={"user": "user", "time": "time"})
def namespace_inherited_by_default(c: Context, kind: str) -> None:
    """user and time namespaces are those of the runtime unless they are listed."""
    prepare(c, kind)
    container = c.running()
    c.equal(f"the {kind} namespace", inode(container.pid, kind), inode("self", kind))


@case("namespace-inherit")
def namespace_inherited_mount(c: Context) -> None:
    """Without a mount namespace the process is in that of the runtime."""
    c.need(shutil.which("unshare"), "no unshare(1)")
    # Create may change the mounts of its namespace, so it gets a copy of ours.
    note = c.place / "namespace"
    script = 'readlink /proc/self/ns/mnt > "$0"; exec "$@"'
    prefix = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, str(note)]
    c.without_namespace("mount").probe("sleep")
    c.runtime.argv, argv = [*prefix, *c.runtime.argv], c.runtime.argv
    try:
        container = c.create()
    finally:
        c.runtime.argv = argv
    c.equal("the mount namespace", os.readlink(f"/proc/{container.pid}/ns/mnt"), note.read_text().strip())


@case("namespace-wrong-type", each={"network": ("network", "uts"), "uts": ("uts", "ipc"), "pid": ("pid", "net")})
def namespace_of_wrong_type(c: Context, kind: str, other: str) -> None:
    """A path to a namespace of another type is an error."""
    c.namespace(kind, f"/proc/{os.getpid()}/ns/{other}")
    c.refused(why=f"a path to a {other} namespace for {kind}")


@case("namespace-wrong-type", "create-cannot-apply", each={"nothing": "/no/such/file", "a-file": "/proc/version"})
def namespace_path_is_none(c: Context, path: str) -> None:
    """A path that is no namespace is an error."""
    c.namespace("network", path)
    c.refused(why="a path to what is no namespace")


@case("namespace-path-absolute")
def namespace_path_relative(c: Context) -> None:
    """A relative path is an error."""
    with Holder(c, "--net") as holder:
        c.namespace("network", f"../../../../../../..{holder.ns('net')}")
        c.refused(why="a relative path of a namespace")


@case("namespace-twice", each={"new": None, "joined": "/proc/self/ns/net"})
def namespace_twice(c: Context, path: str | None) -> None:
    """The same type twice is an error."""
    c.config["linux"]["namespaces"].append({"type": "network"} | ({"path": path} if path else {}))
    c.refused(why="two network namespaces")


# -- user namespaces ---------------------------------------------------------------------------------------------------


def ranges(text: str) -> list[tuple[int, int, int]]:
    """Parse uid_map or gid_map."""
    return [(int(a), int(b), int(n)) for a, b, n in (line.split() for line in text.splitlines())]


@case("id-mappings", each={"uid": "uid", "gid": "gid"})
def id_mappings(c: Context, which: str) -> None:
    """The maps of the user namespace are the configured ones."""
    c.userns()
    several = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 300000, "size": 10},
        {"containerID": 5000, "hostID": 200000, "size": 5},
    ]
    c.linux(**{f"{which}Mappings": several})
    seen = ranges(c.report()[f"{which}_map"])
    c.equal(f"{which}_map", sorted(seen), [(0, 100000, 1000), (1000, 300000, 10), (5000, 200000, 5)])


@case("id-mappings", "user-ids")
def id_mappings_seen_from_outside(c: Context) -> None:
    """A user of the container is the mapped one of the host."""
    c.userns().process(user={"uid": 1000, "gid": 1001})
    container = c.running()
    status = Path(f"/proc/{container.pid}/status").read_text()
    seen = {line.split()[0]: line.split()[1:] for line in status.splitlines() if line[:4] in ("Uid:", "Gid:")}
    c.equal("uids", seen["Uid:"], ["101000"] * 4)
    c.equal("gids", seen["Gid:"], ["101001"] * 4)


@case("id-mappings-no-chown")
def id_mappings_leave_owners(c: Context) -> None:
    """No file of the root file system gets another owner."""
    c.userns()
    other = c.file("/etc/other", "x")
    os.chown(other, 12, 34)
    c.run(["exit", "0"])
    st = other.stat()
    c.equal("owner", (st.st_uid, st.st_gid), (12, 34))


# -- time --------------------------------------------------------------------------------------------------------------

OFFSETS = {
    "monotonic": ("monotonic", {"secs": 86400}, 86400.0),
    "monotonic-nanosecs": ("monotonic", {"secs": 1000, "nanosecs": 500000000}, 1000.5),
    "boottime": ("boottime", {"secs": 604800}, 604800.0),
    "boottime-nanosecs": ("boottime", {"secs": 7200, "nanosecs": 250000000}, 7200.25),
}


@case("time-offsets", each=OFFSETS)
def time_offsets(c: Context, clock: str, offset: dict[str, int], wanted: float) -> None:
    """The clock is ahead of the host's by the offset."""
    import time

    prepare(c, "time")
    c.namespace("time").linux(timeOffsets={clock: offset})
    host = time.CLOCK_MONOTONIC if clock == "monotonic" else time.CLOCK_BOOTTIME
    before = time.clock_gettime(host)
    seen = c.report()["clocks"][clock] / 1e9
    after = time.clock_gettime(host)
    c.true(f"the offset is {wanted} s", before + wanted <= seen <= after + wanted, seen - before)


@case("time-offsets")
def time_offsets_of_other_clock(c: Context) -> None:
    """A clock without an offset stays as it is."""
    import time

    prepare(c, "time")
    c.namespace("time").linux(timeOffsets={"boottime": {"secs": 604800}})
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    seen = c.report()["clocks"]["monotonic"] / 1e9
    c.true("no offset", before <= seen <= time.clock_gettime(time.CLOCK_MONOTONIC), seen - before)
