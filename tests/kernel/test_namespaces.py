# SPDX-License-Identifier: Apache-2.0
"""linux.namespaces, id mappings, time offsets, host and domain name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.holder import Holder

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
KINDS = {
    "pid": "pid",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "network": "net",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}


def host(kind: str) -> int:
    """Return the inode of the caller's own namespace of an OCI kind."""
    return os.stat(f"/proc/self/ns/{KINDS[kind]}").st_ino


def test_new_namespaces_are_new_and_others_are_the_callers(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Each kind that is asked for differs from the host's, each other kind is the host's."""
    found = runtime.report(bundle)["namespaces"]
    wanted = {entry["type"] for entry in bundle.spec["linux"]["namespaces"]}
    for kind, name in KINDS.items():
        assert (found[name] != host(kind)) == (kind in wanted), kind


@pytest.mark.parametrize("kind", ["ipc", "uts", "network", "cgroup", "pid"])
def test_kind_left_out_is_the_hosts(runtime: RuntimeCommand, bundle: Bundle, kind: str) -> None:
    """A kind that is not listed is shared with the caller."""
    bundle.namespaces(without=(kind,))
    if kind == "uts":
        bundle.patch({"hostname": None})
    report = runtime.report(bundle)
    assert report["namespaces"][KINDS[kind]] == host(kind)
    if kind == "pid":
        assert report["pid"] > 1


@pytest.mark.kernel("5.6")
@pytest.mark.peer_fails(runc="1.1 has no time namespaces")
def test_time_offsets(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The clocks of a new time namespace are off by what was asked for."""
    import time

    monotonic = {"secs": 86400, "nanosecs": 500000000}
    bundle.namespaces("time").linux(timeOffsets={"monotonic": monotonic, "boottime": {"secs": -1, "nanosecs": 0}})
    before = (
        time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    report = runtime.report(bundle)
    after = (
        time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    clocks = report["clocks"]
    assert before[0] <= clocks["monotonic"] - 86400_500000000 <= after[0]
    assert before[1] <= clocks["boottime"] + 1_000000000 <= after[1]
    assert report["namespaces"]["time"] == report["namespaces"]["time_for_children"] != host("time")


@pytest.mark.kernel("5.6")
@pytest.mark.peer_fails(runc="1.1 has no time namespaces and ignores timeOffsets")
def test_time_offsets_need_a_new_time_namespace(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """Offsets without a time namespace, or for one joined by path, are refused."""
    offsets = {"monotonic": {"secs": 1, "nanosecs": 0}}
    runtime.run(mkbundle().linux(timeOffsets=offsets)).refused("time")
    joined = {"type": "time", "path": "/proc/self/ns/time"}
    runtime.run(mkbundle().namespaces(joined).linux(timeOffsets=offsets)).refused("time")


# ---- joined by path ------------------------------------------------------------------------------


def test_join_by_path(runtime: RuntimeCommand, bundle: Bundle, probe: Path) -> None:
    """Namespaces given by path are joined, and the host name is set in a joined one."""
    with Holder(probe, "--net", "--ipc", "--uts", "--cgroup") as holder:
        kinds = ("network", "ipc", "uts", "cgroup")
        bundle.namespaces(*({"type": k, "path": holder.ns(KINDS[k])} for k in kinds))
        report = runtime.report(bundle)
        for kind in kinds:
            assert report["namespaces"][KINDS[kind]] == holder.inode(KINDS[kind])
        assert report["hostname"] == "test"
        assert report["namespaces"]["pid"] != host("pid")


def test_join_pid_namespace(runtime: RuntimeCommand, bundle: Bundle, probe: Path) -> None:
    """A pid namespace given by path is joined: the program is not its first process."""
    with Holder(probe, "--pid", "--fork") as holder:
        bundle.namespaces({"type": "pid", "path": holder.ns("pid_for_children")})
        report = runtime.report(bundle)
        assert report["pid"] > 1
        assert report["namespaces"]["pid"] == holder.inode("pid_for_children") != host("pid")


def test_join_the_hosts_own_by_path(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A path to the caller's own namespace is allowed and means no new one."""
    bundle.namespaces({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    assert runtime.report(bundle)["namespaces"]["net"] == host("network")


@pytest.mark.kernel("5.6")
@pytest.mark.peer_fails(runc="1.1 has no time namespaces")
def test_join_time_namespace(runtime: RuntimeCommand, bundle: Bundle, probe: Path) -> None:
    """A time namespace given by path is joined with its offsets."""
    with Holder(probe, "--time", "--fork", "--monotonic", "5000") as holder:
        bundle.namespaces({"type": "time", "path": holder.ns("time_for_children")})
        report = runtime.report(bundle)
        assert report["namespaces"]["time"] == holder.inode("time_for_children") != host("time")


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "network", "path": "/proc/self/ns/uts"},
        {"type": "network", "path": "/nonexistent"},
        {"type": "network", "path": "/etc/passwd"},
        {"type": "network", "path": "/proc"},
        {"type": "network", "path": "proc/self/ns/net"},
        {"type": "nonsense"},
        {"type": ""},
    ],
    ids=str,
)
def test_namespace_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, entry: dict[str, Any]) -> None:
    """A path of the wrong type, a missing or relative one, and an unknown type are refused."""
    bundle.namespaces(without=("network",))
    bundle.spec["linux"]["namespaces"].append(entry)
    runtime.run(bundle).refused()


def test_namespace_twice(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A type may be listed once."""
    bundle.spec["linux"]["namespaces"].append({"type": "uts"})
    runtime.run(bundle).refused("uts" if runtime.name == "ocirun" else "")


@pytest.mark.ocirun_only("runc waits for ever in open(2)")
def test_fifo_as_namespace_path_does_not_hang(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """A named pipe in the place of a namespace is refused, not waited for."""
    os.mkfifo(workdir / "pipe")
    bundle.namespaces({"type": "network", "path": str(workdir / "pipe")})
    runtime.run(bundle).refused()


# ---- host and domain name ------------------------------------------------------------------------


@pytest.mark.peer_fails(runc="1.1 does not know domainname")
def test_domain_name(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """hostname and domainname are set."""
    report = runtime.report(bundle.patch({"hostname": "a" * 64, "domainname": "example.org"}))
    assert (report["hostname"], report["domainname"]) == ("a" * 64, "example.org")


def test_host_name_needs_a_uts_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without a uts namespace a host name is refused: it would be the host's."""
    before = os.uname().nodename
    runtime.run(bundle.namespaces(without=("uts",))).refused()
    assert os.uname().nodename == before


@pytest.mark.ocirun_only("peers have no domainname, or do not check")
def test_domain_name_needs_a_uts_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without a uts namespace a domain name is refused."""
    bundle.patch({"hostname": None, "domainname": "example.org"}).namespaces(without=("uts",))
    runtime.run(bundle).refused()


def test_host_name_too_long(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The kernel's limit of 64 bytes is an error, not a cut."""
    runtime.run(bundle.patch({"hostname": "a" * 65})).refused()


# ---- network -------------------------------------------------------------------------------------


def test_loopback_is_up_in_a_new_network_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A new network namespace has one interface, lo, and it is up."""
    (interfaces,) = [runtime.run(bundle.args("netif")).ok().one("netif")["interfaces"]]
    up = {name for name, flags in interfaces.items() if flags & 1}
    assert "lo" in up
    assert "eth0" not in interfaces


# ---- user namespaces -----------------------------------------------------------------------------


@pytest.mark.userns
def test_user_namespace_mappings(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Several ranges are written as given, and the program's ids are seen through them."""
    uids = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 200000, "size": 1},
        {"containerID": 5000, "hostID": 300000, "size": 500},
    ]
    gids = [{"containerID": 0, "hostID": 400000, "size": 65536}]
    bundle.namespaces("user").linux(uidMappings=uids, gidMappings=gids)
    bundle.process(user={"uid": 1000, "gid": 7, "additionalGids": [8, 9]})
    container = runtime.create(bundle.seq("report", "sleep")).start()
    report = container.line()
    assert [line.split() for line in report["uid_map"].splitlines()] == [
        [str(m["containerID"]), str(m["hostID"]), str(m["size"])] for m in uids
    ]
    assert report["gid_map"].split() == ["0", "400000", "65536"]
    assert report["uids"] == [1000] * 4
    assert report["gids"] == [7] * 4
    assert sorted(report["groups"]) == [8, 9]
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert "Uid:\t200000\t200000\t200000\t200000" in status
    assert "Gid:\t400007\t400007\t400007\t400007" in status
    assert "Groups:\t400008 400009" in status


@pytest.mark.userns
def test_user_namespace_owns_the_other_namespaces(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The container's root rules its network, host name and mounts, and nothing of the host's."""
    caps = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"]
    bundle.userns().capabilities(*caps).dir("/m").mount("/m", "tmpfs", "tmpfs")
    bundle.seq(
        "report",
        ["syscall", "sethostname", "str:mine", "4"],
        ["syscall", "mount", "str:none", "str:/tmp", "str:tmpfs", "0", "0"],
        ["write", "/proc/sys/net/ipv4/ip_forward", "1"],
        ["mknod", "/tmp/null", "c", "1", "3"],
        ["write", "/proc/sys/kernel/threads-max", "1"],
        ["stat", "/", "/proc", "/dev/pts", "/m"],
    )
    result = runtime.run(bundle).ok()
    hostname, mount = result.all("syscall")
    assert (hostname["ret"], mount["ret"]) == (0, 0)
    assert result.outcomes("write")["/proc/sys/net/ipv4/ip_forward"] == "ok"
    assert result.outcomes("write")["/proc/sys/kernel/threads-max"] != "ok"
    assert result.outcomes("mknod")["/tmp/null"] == "EPERM"
    assert result.files["/m"]["uid"] == 0
    assert result.files["/dev/pts"]["uid"] == 0


@pytest.mark.userns
def test_join_user_namespace(runtime: RuntimeCommand, bundle: Bundle, probe: Path) -> None:
    """A user namespace given by path is joined with its mappings."""
    with Holder(probe, "--user") as holder:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text("0 150000 65536\n")
        bundle.namespaces({"type": "user", "path": holder.ns("user")})
        if runtime.name != "ocirun":
            # the peers want to be told the mappings of the namespace that they join
            mapping = [{"containerID": 0, "hostID": 150000, "size": 65536}]
            bundle.linux(uidMappings=mapping, gidMappings=mapping)
        report = runtime.report(bundle)
        assert report["namespaces"]["user"] == holder.inode("user")
        assert report["uids"] == [0] * 4
        assert report["uid_map"].split() == ["0", "150000", "65536"]


@pytest.mark.userns
@pytest.mark.peer_fails(runc="1.1 ignores mappings without a user namespace")
def test_mappings_need_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Mappings without a user namespace are refused."""
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    runtime.run(bundle.linux(uidMappings=mapping, gidMappings=mapping)).refused()


@pytest.mark.userns
@pytest.mark.parametrize(
    "mapping",
    [
        [],
        [{"containerID": 0, "hostID": 100000, "size": 0}],
        [
            {"containerID": 0, "hostID": 100000, "size": 10},
            {"containerID": 5, "hostID": 200000, "size": 9},
        ],
        [
            {"containerID": 0, "hostID": 100000, "size": 10},
            {"containerID": 50, "hostID": 100005, "size": 9},
        ],
        [{"containerID": 1, "hostID": 100000, "size": 10}],
    ],
    ids=str,
)
def test_impossible_mappings(runtime: RuntimeCommand, bundle: Bundle, mapping: list[dict[str, int]]) -> None:
    """No mapping, an empty one, overlapping ones, and one without a root for uid 0 are refused."""
    bundle.namespaces("user").linux(uidMappings=mapping, gidMappings=mapping)
    runtime.run(bundle).refused()


@pytest.mark.userns
def test_rootfs_the_mapped_root_cannot_reach(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A rootfs below a directory that the mapped root may not enter is an error that names a path."""
    bundle.path.chmod(0o700)
    result = runtime.run(bundle.userns())
    if result.rc != 0:
        result.refused("permission denied")


# ---- shared pid namespace ------------------------------------------------------------------------


def test_delete_without_pid_namespace_ends_all_processes(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """runc #4047: without a pid namespace the processes left behind by init end with delete."""
    bundle.namespaces(without=("pid",)).seq(["fork", "3"], "ready", "sleep")
    container = runtime.create(bundle).start()
    assert container.line()["made"] == 3
    container.line()
    container.delete("--force").ok()
    runtime.call("state", bundle.id).refused("does not exist")


def test_unshare_is_not_needed_by_the_caller(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The caller's own namespaces are the same before and after."""
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    runtime.run(bundle).ok()
    assert before == {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
