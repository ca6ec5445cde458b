# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's containers and the host: devices, file systems, limits, and what root alone can do.

Each is done, left out with a warning, or refused with its place and the reason.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle, unique
from support.cgroup import PURE, ROOT, directory
from support.command import TIMEOUT, RuntimeCommand
from support.native import compat
from support.nested import nested
from support.oracle import cgroups
from support.report import mounts
from support.terminal import ConsoleSocket, read_terminal
from support.user import FIRST_SUBORDINATE, GID, UID, User, delegate, subordinate

pytestmark = [pytest.mark.root, pytest.mark.userns]
MkBundle = Callable[..., Bundle]
ONLY_OURS = pytest.mark.ocirun_only("about our own messages, or what the peers do not do")
DEFAULT_NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def covering(script: str) -> tuple[str, ...]:
    """Return words that run a script as root in a mount namespace of its own, and then the rest."""
    return ("unshare", "-m", "sh", "-c", f'{script}; exec "$@"', "sh")


# ---- devices -----------------------------------------------------------------------------------


def test_nodes_are_the_hosts(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """Nobody but root makes nodes: the host's are shown, and can be used."""
    paths = [f"/dev/{name}" for name in DEFAULT_NODES]
    result = rootless.run(own_bundle.seq(["stat", *paths], ["open", "/dev/null", "wronly"], ["read", "/dev/null"])).ok()
    for name, number in DEFAULT_NODES.items():
        entry = result.files[f"/dev/{name}"]
        assert (entry["type"], tuple(entry["rdev"])) == ("char", number)
    assert set(result.outcomes("open").values()) == {"ok"}
    assert "/dev/null" in result.reads


@ONLY_OURS
@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}, ("/linux/devices/0", "mode")),
        ({"path": "/dev/other", "type": "c", "major": 1, "minor": 77}, ("/linux/devices/0", "/dev/other", "ENOENT")),
        ({"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "uid": 0}, ("/linux/devices/0", "owner")),
    ],
)
def test_nodes_that_the_host_has_not(
    rootless: RuntimeCommand, own_bundle: Bundle, device: dict[str, Any], words: tuple[str, ...]
) -> None:
    """A node that is asked for as the host has it not is an error, not another node."""
    rootless.run(own_bundle.linux(devices=[device])).refused(*words)


# ---- file systems ------------------------------------------------------------------------------


@ONLY_OURS
def test_sysfs_with_the_hosts_network(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """sysfs takes a network namespace of the container's own; without one the host's is shown, all of it read-only."""
    own_bundle.namespaces(without=("network",)).mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev")
    own_bundle.seq("report", ["ls", "/sys"], ["create", "/sys/fs/cgroup/made", "x"])
    result = rootless.run(own_bundle).ok()
    assert "/mounts/3/type" in result.stderr
    assert "read-only" in result.stderr
    assert {"block", "class", "kernel"} <= set(result.one("ls")["names"])
    for mount in mounts(result.report["mountinfo"]):
        if mount.target.startswith("/sys"):
            assert {"ro", "nosuid", "nodev", "noexec"} <= mount.options, mount.target
    assert result.outcomes("create") == {"/sys/fs/cgroup/made": "EROFS"}


def test_sysfs_of_its_own(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """With a network namespace it is the container's own: no device of the host's network is in it."""
    own_bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro").args("ls", "/sys/class/net")
    result = rootless.run(own_bundle).ok()
    assert set(result.one("ls")["names"]) <= {"lo", "tunl0", "sit0", "ip6tnl0", "ip6_vti0",
                                                                       "ip_vti0", "gre0", "gretap0", "erspan0", "ip6gre0"}  # fmt: skip


@ONLY_OURS
def test_mqueue_with_the_hosts_ipc(runtime: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """A queue file system belongs to an IPC namespace: without one of the container's, the host's is shown."""
    # /dev of the tests is one that no other test may see changed.
    before = covering(
        "mount --rbind /dev /mnt; mount -t tmpfs -o mode=755 dev /dev; for n in null zero full random urandom tty; do"
        " touch /dev/$n; mount --bind /mnt/$n /dev/$n; done; mkdir /dev/mqueue /dev/pts /dev/shm;"
        " mount -t mqueue mqueue /dev/mqueue; chmod 1777 /dev/mqueue; touch /dev/mqueue/hosts"
    )
    rootless = user.runtime(runtime, *user.words(before=before))
    own_bundle.namespaces(without=("ipc",)).mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    result = rootless.run(own_bundle.args("ls", "/dev/mqueue")).ok()
    assert "/mounts/3/type" in result.stderr
    assert result.one("ls")["names"] == ["hosts"]
    own_bundle.again().namespaces("ipc")
    result = rootless.run(own_bundle).ok()
    assert result.one("ls")["names"] == []


@ONLY_OURS
def test_proc_that_is_covered_outside(runtime: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """Where parts of the runtime's /proc are masked the kernel gives no other one; the hint says what to do."""
    before = covering("mount -t tmpfs -o ro none /proc/scsi || mount -t tmpfs -o ro none /proc/fs")
    rootless = user.runtime(runtime, *user.words(before=before))
    rootless.run(own_bundle).refused("/mounts/0", "EPERM", "hint:", "unmask")


@ONLY_OURS
def test_ids_in_mount_options(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """The group tty has no number in a namespace of one id."""
    own_bundle.spec["mounts"][2]["options"].append("gid=5")
    rootless.run(own_bundle).refused("/mounts/2", "EINVAL", "must be mapped in the user namespace")


def test_binds_of_what_the_user_can_reach(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """The way to a source may be open to the user alone; what is mounted below it comes along or not."""
    data = user.home / "private" / "data"
    data.mkdir(parents=True)
    (data / "file").write_text("mine")
    for path in (data.parent, data, data / "file"):
        os.chown(path, UID, GID)
    data.parent.chmod(0o700)
    own_bundle.mount("/data", "bind", data, "bind", "ro").seq(["read", "/data/file"], ["create", "/data/new", "x"])
    result = rootless.run(own_bundle).ok()
    assert result.reads["/data/file"] == "mine"
    assert result.outcomes("create") == {"/data/new": "EROFS"}


@ONLY_OURS
def test_subordinate_root_reaches_the_bundle(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """The container's root may be nobody outside: paths are walked as the user, who may go where it may not."""
    mapping = [{"containerID": 0, "hostID": FIRST_SUBORDINATE, "size": 1000}]
    bundle.namespaces("user").linux(uidMappings=mapping, gidMappings=mapping)
    user.own(bundle, FIRST_SUBORDINATE, FIRST_SUBORDINATE)
    os.chown(bundle.path, UID, GID)
    bundle.path.chmod(0o700)
    report = rootless.report(bundle)
    assert report["uids"] == [0] * 4


@ONLY_OURS
@pytest.mark.parametrize("mask", ["all", "mount_setattr", "openat2", "clone3"])
def test_older_kernels(runtime: RuntimeCommand, user: User, own_bundle: Bundle, mask: str) -> None:
    """The ways without newer system calls lead there without root as well."""
    rootless = user.runtime(runtime, *user.words(before=compat(mask)))
    own_bundle.mount("/data", "bind", own_bundle.rootfs, "rbind", "ro").linux(
        maskedPaths=["/proc/acpi", "/proc/keys"], readonlyPaths=["/proc/sys"]
    )
    result = rootless.run(own_bundle.seq("report", ["create", "/data/new", "x"], ["read", "/proc/keys"])).ok()
    assert result.report["uids"] == [0] * 4
    assert result.outcomes("create") == {"/data/new": "EROFS"}
    assert result.reads["/proc/keys"] == ""


# ---- limits of power ---------------------------------------------------------------------------


def test_oom_score_may_rise(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """Everybody may offer itself to the OOM killer."""
    own_bundle.process(oomScoreAdj=500).args("read", "/proc/self/oom_score_adj")
    assert rootless.run(own_bundle).ok().reads["/proc/self/oom_score_adj"] == "500\n"


def test_time_offsets(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """A time namespace is the user namespace's."""
    if rootless.name != "ocirun":
        pytest.skip("peer: knows no time namespaces")
    own_bundle.namespaces("time").linux(timeOffsets={"boottime": {"secs": 86400, "nanosecs": 0}})
    with open("/proc/uptime", encoding="ascii") as file:
        host = float(file.read().split()[0])
    assert rootless.report(own_bundle)["clocks"]["boottime"] > (host + 80000) * 1e9


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "lower-oom-score": ({"process": {"oomScoreAdj": -500}}, ("/process/oomScoreAdj", "EACCES", "only be raised")),
    "higher-limit": (
        {"process": {"rlimits": [{"type": "RLIMIT_MSGQUEUE", "soft": 1 << 40, "hard": 1 << 40}]}},
        ("/process/rlimits/0", "EPERM", "CAP_SYS_RESOURCE"),
    ),
    "real-time": (
        {"process": {"scheduler": {"policy": "SCHED_FIFO", "priority": 5}}},
        ("/process/scheduler", "EPERM", "CAP_SYS_NICE"),
    ),
    "io-real-time": (
        {"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 4}}},
        ("/process/ioPriority", "EPERM", "CAP_SYS_NICE"),
    ),
    "network-device": ({"linux": {"netDevices": {"eth0": {}}}}, ("/linux/netDevices", "CAP_NET_ADMIN")),
    "joined": (
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "pid", "path": "/proc/1/ns/pid"}]}},
        ("/linux/namespaces/2",),
    ),
}


@ONLY_OURS
@pytest.mark.parametrize("name", list(REFUSED))
def test_what_takes_root(rootless: RuntimeCommand, own_bundle: Bundle, name: str) -> None:
    """Refused by its pointer and with the reason, and nothing is left."""
    patch, words = REFUSED[name]
    if name == "joined":
        patch["linux"]["namespaces"][2]["path"] = f"/proc/{os.getpid()}/ns/pid"
    own_bundle.patch({"hostname": None} if name == "joined" else {}, patch)
    rootless.run(own_bundle).refused(*words)
    assert not (rootless.root / own_bundle.id).exists()


@ONLY_OURS
def test_id_mapped_mount(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """It takes power over the file system."""
    own_bundle.mount("/m", "bind", own_bundle.rootfs, "bind", "idmap")
    rootless.run(own_bundle).refused("/mounts/3", "CAP_SYS_ADMIN over the file system")


# ---- cgroups -----------------------------------------------------------------------------------


@pytest.mark.vm
@ONLY_OURS
def test_limits_without_a_cgroup(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """A limit that nothing would hold is refused, with what root can do about it; without limits there is no cgroup."""
    rootless.run(own_bundle).ok()
    assert cgroups() == set()
    own_bundle.again().linux(resources={"memory": {"limit": 1 << 26}})
    result = rootless.run(own_bundle).refused("/linux/resources/memory/limit", "hint:", "root")
    if PURE and os.path.isdir("/run/systemd/system"):
        result.refused("/etc/systemd/system/user@.service.d/delegate.conf", "Delegate=cpu cpuset io memory pids")
    own_bundle.again().linux(resources=None).linux(resources={"pids": {"limit": 5}})
    rootless.run(own_bundle).refused("/linux/resources/pids/limit")
    assert cgroups() == set()


@pytest.mark.vm
@ONLY_OURS
def test_a_cgroup_that_is_named_must_be(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """Who names a cgroup gets it, or an error; --rootless says whether none may do where none is named."""
    own_bundle.linux(cgroupsPath=f"/{own_bundle.id}")
    rootless.run(own_bundle).refused("/linux/cgroupsPath", "EACCES", "hint:")
    own_bundle.again().linux(cgroupsPath=None)
    rootless.run(own_bundle, options=["--rootless", "false"]).refused("/linux/cgroupsPath", "EACCES", "hint:")
    for word in ("true", "auto"):
        rootless.run(own_bundle.again(), options=["--rootless", word]).ok()


@ONLY_OURS
def test_commands_without_a_cgroup(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """Pausing needs a cgroup, which is said; the rest works."""
    container = rootless.create(own_bundle.seq("ready", ["sleep", 1000])).start()
    container.line()
    rootless.call("pause", own_bundle.id).refused("no cgroup", "hint:")
    assert container.status() == "running"
    container.kill("KILL").ok()
    container.wait()
    container.delete().ok()


@ONLY_OURS
def test_kill_without_a_cgroup(rootless: RuntimeCommand, mkrootless: MkBundle) -> None:
    """SIGKILL always ends the container; other signals for all need a cgroup, but not once it has stopped."""
    for without, options in ((("pid",), ()), ((), ("--all",))):
        bundle = mkrootless().namespaces(without=without).without_mount("/proc").seq("ready", ["sleep", 1000])
        if without:
            bundle.mount("/proc", "bind", "/proc", "rbind")
        container = rootless.create(bundle).start()
        container.line()
        container.kill("TERM", "--all").refused("no cgroup", "hint:")
        container.kill("KILL", *options).ok()
        assert container.wait() == 137
        container.kill("KILL", "--all").ok()
        container.delete().ok()


@pytest.fixture
def delegated() -> Iterator[list[Path]]:
    """Cgroups that root gave to the user: everywhere on version 2, of version 1 the hierarchies pids and freezer."""
    tops = [ROOT] if PURE else [ROOT / "unified", ROOT / "pids", ROOT / "freezer"]
    if PURE:
        (ROOT / "cgroup.subtree_control").write_text("+memory +pids")
    made = [top / unique("delegated") for top in tops]
    sessions = [delegate(path) for path in made]
    if PURE:
        (made[0] / "cgroup.subtree_control").write_text("+memory +pids")
    yield sessions
    for path, session in zip(made, sessions, strict=True):
        session.rmdir()
        path.rmdir()


@pytest.mark.vm
@pytest.mark.peer_fails(runc="makes no use of a part of version 1", crun="the same")
def test_delegated_cgroup(
    runtime: RuntimeCommand, user: User, own_bundle: Bundle, delegated: list[Path]
) -> None:
    """Where the user owns a cgroup the container gets one beside the user's, with limits, freezer and all."""
    enter = "; ".join(f"echo 0 >{session}/cgroup.procs" for session in delegated)
    rootless = user.runtime(runtime, *user.words(before=("sh", "-c", f'{enter}; exec "$@"', "sh")))
    own_bundle.linux(resources={"pids": {"limit": 7}}).seq("ready", ["sleep", 1000])
    container = rootless.create(own_bundle).start()
    container.line()
    pids = directory(container.pid, "pids")
    assert delegated[0 if PURE else 1].parent.name in str(pids)
    assert (pids / "pids.max").read_text() == "7\n"
    assert str(container.pid) in (pids / "cgroup.procs").read_text().split()
    rootless.call("pause", own_bundle.id).ok()
    assert container.status() == "paused"
    rootless.call("resume", own_bundle.id).ok()
    container.kill("KILL").ok()
    container.wait()
    container.delete().ok()
    assert {path for path in cgroups() if own_bundle.id in path} == set()
    own_bundle.again().linux(resources={"cpu": {"shares": 100}, "pids": {"limit": 7}})
    if not PURE:
        rootless.run(own_bundle).refused("/linux/resources/cpu/shares", "hint:")


@pytest.mark.vm
@ONLY_OURS
def test_only_ones_own_cgroup(runtime: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """As in a service with User= and Delegate=: the container is below, to be frozen and killed, if not limited."""
    top = ROOT if PURE else ROOT / "unified"
    own = top / unique("service")
    delegate(own, below=False)
    enter = f"echo 0 >{own}/cgroup.procs"
    rootless = user.runtime(runtime, *user.words(before=("sh", "-c", f'{enter}; exec "$@"', "sh")))
    try:
        container = rootless.create(own_bundle.seq("ready", ["sleep", 1000])).start()
        container.line()
        assert f"0::/{own.name}/{own_bundle.id}\n" in Path(f"/proc/{container.pid}/cgroup").read_text()
        rootless.call("pause", own_bundle.id).ok()
        container.delete("--force").ok()
        container.wait()
        own_bundle.again().linux(resources={"pids": {"limit": 5}})
        rootless.run(own_bundle).refused("/linux/resources/pids/limit", "hint:")
    finally:
        own.rmdir()


@pytest.mark.vm
@ONLY_OURS
@pytest.mark.parametrize("own_namespace", [True, False])
@pytest.mark.parametrize("sys", ["sysfs", "rbind", "none"])
@pytest.mark.parametrize("mount", [True, False])
def test_cgroups_of_the_host_cannot_be_written(
    runtime: RuntimeCommand,
    user: User,
    own_bundle: Bundle,
    delegated: list[Path],
    own_namespace: bool,
    sys: str,
    mount: bool,
) -> None:
    """S-45, CVE-2023-25809: the user's own cgroups are not the container's to change, whatever shows them."""
    enter = "; ".join(f"echo 0 >{session}/cgroup.procs" for session in delegated)
    rootless = user.runtime(runtime, *user.words(before=("sh", "-c", f'{enter}; exec "$@"', "sh")))
    if not own_namespace:
        own_bundle.namespaces(without=("cgroup",))
    if sys == "sysfs":
        own_bundle.namespaces(without=("network",)).mount("/sys", "sysfs", "sysfs", "nosuid")
    elif sys == "rbind":
        own_bundle.mount("/sys", None, "/sys", "rbind", "ro")
    if mount:
        own_bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", *(["ro"] if own_namespace else []))
    files = [f"/sys/fs/cgroup{str(path).removeprefix(str(ROOT))}" for path in (delegated[0].parent, delegated[0])]
    own_bundle.seq(*(["open", f"{path}/cgroup.procs", "wronly"] for path in files), ["open", "/sys/fs/cgroup/cgroup.procs", "wronly"])
    result = rootless.run(own_bundle).ok()
    for path, outcome in result.outcomes("open").items():
        assert outcome in ("EROFS", "ENOENT", "EACCES"), path


# ---- features --probe ----------------------------------------------------------------------------


@ONLY_OURS
def test_probe_of_a_user(rootless: RuntimeCommand, runtime: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """What it says of ids and cgroups is what containers meet."""
    host = json.loads(rootless.call("features", "--probe").ok().stdout)["host"]
    assert host["userNamespaces"]["available"] is True
    ids = host["idMappings"]
    assert (ids["uid"], ids["gid"]) == (UID, GID)
    assert ids["subordinateUids"] == ids["subordinateGids"] == [f"{FIRST_SUBORDINATE}:65536"]
    assert ids["newuidmap"] == {"available": True, "path": "/usr/bin/newuidmap"}
    assert ids["newgidmap"]["available"] is True
    assert host["cgroup"]["delegatedControllers"] == []
    assert host["cgroup"]["missingControllers"] == ["cpu", "cpuset", "io", "memory", "pids"]
    assert "root" in host["cgroup"]["remedy"]
    text = rootless.call("features", "--probe", "--format", "text").ok().stdout.decode()
    assert f"host.idMappings.subordinateUids: {FIRST_SUBORDINATE}:65536\n" in text
    plain = covering("for p in newuidmap newgidmap; do cp /usr/bin/$p /tmp/$p.$$; chmod 755 /tmp/$p.$$;"
                     " mount --bind /tmp/$p.$$ /usr/bin/$p; rm /tmp/$p.$$; done")  # fmt: skip
    other = user.runtime(runtime, *user.words(before=plain))
    ids = json.loads(other.call("features", "--probe").ok().stdout)["host"]["idMappings"]
    assert "set-user-ID" in ids["newuidmap"]["reason"]
    other.run(user.own(subordinate(bundle))).refused("/linux/uidMappings", "/usr/bin/newuidmap", "hint:", "set-user-ID")


@ONLY_OURS
def test_plan_of_a_user(rootless: RuntimeCommand, own_bundle: Bundle, mkbundle: MkBundle) -> None:
    """`plan` shows what the caller's create would do, and root's for a container that only root can make."""
    own_bundle.write()
    text = rootless.call("plan", str(own_bundle.path)).ok().stdout.decode()
    assert "/dev/null" in text
    assert text.index("new namespaces: user") < text.index(f"clone {own_bundle.rootfs}")
    assert "warning" not in text
    roots = mkbundle().write()
    text = rootless.call("plan", str(roots.path)).ok().stdout.decode()
    assert "this is root's plan" in text


# ---- an outer user namespace -------------------------------------------------------------------


def test_root_of_a_user_namespace_of_the_users(runtime: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """Engines of users call the runtime as root of a user namespace, which writes maps itself and needs none to begin with."""
    enter = ("unshare", "--user", "--map-root-user", "--mount")
    rootless = user.runtime(runtime, *user.words(), *enter)
    user.own(bundle.namespaces(without=("cgroup",)))
    report = rootless.report(bundle)
    assert report["uids"] == [0] * 4
    mapping = [{"containerID": 5, "hostID": 0, "size": 1}]
    bundle.again().namespaces("user").linux(uidMappings=mapping, gidMappings=mapping)
    bundle.process(user={"uid": 5, "gid": 5})
    if rootless.name == "ocirun":
        assert rootless.report(bundle)["uids"] == [5] * 4
        rootless = user.runtime(runtime, *user.words(), "unshare", "--user", "--map-root-user")
        assert rootless.report(bundle.again())["uids"] == [5] * 4


@ONLY_OURS
def test_state_root_in_a_user_namespace(runtime: RuntimeCommand, user: User) -> None:
    """With XDG_RUNTIME_DIR it is there, unless USER says that this is a root of its own; then, and without, in /run."""
    enter = ("unshare", "--user", "--map-root-user")

    def said(*env: str) -> str:
        words = [*user.words(env=env), *enter, *runtime.argv, "state", "x"]
        strace = ["strace", "-f", "-e", "trace=file", "-o", str(user.home / "trace")]
        subprocess.run([*strace, *words], capture_output=True, timeout=60, check=False)
        return (user.home / "trace").read_text()

    here, there = f'"{user.runtime_directory}/ocirun/x"', '"/run/ocirun/x"'
    assert here in said()
    assert there in said("USER=root")
    assert here in said("USER=somebody")
    assert there in said("XDG_RUNTIME_DIR=")


@ONLY_OURS
def test_nested_twice(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Root of a user namespace with all ids, and a container with another one in it."""
    other = runtime.under(*nested())
    report = other.report(bundle.userns(100000, 65536).namespaces(without=("cgroup",)))
    assert report["uids"] == [0] * 4
    assert report["groups"] == []


# ---- what else a container has -----------------------------------------------------------------


def test_hooks(rootless: RuntimeCommand, user: User, own_bundle: Bundle, probe: Path) -> None:
    """All kinds of hooks run as the user, or as whom the user is inside."""
    log = user.home / "hooks"
    log.touch()
    os.chown(log, UID, GID)
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    own_bundle.patch(
        {
            "hooks": {
                kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo {kind} >>{log}"]}]
                for kind in kinds
            }
        }
    )
    rootless.run(own_bundle).ok()
    assert log.read_text().split() == list(kinds)


def test_terminal(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """The console socket of an engine gets a terminal of the container's own devpts."""
    with ConsoleSocket(user.home / "console") as console:
        os.chown(console.path, UID, GID)
        own_bundle.process(terminal=True).args("report")
        container = rootless.create(own_bundle, "--console-socket", str(console.path))
        main = console.receive()
        container.start()
        assert b'"verb":"report"' in read_terminal(main)
        container.wait()
        container.delete().ok()


@ONLY_OURS
def test_notify_socket(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """sd_notify(3) reaches the caller."""
    path = user.home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        os.chown(path, UID, GID)
        listener.settimeout(TIMEOUT)
        own_bundle.seq(["sdnotify", "READY=1"])
        container = rootless.create(own_bundle, env={"NOTIFY_SOCKET": str(path)})
        rootless.call("start", own_bundle.id, env={"NOTIFY_SOCKET": str(path)}).ok()
        assert b"READY=1" in listener.recv(4096)
        container.wait()
        container.delete().ok()


@ONLY_OURS
def test_seccomp_agent(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """The agent gets the listener without any privilege, also without no_new_privs."""
    path = user.home / "agent"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        os.chown(path, UID, GID)
        listener.listen(1)
        listener.settimeout(TIMEOUT)
        own_bundle.linux(
            seccomp={
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": str(path),
                "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            }
        )
        container = rootless.create(own_bundle.args("report")).start()
        connection, _ = listener.accept()
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
        assert json.loads(data)["pid"] == container.pid
        assert len(fds) == 1
        os.close(fds[0])
        assert container.wait() == 0
        container.delete().ok()


def test_groups_of_a_joined_user_namespace(rootless: RuntimeCommand, mkrootless: MkBundle) -> None:
    """A container may join the user namespace of another one of the user's."""
    first = rootless.create(mkrootless().seq("ready", ["sleep", 1000])).start()
    first.line()
    bundle = mkrootless()
    bundle.namespaces({"type": "user", "path": f"/proc/{first.pid}/ns/user"})
    bundle.linux(uidMappings=None, gidMappings=None)
    if rootless.name != "ocirun":
        pytest.skip("peer: is not asked")
    report = rootless.report(bundle)
    assert report["uids"] == [0] * 4
    network = f"/proc/{first.pid}/ns/net"
    bundle.again().namespaces({"type": "network", "path": network})
    assert f"net:[{rootless.report(bundle)['namespaces']['net']}]" == os.readlink(network)
    first.delete("--force").ok()


@ONLY_OURS
@pytest.mark.unified
def test_cgroup_of_the_runtime_is_read_only(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A cgroup namespace without a cgroup of the container's shows the runtime's: to look at."""
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup").args("open", "/sys/fs/cgroup/cgroup.procs", "wronly")
    result = runtime.run(bundle, options=["--cgroup-manager", "disabled"]).ok()
    assert set(result.outcomes("open").values()) == {"EROFS"}
    assert "/mounts/3/options: read-only" in result.stderr
    result = runtime.run(bundle.again()).ok()
    assert set(result.outcomes("open").values()) == {"ok"}
