# SPDX-License-Identifier: Apache-2.0
"""exec: another process in a container, seen from inside and beside the container's own process.

What it may be is said by `process` of the configuration that the container was created with, by a document of its own
(--process), and by options.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.bundle import DEFAULT_CAPABILITIES, Bundle
from support.canary import Canary
from support.cgroup import PURE, directory, mounted
from support.command import Container, Result, RuntimeCommand, started
from support.native import compat, without
from support.oracle import HostSnapshot
from support.report import Json, capability_names, parse_lines
from support.terminal import ConsoleSocket, read_terminal, window_size

from kernel.test_seccomp import ALLOW, ERRNO, profile, rule

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


@pytest.fixture
def sleeper(bundle: Bundle) -> Bundle:
    """A bundle whose program reports and then waits."""
    return bundle.seq("report", "ready", "sleep")


def start(runtime: RuntimeCommand, bundle: Bundle, *words: str) -> tuple[Container, Json]:
    """Start a container; return it with what its process said of itself."""
    container = runtime.create(bundle, *words).start()
    report = container.line()
    container.line()
    return container, report


def execute(runtime: RuntimeCommand, bundle: Bundle, *words: str, program: tuple[str, ...] = ("/probe", "report"), **keywords: Any) -> Result:
    """Call exec with options and a program."""
    return runtime.call("exec", *words, bundle.id, *program, **keywords)


def document(bundle: Bundle, path: Path, **members: Any) -> str:
    """Write a process document; returns its path."""
    text = {"cwd": "/", "args": ["/probe", "report"], "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}, **members}
    path.write_text(json.dumps({name: value for name, value in text.items() if value is not None}))
    return str(path)


# ---- where it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["default", "userns", "time", "host-pid", "host-net", "few"])
def test_namespaces_are_those_of_the_container(runtime: RuntimeCommand, sleeper: Bundle, kind: str) -> None:
    """Every namespace, whether the container has its own or shares the host's, is the one of its process."""
    if kind == "userns":
        sleeper.userns()
    elif kind == "time":
        sleeper.namespaces("time")
    elif kind == "host-pid":
        sleeper.namespaces(without=("pid",))
    elif kind == "host-net":
        sleeper.namespaces(without=("network", "cgroup"))
    elif kind == "few":
        sleeper.namespaces(without=("pid", "ipc", "network", "cgroup"))
    if kind == "time" and runtime.name != "ocirun":
        pytest.skip("peer: no time namespaces")
    _, first = start(runtime, sleeper)
    second = execute(runtime, sleeper).ok().report
    assert second["namespaces"] == first["namespaces"]
    assert (second["hostname"], second["raw_cwd"]) == ("test", "/")
    assert (second["root"]["dev"], second["root"]["ino"]) == (first["root"]["dev"], first["root"]["ino"])
    if kind in ("default", "userns"):
        assert second["pid"] > 1


@pytest.mark.ocirun_only("runc joins what the configuration names")
def test_joined_namespaces(runtime: RuntimeCommand, sleeper: Bundle, mkbundle: MkBundle) -> None:
    """Namespaces that the container had joined by a path, of another container, are joined again."""
    other = mkbundle().seq("report", "ready", "sleep").userns()
    runtime.remember(sleeper.id)  # it has to go first
    first, _ = start(runtime, other)
    for kind in ("pid", "network", "ipc", "user"):
        file = {"network": "net"}.get(kind, kind)
        sleeper.namespaces({"type": kind, "path": f"/proc/{first.pid}/ns/{file}"})
    container, own = start(runtime, sleeper)
    second = execute(runtime, sleeper).ok().report
    assert second["namespaces"] == own["namespaces"]
    assert Path(f"/proc/{container.pid}/ns/user").stat().st_ino == second["namespaces"]["user"]


def test_cgroups_are_those_of_the_container(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """In each hierarchy the process is where the container's process is."""
    container, _ = start(runtime, sleeper.namespaces(without=("cgroup",)))
    shown = execute(runtime, sleeper, program=("/probe", "read", "/proc/self/cgroup")).ok().reads["/proc/self/cgroup"]
    assert mounted(shown) == mounted(Path(f"/proc/{container.pid}/cgroup").read_text())


def test_masks_hold(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-28: masked and read-only paths are as for the container's own process."""
    sleeper.linux(maskedPaths=["/proc/keys", "/proc/scsi"], readonlyPaths=["/proc/sys"]).patch({"root": {"readonly": True}})
    start(runtime, sleeper)
    result = execute(
        runtime, sleeper,
        program=("/probe", "seq", "read", "/proc/keys", "--", "write", "/proc/sys/kernel/hostname", "x", "--", "create", "/x", "x"),
    ).ok()  # fmt: skip
    assert result.reads["/proc/keys"] == ""
    assert result.outcomes("write")["/proc/sys/kernel/hostname"] == "EROFS"
    assert result.outcomes("create")["/x"] == "EROFS"


@pytest.mark.parametrize("userns", [False, True])
def test_root_without_pivot(runtime: RuntimeCommand, sleeper: Bundle, userns: bool) -> None:
    """With --no-pivot the container's root is not that of its mount namespace; exec finds it all the same."""
    if userns:
        sleeper.userns()
    _, first = start(runtime, sleeper, "--no-pivot")
    second = execute(runtime, sleeper).ok().report
    assert (second["root"]["dev"], second["root"]["ino"]) == (first["root"]["dev"], first["root"]["ino"])
    assert second["namespaces"] == first["namespaces"]


def test_created_container(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """exec works before start, as with runc and crun, and does not start the container."""
    runtime.create(bundle)
    assert execute(runtime, bundle).ok().report["hostname"] == "test"
    assert runtime.state(bundle.id)["status"] == "created"


@pytest.mark.ocirun_only("the peers join what the process has")
def test_process_that_has_left_its_namespace(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-76: where the configuration made a namespace and the process is in the host's now, exec does not follow."""
    start(runtime, sleeper.namespaces(without=("network",)))
    # A stand-in for a process with the power to leave: the configuration says that it had one.
    path = runtime.root / sleeper.id / "config.json"
    stored = json.loads(path.read_text())
    stored["linux"]["namespaces"].append({"type": "network"})
    path.write_text(json.dumps(stored))
    result = execute(runtime, sleeper)
    result.refused("/linux/namespaces/5", "network namespace")
    assert result.rc == 255


# ---- the process -------------------------------------------------------------------------------------


@pytest.mark.peer_fails(runc="reads the bundle's config.json again")
def test_configuration_of_the_container_applies(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """W29: without a document the process is as the container's own, whatever became of the bundle since."""
    limits = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    sleeper.process(
        user={"uid": 7, "gid": 8, "umask": 0o27, "additionalGids": [9, 10]}, cwd="/tmp", rlimits=limits,
        oomScoreAdj=900, noNewPrivileges=True, capabilities={"bounding": ["CAP_KILL"]},
    )  # fmt: skip
    container, first = start(runtime, sleeper)
    sleeper.process(user={"uid": 0, "gid": 0}, cwd="/etc", env=["PATH=/evil"], rlimits=[], noNewPrivileges=False).write()
    (sleeper.path / "config.json").write_text("{}")
    report = execute(runtime, sleeper, program=("/probe", "seq", "report", "--", "read", "/proc/self/oom_score_adj")).ok()
    second = report.report
    for name in ("uids", "gids", "groups", "raw_cwd", "environ", "rlimits", "caps", "no_new_privs", "securebits"):
        assert second[name] == first[name], name
    if runtime.name == "ocirun":
        assert second["umask"] == first["umask"] == 0o27
    assert report.reads["/proc/self/oom_score_adj"].strip() == "900"
    assert second["dumpable"] == first["dumpable"]
    assert not any(second["signals"].values())
    assert container.status() == "running"


@pytest.mark.peer_fails(runc="reads the configuration that the annotation names")
def test_annotation_cannot_redirect(runtime: RuntimeCommand, sleeper: Bundle, mkbundle: MkBundle) -> None:
    """W29: an annotation called "bundle" is an annotation."""
    other = mkbundle().process(env=["EVIL=1"]).write()
    start(runtime, sleeper.patch({"annotations": {"bundle": str(other.path)}}))
    assert "EVIL=1" not in execute(runtime, sleeper).ok().report["environ"]


@pytest.mark.parametrize(
    ("words", "uid", "gid", "groups"),
    [
        ((), 7, 8, [9]),
        (("-u", "1000"), 1000, 8, [9]),
        (("--user", "1000:1001"), 1000, 1001, [9]),
        (("-u", "0:0", "-g", "11", "-g", "12"), 0, 0, [9, 11, 12]),
    ],
)
def test_user(
    runtime: RuntimeCommand, sleeper: Bundle, words: tuple[str, ...], uid: int, gid: int, groups: list[int]
) -> None:
    """S-40, S-41: numbers; without a group the one of the configuration stays; groups are added."""
    if runtime.name == "crun":
        pytest.skip("peer: crun takes gid 0, and has no -g")
    # Names of the image that look like numbers have no say.
    sleeper.file("/etc/passwd", "1000:x:0:0::/evil:\n7:x:0:0::/evil:\n")
    start(runtime, sleeper.process(user={"uid": 7, "gid": 8, "additionalGids": [9]}))
    report = execute(runtime, sleeper, *words).ok().report
    assert (report["uids"], report["gids"], report["groups"]) == ([uid] * 4, [gid] * 4, groups)


@pytest.mark.ocirun_only("the peers read some of them as numbers")
def test_user_that_is_none(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-40: what is no number is refused, and never uid 0."""
    sleeper.file("/etc/passwd", "root:x:0:0::/:\n1000:x:0:0::/:\n99999999999999999999:x:0:0::/:\n")
    start(runtime, sleeper)
    for user in ("root", "1_0", "-1", "4294967295", "99999999999999999999", "1:", "1\n"):
        result = execute(runtime, sleeper, f"--user={user}")
        result.refused("--user")
        assert result.rc == 255


def test_environment(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """--env is added behind what the configuration has; nothing of the caller's arrives; HOME is the user's."""
    sleeper.file("/etc/passwd", "root:x:0:0::/root:\nme:x:5:5::/home/me:\n")
    start(runtime, sleeper.process(env=["PATH=/bin:/", "A=1"]))
    report = execute(runtime, sleeper, "-e", "B=2", "-e", "C=x y=z", "-u", "5", env={"SECRET": "canary"}).ok().report
    assert [entry for entry in report["environ"] if not entry.startswith("HOME=")] == ["PATH=/bin:/", "A=1", "B=2", "C=x y=z"]
    assert "HOME=/home/me" in report["environ"]


def test_arguments_byte_for_byte(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Whatever a command line can hold, options of the program and bytes that are no UTF-8 included."""
    start(runtime, sleeper)
    words = ["", "-t", "--env", "--", "a b", "\n", "ä€😀", os.fsdecode(b"\xff\xfe")]
    if runtime.name != "ocirun":
        words.pop()
    program = ("/probe", "report", *words)
    report = execute(runtime, sleeper, program=program).ok().report
    assert report["argv"] == list(program)


@pytest.mark.ocirun_only("crun replaces all sets, runc has no warning")
def test_added_capabilities(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-37, CVE-2022-29162: --cap adds to bounding, effective and permitted, and never to inheritable."""
    start(runtime, sleeper.capabilities("CAP_KILL"))
    caps = execute(runtime, sleeper, "--cap", "CAP_CHOWN", "-c", "CAP_NET_RAW").ok().report["caps"]
    for name in ("bounding", "effective", "permitted"):
        assert capability_names(caps[name]) == {"CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"}
    assert (caps["inheritable"], caps["ambient"]) == (0, 0)
    caps = execute(runtime, sleeper, "-u", "1000", "--cap", "CAP_CHOWN").ok().report["caps"]
    assert capability_names(caps["bounding"]) == {"CAP_KILL", "CAP_CHOWN"}
    assert [caps[name] for name in ("effective", "permitted", "inheritable", "ambient")] == [0] * 4


@pytest.mark.ocirun_only("crun replaces all sets")
def test_added_capability_of_another_user(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """What the configuration has in the inheritable set can be given to a user other than root."""
    sets = {name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "permitted", "inheritable")}
    start(runtime, sleeper.capabilities(**sets))
    caps = execute(runtime, sleeper, "-u", "1000", "--cap", "CAP_KILL").ok().report["caps"]
    for name in ("effective", "permitted", "ambient"):
        assert capability_names(caps[name]) == {"CAP_KILL"}
    assert capability_names(caps["inheritable"]) == {"CAP_CHOWN", "CAP_KILL"}


@pytest.mark.parametrize(("words", "expected"), [((), 0), (("--no-new-privs",), 1)])
def test_no_new_privileges(runtime: RuntimeCommand, sleeper: Bundle, words: tuple[str, ...], expected: int) -> None:
    """--no-new-privs is for this process alone."""
    start(runtime, sleeper)
    assert execute(runtime, sleeper, *words).ok().report["no_new_privs"] == expected


@pytest.mark.ocirun_only("crun cannot take it back")
def test_no_new_privileges_off(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """--no-new-privs=false says something too."""
    start(runtime, sleeper.process(noNewPrivileges=True))
    assert execute(runtime, sleeper, "--no-new-privs=false").ok().report["no_new_privs"] == 0


def test_working_directory(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """--cwd; a directory that is not there is an error, and none is made."""
    start(runtime, sleeper)
    assert execute(runtime, sleeper, "--cwd", "/tmp").ok().report["raw_cwd"] == "/tmp"
    result = execute(runtime, sleeper, "--cwd", "/nosuch")
    result.refused("no such file or directory")
    assert not sleeper.inside("/nosuch").exists()
    if runtime.name == "ocirun":
        result.refused("/process/cwd")
        execute(runtime, sleeper, "--cwd", "tmp").refused("/process/cwd", "absolute")


@pytest.mark.parametrize("mask", [None, "openat2"])
def test_working_directory_outside(runtime: RuntimeCommand, sleeper: Bundle, canary: Canary, mask: str | None) -> None:
    """S-07, CVE-2024-21626: no descriptor of ours is a way out."""
    sleeper.symlink("/w", "/proc/self/fd/7")
    start(runtime, sleeper)
    caller = runtime.under(*compat(mask, "ENOSYS")) if mask else runtime
    for cwd in ("/w", "/proc/self/cwd/../..", "/proc/1/cwd", *(f"/proc/self/fd/{number}" for number in range(3, 16))):
        result = execute(caller, sleeper, "--cwd", cwd, program=("/probe", "seq", "report", "--", "walk-up", str(canary.path)))
        if result.rc == 0:
            assert result.report["raw_cwd"].startswith("/")
            assert not result.one("walk-up")["found"]
        else:
            result.refused()
    for number in range(3, 12):
        execute(runtime, sleeper, program=(f"/proc/self/fd/{number}/bin/true",)).refused()


def test_stdio_and_other_descriptors(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-05: what the caller gave as 0 to 2, and what it asked to preserve; nothing else of 300 that it had open."""
    start(runtime, sleeper)

    def noise() -> None:
        for number in (*range(3, 100), 1000):
            os.dup2(os.open("/", os.O_RDONLY) if number != 4 else os.open("/dev/zero", os.O_RDONLY), number, inheritable=True)

    report = execute(runtime, sleeper, before_exec=noise, close_fds=False).ok().report
    assert sorted(entry["fd"] for entry in report["fds"]) == [0, 1, 2]
    report = execute(runtime, sleeper, "--preserve-fds", "2", before_exec=noise, close_fds=False).ok().report
    assert sorted(entry["fd"] for entry in report["fds"]) == [0, 1, 2, 3, 4]
    by_number = {entry["fd"]: entry for entry in report["fds"]}
    assert (by_number[3]["type"], by_number[4]["rdev"]) == ("dir", [1, 5])


def test_input_and_output(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """What is piped in arrives, and what the program prints comes out."""
    start(runtime, sleeper)
    assert execute(runtime, sleeper, program=("/probe", "stdin"), stdin=b"hello").ok().one("stdin")["data"] == "hello"


@pytest.mark.ocirun_only("runc 1.1.5 and crun 1.8 lack most of it")
def test_scheduling(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Scheduler, I/O priority, personality and memory policy of the configuration are for exec too."""
    sleeper.process(
        scheduler={"policy": "SCHED_BATCH", "nice": 5}, ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 3}
    ).linux(personality={"domain": "LINUX32"})
    _, first = start(runtime, sleeper)
    second = execute(runtime, sleeper).ok().report
    for name in ("scheduler", "ioprio", "ioprio_group", "personality", "machine", "mempolicy"):
        # A kernel without NUMA has no memory policies to report.
        assert second.get(name) == first.get(name), name
    assert (second["scheduler"]["policy"], second["scheduler"]["nice"]) == (3, 5)


@pytest.mark.ocirun_only("runc 1.1.5 and crun 1.8 do not know it")
@pytest.mark.parametrize(
    ("affinity", "expected"),
    [({"final": "1"}, 2), ({"initial": "0"}, 1), ({"initial": "0", "final": "1"}, 2), ({"initial": "1", "final": "0-1"}, 3)],
)  # fmt: skip
def test_cpu_affinity(runtime: RuntimeCommand, sleeper: Bundle, affinity: dict[str, str], expected: int) -> None:
    """execCPUAffinity: where the process begins and where it ends up; the container's own process is not concerned."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("machine: one CPU")
    _, first = start(runtime, sleeper.process(execCPUAffinity=affinity))
    second = execute(runtime, sleeper).ok().report
    assert first["affinity"] & 3 == 3
    assert second["affinity"] == expected


@pytest.mark.ocirun_only("runc 1.1.5 and crun 1.8 do not know it")
def test_cpu_affinity_of_no_cpu(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """CPUs that the machine has not are an error that names the place."""
    start(runtime, sleeper.process(execCPUAffinity={"final": "8191"}))
    execute(runtime, sleeper).refused("/process/execCPUAffinity/final: sched_setaffinity: EINVAL")


def test_keyring_is_the_containers(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """S-57: exec joins the container's session keyring, and not the caller's."""
    if not os.path.exists("/proc/keys"):
        pytest.skip("machine: no keyrings in this kernel")
    _, first = start(runtime, sleeper)
    second = execute(runtime, sleeper).ok().report["keyring"]
    assert second["description"].split(";")[-1] == f"_ses.{sleeper.id}"
    assert second["serial"] == first["keyring"]["serial"]


@pytest.mark.ocirun_only("runc makes one for exec all the same")
def test_container_without_a_keyring(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """After --no-new-keyring exec makes none either."""
    start(runtime, sleeper, "--no-new-keyring")
    assert f"_ses.{sleeper.id}" not in str(execute(runtime, sleeper).ok().report["keyring"])


# ---- seccomp ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("source", ["options", "document"])
def test_filter_of_the_container(
    runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, source: str, restricted: bool
) -> None:
    """W18: whatever is executed in the container gets its filter, with no_new_privs and without."""
    sleeper.linux(seccomp=profile(ALLOW, rule(ERRNO, "getsid", errnoRet=errno.EXDEV))).process(noNewPrivileges=restricted)
    start(runtime, sleeper)
    words = ["/probe", "seq", "report", "--", "syscall", "getsid", "0"]
    if source == "options":
        result = execute(runtime, sleeper, program=tuple(words)).ok()
    else:
        path = document(sleeper, workdir / "process.json", args=words, noNewPrivileges=restricted)
        result = execute(runtime, sleeper, "--process", path, program=()).ok()
    assert result.one("syscall")["errno"] == "EXDEV"
    assert result.report["seccomp"]["mode"] == 2
    assert result.report["no_new_privs"] == int(restricted)


@pytest.mark.ocirun_only("the state and pid that the agent is told")
def test_notification(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """SCMP_ACT_NOTIFY: the agent gets a listener of its own for exec, with the pid of the process."""
    path = str(workdir / "agent")
    sleeper.linux(seccomp=profile(
        ALLOW, rule("SCMP_ACT_NOTIFY", "getsid"), listenerPath=path, listenerMetadata="mine",
    ))  # fmt: skip
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(4)
    listener.settimeout(60)

    def take() -> Json:
        connection, _ = listener.accept()
        with connection:
            text, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
        for fd in descriptors:
            os.close(fd)
        return {**json.loads(text), "count": len(descriptors)}

    told: list[Json] = []
    with listener, ThreadPoolExecutor(1) as pool:
        container = runtime.create(sleeper)
        for starts in (lambda: runtime.call("start", sleeper.id).ok(), lambda: execute(runtime, sleeper).ok()):
            taken = pool.submit(take)
            starts()
            told.append(taken.result())
    first, second = told
    assert first["pid"] == container.pid
    assert second["pid"] not in (0, container.pid)
    assert (second["count"], second["fds"], second["metadata"]) == (1, ["seccompFd"], "mine")
    assert second["state"] == {**first["state"], "status": "running"}


# ---- a document of its own -------------------------------------------------------------------------


def test_process_document(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """--process: everything is as the document says."""
    start(runtime, sleeper)
    path = document(
        sleeper, workdir / "process.json",
        user={"uid": 3, "gid": 4, "additionalGids": [5]}, env=["X=1"], cwd="/tmp",
        capabilities={"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}], noNewPrivileges=True,
    )  # fmt: skip
    report = execute(runtime, sleeper, "-p", path, program=()).ok().report
    assert (report["uids"], report["gids"], report["groups"]) == ([3] * 4, [4] * 4, [5])
    assert (report["raw_cwd"], report["no_new_privs"]) == ("/tmp", 1)
    assert report["rlimits"]["RLIMIT_NOFILE"] == [55, 66]
    assert capability_names(report["caps"]["bounding"]) == {"CAP_KILL"}
    assert "X=1" in report["environ"]
    assert "TEST=1" not in report["environ"]


@pytest.mark.ocirun_only("crun keeps what it has")
def test_document_without_capabilities(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """S-38: an empty object is none of them; none said is those of the container, with runc and crun alike."""
    start(runtime, sleeper)
    empty = document(sleeper, workdir / "empty", capabilities={})
    assert set(execute(runtime, sleeper, "-p", empty, program=()).ok().report["caps"].values()) == {0}
    absent = document(sleeper, workdir / "absent")
    caps = execute(runtime, sleeper, "-p", absent, program=()).ok().report["caps"]
    assert capability_names(caps["bounding"]) == set(DEFAULT_CAPABILITIES)


@pytest.mark.ocirun_only("the peers take some from the configuration, and not the same")
def test_document_that_leaves_things_out(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """Limits, OOM score, scheduling and umask are the container's where the document has none."""
    sleeper.process(
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}], oomScoreAdj=800,
        scheduler={"policy": "SCHED_OTHER", "nice": 4}, user={"uid": 0, "gid": 0, "umask": 0o77},
    )  # fmt: skip
    start(runtime, sleeper)
    path = document(sleeper, workdir / "process", args=["/probe", "seq", "report", "--", "read", "/proc/self/oom_score_adj"])
    result = execute(runtime, sleeper, "-p", path, program=()).ok()
    assert result.report["rlimits"]["RLIMIT_NOFILE"] == [55, 66]
    assert (result.report["umask"], result.report["scheduler"]["nice"]) == (0o77, 4)
    assert result.reads["/proc/self/oom_score_adj"].strip() == "800"


WRONG_DOCUMENTS = [
    ("{", ["process document"]),
    ("[]", ["/: "]),
    ('{"cwd": "/", "args": ["a"], "args": ["b"]}', ["/args"]),
    ('{"args": ["a"]}', ["/cwd"]),
    ('{"cwd": "/", "args": []}', ["/args"]),
    ('{"cwd": "x", "args": ["a"]}', ["/cwd: "]),
    ('{"cwd": "/", "args": ["a"], "env": ["x"]}', ["/env/0"]),
    ('{"cwd": "/", "args": ["a"], "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}', ["/rlimits/0/type"]),
    ('{"cwd": "/", "args": ["a"], "user": {"uid": -1, "gid": 0}}', ["/user/uid"]),
    ('{"cwd": "/", "args": ["a"], "user": {"uid": 1000000, "gid": 0}}', ["/user/uid", "not mapped"]),
]


@pytest.mark.ocirun_only("messages with pointers")
def test_document_that_cannot_be(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """The gates of config.json are those of the document; pointers are into the file."""
    start(runtime, sleeper.userns())
    path = workdir / "process.json"
    for text, words in WRONG_DOCUMENTS:
        path.write_text(text)
        result = execute(runtime, sleeper, "-p", str(path), program=())
        result.refused(*words)
        assert result.rc == 255


@pytest.mark.ocirun_only("the words are ours")
@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_document_that_is_no_file(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, kind: str) -> None:
    """A file that is not there is named; a FIFO that nobody writes to does not hang us."""
    start(runtime, sleeper)
    path = workdir / "process.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    execute(runtime, sleeper, "-p", str(path), program=()).refused(str(path))


@pytest.mark.ocirun_only("the peers pass one of the two over")
def test_program_twice_or_not_at_all(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """A document and a program, and neither of them, are refused."""
    start(runtime, sleeper)
    execute(runtime, sleeper, "-p", document(sleeper, workdir / "p"), program=("/probe",)).refused("/probe")
    execute(runtime, sleeper, program=()).refused("the program is missing")


# ---- terminal --------------------------------------------------------------------------------------


@pytest.fixture
def console(workdir: Path) -> Iterator[ConsoleSocket]:
    """A listening console socket."""
    with ConsoleSocket(workdir / "console") as made:
        yield made


@pytest.mark.parametrize("userns", [False, True])
def test_terminal(
    runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, console: ConsoleSocket, userns: bool
) -> None:
    """S-31: a terminal of the container's own devpts, of the asked size, owned by the user; /dev/console is not touched."""
    if userns:
        sleeper.userns()
    start(runtime, sleeper)
    path = document(
        sleeper, workdir / "process.json", terminal=True, consoleSize={"height": 31, "width": 97},
        user={"uid": 1000, "gid": 1000},
        args=["/probe", "seq", "report", "--", "stat", "/dev/console", "/proc/self/fd/0", "/dev/pts/0"],
    )  # fmt: skip
    execute(runtime, sleeper, "-d", "--tty", "--console-socket", str(console.path), "-p", path, program=()).ok()
    master = console.receive()
    assert console.count == 1
    if runtime.name == "ocirun":
        assert window_size(master) == (31, 97)
    report, files = parse_lines(read_terminal(master))
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    assert all(entry["tty"] for entry in report["stdio"])
    assert report["has_ctty"]
    assert report["sid"] == report["pid"]
    by_path = {entry["path"]: entry for entry in files["files"]}
    assert by_path["/proc/self/fd/0"]["rdev"][0] == 136
    assert by_path["/proc/self/fd/0"]["uid"] == 1000
    assert by_path["/dev/pts/0"]["rdev"] == by_path["/proc/self/fd/0"]["rdev"]
    assert "errno" in by_path["/dev/console"]


def test_terminal_that_nobody_gets(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Detached with a terminal takes a console socket."""
    if runtime.name == "crun":
        pytest.skip("peer: crun makes a terminal that nobody can use")
    start(runtime, sleeper)
    execute(runtime, sleeper, "-d", "-t").refused("console")


def test_console_socket_without_a_terminal(runtime: RuntimeCommand, sleeper: Bundle, console: ConsoleSocket) -> None:
    """A console socket and no terminal is a mistake."""
    if runtime.name == "crun":
        pytest.skip("peer: crun ignores the socket")
    start(runtime, sleeper)
    execute(runtime, sleeper, "-d", "--console-socket", str(console.path)).refused("console")


@pytest.mark.ocirun_only("the peers trust the image's file")
def test_devices_of_the_image(runtime: RuntimeCommand, sleeper: Bundle, canary: Canary, console: ConsoleSocket) -> None:
    """CVE-2025-52565: what stands in for ptmx and is none is refused; a false /dev/null is not opened."""
    sleeper.without_mount("/dev").dir("/dev/pts").device("/dev/pts/ptmx", "c", 1, 5).symlink("/dev/null", str(canary.path / "secret"))
    sleeper.mount("/dev", "bind", sleeper.inside("/dev"), "rbind")
    start(runtime, sleeper)
    execute(runtime, sleeper, "-d", "-t", "--console-socket", str(console.path)).refused()
    report = execute(runtime, sleeper).ok().report
    assert report["fds"][0]["rdev"] == [1, 3]
    canary.assert_untouched()


# ---- how it starts, and how it ends ------------------------------------------------------------------


def test_detached(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """-d returns 0 with the pid in the file, while the process runs; it ends with the container."""
    container, _ = start(runtime, sleeper)
    pid_file = workdir / "pid"
    execute(runtime, sleeper, "-d", "--pid-file", str(pid_file), program=("/probe", "sleep")).ok()
    pid = int(pid_file.read_text())
    assert f"NSpid:\t{pid}\t" in Path(f"/proc/{pid}/status").read_text()
    assert Path(f"/proc/{pid}/ns/pid").stat().st_ino == Path(f"/proc/{container.pid}/ns/pid").stat().st_ino
    pidfd = os.pidfd_open(pid)
    try:
        container.kill(9).ok()
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        os.close(pidfd)


@pytest.mark.ocirun_only("runc 1.1 and crun have no --pidfd-socket")
def test_pidfd_socket(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """--pidfd-socket gets a pidfd of the process, with runc's word for one of exec."""
    start(runtime, sleeper)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(workdir / "pidfd"))
        listener.listen(1)
        listener.settimeout(60)
        words = ("-d", "--pidfd-socket", str(workdir / "pidfd"), "--pid-file", str(workdir / "pid"))
        execute(runtime, sleeper, *words, program=("/probe", "exit", "6")).ok()
        connection, _ = listener.accept()
        with connection:
            word, descriptors, _, _ = socket.recv_fds(connection, 100, 2)
    [pidfd] = descriptors
    try:
        assert word == b"setns"
        assert f"Pid:\t{(workdir / 'pid').read_text()}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert found is not None
        assert found.si_status == 6
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("verb", [("exit", "0"), ("exit", "7"), ("exit", "255")])
def test_exit_status(runtime: RuntimeCommand, sleeper: Bundle, verb: tuple[str, ...]) -> None:
    """In the foreground exec ends as the process does."""
    start(runtime, sleeper)
    assert execute(runtime, sleeper, program=("/probe", *verb)).rc == int(verb[1])


UNUSABLE = {
    "nosuch": "executable file not found in $PATH",
    "/nosuch": "no such file or directory",
    "/etc/passwd": "permission denied",
    "/etc": "permission denied",
    "/bad": "exec format error",
    "/orphan": "no such file or directory",
}


@pytest.mark.parametrize("detach", [False, True])
def test_program_that_cannot_run(
    runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, oracle: HostSnapshot, detach: bool
) -> None:
    """255 and runc's words in a JSON line of the log; no pid file, no process, and the container goes on."""
    if runtime.name == "crun":
        pytest.skip("peer: crun has other words, and the status 1")
    sleeper.file("/bad", "no program\n", 0o755).file("/orphan", "#!/nosuch\n", 0o755)
    container, _ = start(runtime, sleeper)
    log, pid_file = workdir / "log", workdir / "pid"
    words = ["--pid-file", str(pid_file), *(["-d"] if detach else [])]
    for program, expected in UNUSABLE.items():
        if runtime.name == "runc" and program in ("/etc", "/orphan", "/bad"):
            continue  # it says that a directory is one, and does not hear of what execve(2) answers
        result = execute(runtime, sleeper, *words, program=(program,), options=["--log", str(log), "--log-format", "json"])
        result.refused(expected)
        assert result.rc == 255
        last = [record for record in map(json.loads, log.read_text().splitlines()) if record["level"] == "error"][-1]
        assert expected.lower() in last["msg"].lower()
        if runtime.name == "ocirun":
            assert not pid_file.exists()
            assert last["json_pointer"] == "/process/args/0"
    assert container.status() == "running"
    container.delete("--force").ok()
    oracle.assert_clean()


# ---- what state the container is in -------------------------------------------------------------------


def test_stopped_container(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """exec in a stopped container, or in none, is an error with the words that engines know."""
    container, _ = start(runtime, sleeper)
    container.kill(9).ok()
    container.wait()
    result = execute(runtime, sleeper)
    if runtime.name == "ocirun":
        result.refused("container not running")
        assert result.rc == 255
    else:
        result.refused()
    runtime.call("exec", "nosuch", "/probe").refused("does not exist")


def test_paused_container(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """exec in a paused container is refused, and goes on when it is resumed with --ignore-paused."""
    if runtime.name == "crun":
        pytest.skip("peer: crun hangs")
    container, _ = start(runtime, sleeper)
    runtime.call("pause", sleeper.id).ok()
    execute(runtime, sleeper).refused("paused")
    words = runtime.command("exec", "--ignore-paused", sleeper.id, "/probe", "exit", "9")
    with started(words, stderr=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.3)
        runtime.call("resume", sleeper.id).ok()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (9, b"")
    assert container.status() == "running"


# ---- cgroups --------------------------------------------------------------------------------------------


@pytest.mark.vm
@pytest.mark.ocirun_only("paths differ")
def test_subgroup(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """--cgroup: a path below the container's cgroup, which has to be there and cannot lead out."""
    container, _ = start(runtime, sleeper.namespaces(without=("cgroup",)))
    shown = Path(f"/proc/{container.pid}/cgroup").read_text()
    trees = [tree for tree in mounted(shown) if tree or PURE]
    for tree in trees:
        top = directory(container.pid, tree.split(",")[0])
        assert top.name == sleeper.id
        (top / "below").mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if "cpuset" in tree:
                (top / "below" / name).write_text((top / name).read_text())
    read = ("/probe", "read", "/proc/self/cgroup")
    shown = execute(runtime, sleeper, "--cgroup", "/below", program=read).ok().reads["/proc/self/cgroup"]
    for line in shown.splitlines():
        if line.split(":")[1] in trees:
            assert line.endswith("/below"), line
    execute(runtime, sleeper, "--cgroup", "nosuch").refused("nosuch")
    for path in ("..", "below/../..", "/../x", "a:.."):
        execute(runtime, sleeper, "--cgroup", path).refused()
    if PURE:
        execute(runtime, sleeper, "--cgroup", "memory:below").refused("memory")
        return
    words = ("--cgroup", "pids:below", "--cgroup", "memory:/")
    shown = execute(runtime, sleeper, *words, program=read).ok().reads["/proc/self/cgroup"]
    assert [line.split(":")[1] for line in shown.splitlines() if line.endswith("/below")] == ["pids"]
    execute(runtime, sleeper, "--cgroup", "nosuch:below").refused("nosuch")
    execute(runtime, sleeper, "--cgroup", "pids:below", "--cgroup", "below").refused("below")


@pytest.mark.unified
@pytest.mark.ocirun_only("kernel 5.7 and a container that delegates")
def test_container_that_has_given_its_controllers_away(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Version 2: where the container's cgroup may hold no process itself, exec goes to its process's (runc #2356)."""
    container, _ = start(runtime, sleeper.namespaces(without=("cgroup",)))
    top = directory(container.pid, "")
    (top / "inner").mkdir()
    (top / "inner" / "cgroup.procs").write_text(str(container.pid))
    (top / "cgroup.subtree_control").write_text("+pids")
    for words in ((), ("--cgroup", "inner")):
        shown = execute(runtime, sleeper, *words, program=("/probe", "read", "/proc/self/cgroup")).ok().reads["/proc/self/cgroup"]
        assert shown.strip().endswith(f"{top.name}/inner")


@pytest.mark.vm
@pytest.mark.ocirun_only("the words are ours")
def test_limit_of_processes(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Where the container may have no more processes exec says so, and nothing is left."""
    container, _ = start(runtime, sleeper.linux(resources={"pids": {"limit": 1}}))
    result = execute(runtime, sleeper)
    result.refused("EAGAIN")
    assert result.rc == 255
    tree = directory(container.pid, "pids")
    assert (tree / "cgroup.procs").read_text().split() == [str(container.pid)]


@pytest.mark.ocirun_only("crun refuses the layout")
@pytest.mark.parametrize("missing", ["clone3", "pidfd_open,pidfd_send_signal", "close_range", "openat2,statx", "memfd_create,execveat"])
def test_without_newer_calls(runtime: RuntimeCommand, sleeper: Bundle, missing: str) -> None:
    """What create falls back to, exec does too: the process comes out the same."""
    container, first = start(runtime, sleeper)
    for error in ("ENOSYS", "EPERM"):
        second = execute(runtime.under(*without(error, *missing.split(","))), sleeper).ok().report
        assert second["namespaces"] == first["namespaces"]
        assert second["fds"][0]["rdev"] == [1, 3]
    assert container.status() == "running"
