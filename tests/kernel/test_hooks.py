# SPDX-License-Identifier: Apache-2.0
"""config.json: hooks (config.md#posix-platform-hooks): when, where, with what, and what if they fail."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import RuntimeCommand
from support.oracle import descendants
from support.report import Json, parse_lines

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
AT_CREATE = KINDS[:3]
HOST_SIDE = ("prestart", "createRuntime", "poststart", "poststop")
INSIDE_LOG = "/hooks.log"


class Log:
    """Adds recording hooks to a bundle and reads what they recorded."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.path = bundle.path / "hooks.log"
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        bundle.spec["hooks"] = self.hooks

    def add(self, kind: str, *options: str, **members: Any) -> Log:
        """Append a hook of a kind; `options` are those of the probe's verb "hook"."""
        inside = kind == "startContainer"
        log = INSIDE_LOG if inside else str(self.path)
        entry: dict[str, Any] = {
            "path": "/probe" if inside else str(self.bundle.rootfs / "probe"),
            "args": ["the-hook", "hook", log, "--tag", kind, *options],
        }
        entry.update(members)
        self.hooks.setdefault(kind, []).append({k: v for k, v in entry.items() if v is not None})
        return self

    def every(self) -> Log:
        """One hook of each kind."""
        for kind in KINDS:
            self.add(kind)
        return self

    def records(self) -> list[Json]:
        """Return all records in the order of the two logs."""
        found = []
        for path in (self.path, self.bundle.inside(INSIDE_LOG)):
            if path.exists():
                found += parse_lines(path.read_bytes())
        return found

    def tags(self) -> list[str]:
        """Return the kinds that ran, in order, those on the host first."""
        return [record["tag"] for record in self.records()]


@pytest.fixture
def log(bundle: Bundle) -> Log:
    """The hooks of the bundle."""
    return Log(bundle)


def host_namespaces() -> dict[str, int]:
    """Return the inodes of the caller's namespaces."""
    return {n: os.stat(f"/proc/self/ns/{n}").st_ino for n in ("mnt", "pid", "net", "ipc", "uts")}


# ---- when and where ------------------------------------------------------------------------------


@pytest.mark.peer_fails(runc="1.1 runs poststart hooks in create")
def test_each_kind_at_its_time(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """create runs three kinds, start two, delete the last; several of a kind in listed order."""
    log.every()
    for kind in KINDS:
        log.add(kind, "--tag", kind)
        log.hooks[kind][1]["args"][4] = f"{kind}-second"
    container = runtime.create(bundle.seq("ready", "sleep"))

    def both(*kinds: str) -> list[str]:
        return [tag for kind in kinds for tag in (kind, f"{kind}-second")]

    assert log.tags() == both(*AT_CREATE)
    container.start()
    container.line()
    assert log.tags() == both(*AT_CREATE, "poststart", "startContainer")
    container.kill(signal.SIGKILL)
    container.wait()
    assert "poststop" not in log.tags()
    container.delete().ok()
    assert log.tags() == both(*AT_CREATE, "poststart", "poststop", "startContainer")


def test_start_container_runs_before_the_program(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """startContainer hooks have run when the program begins."""
    log.add("startContainer")
    result = runtime.run(bundle.seq(["read", INSIDE_LOG])).ok()
    (record,) = parse_lines(result.reads[INSIDE_LOG].encode())
    assert record["tag"] == "startContainer"


def test_namespaces(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-58: four kinds run in the caller's namespaces, two in the container's."""
    log.every()
    report = runtime.report(bundle)
    host = host_namespaces()
    records = {record["tag"]: record for record in log.records()}
    assert set(records) == set(KINDS)
    for kind, record in records.items():
        wanted = host if kind in HOST_SIDE else report["namespaces"]
        for name in ("mnt", "net", "ipc", "uts", "pid"):
            if name in record["namespaces"]:
                assert record["namespaces"][name] == wanted[name], (kind, name)
    # createContainer still sees the host's tree (it could write its log there), startContainer the root
    assert records["startContainer"]["root"]["ino"] == bundle.rootfs.stat().st_ino
    assert records["createContainer"]["root"]["ino"] != bundle.rootfs.stat().st_ino


def test_create_container_path_is_the_hosts(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-58: the image cannot put a program of its own in the place of a createContainer hook."""
    tools = bundle.path / "tools"
    tools.mkdir()
    program = tools / "hook"
    program.write_bytes(bundle.inside("/probe").read_bytes())
    program.chmod(0o755)
    bundle.file(str(program), "#!/probe create /image-code-ran x\n", 0o755)
    log.add("createContainer", path=str(program))
    runtime.run(bundle).ok()
    assert log.tags() == ["createContainer"]
    assert not bundle.inside("/image-code-ran").exists()


# ---- with what -----------------------------------------------------------------------------------


@pytest.mark.peer_fails(
    runc="1.1 runs poststart hooks in create",
    crun="says created for creating, starting for created, and pid 0 inside",
)
def test_state_on_stdin(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """Each kind gets the state of its moment: status, pid, id, bundle and annotations."""
    log.every()
    bundle.patch({"annotations": {"org.example.key": "välue", "bundle": "not the bundle"}})
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    container.delete("--force").ok()
    states = {record["tag"]: json.loads(record["stdin"]) for record in log.records()}
    assert set(states) == set(KINDS)
    for kind, state in states.items():
        assert state["id"] == bundle.id, kind
        assert state["bundle"] == str(bundle.path), kind
        assert state["ociVersion"], kind
        assert state["annotations"]["org.example.key"] == "välue", kind
    wanted = dict.fromkeys(AT_CREATE, "creating")
    wanted |= {"startContainer": "created", "poststart": "running", "poststop": "stopped"}
    assert {kind: state["status"] for kind, state in states.items()} == wanted
    for kind in ("prestart", "createRuntime", "poststart"):
        assert states[kind]["pid"] == container.pid
    assert states["startContainer"]["pid"] == 1


def test_environment_is_exactly_the_hooks(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-58, CVE-2025-23266: neither the caller's nor the container's environment arrives."""
    env = ["A=1", "B=two words", "PATH=/bin"]
    for kind in KINDS:
        log.add(kind, env=env)
    bundle.process(env=["LD_PRELOAD=/evil.so", "PATH=/", "FROM_CONTAINER=1"])
    caller = {"LD_PRELOAD": "", "GLIBC_TUNABLES": "", "PYTHONPATH": "/nowhere", "SECRET": "x"}
    runtime.run(bundle, env=caller).ok()
    for record in log.records():
        assert record["environ"] == env, record["tag"]


@pytest.mark.peer_fails(
    runc="a hook without env inherits the runtime's environment",
    crun="a hook without env inherits the runtime's environment",
)
def test_environment_absent_is_empty(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-58: a hook without env gets an empty environment."""
    log.every()
    bundle.process(env=["FROM_CONTAINER=1"])
    runtime.run(bundle, env={"SECRET": "x"}).ok()
    for record in log.records():
        assert record["environ"] == [], record["tag"]


def test_arguments(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """args are those of execv: args[0] is what the program sees as its name."""
    log.every()
    runtime.run(bundle).ok()
    for record in log.records():
        assert record["argv"][:2] == ["the-hook", "hook"], record["tag"]


@pytest.mark.peer_fails(runc="keeps blocked or ignored signals of the caller", crun="does not reset the signals")
def test_descriptors_signals_and_directory(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-58: three descriptors, no signal blocked or ignored, the bundle as working directory."""

    def odd() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
        os.umask(0o077)

    log.every()
    runtime.run(bundle, before_exec=odd, cwd="/").ok()
    for record in log.records():
        kind = record["tag"]
        assert [entry["fd"] for entry in record["fds"]] == [0, 1, 2], kind
        assert record["signals"] == {"blocked": 0, "pending": 0, "ignored": 0, "caught": 0}, kind
        if kind in HOST_SIDE:
            assert record["raw_cwd"] == str(bundle.path), kind


@pytest.mark.peer_fails(runc="hooks get descriptors of its own", crun="hooks get what the caller preserves")
def test_preserved_descriptors_are_the_programs(runtime: RuntimeCommand, bundle: Bundle, log: Log, workdir: Path) -> None:
    """--preserve-fds is for the container's process: no hook gets what it keeps."""
    log.every()
    (workdir / "kept").write_text("")
    with (workdir / "kept").open() as kept:
        result = runtime.run(
            bundle.seq("report"), "--preserve-fds", "1", close_fds=False, before_exec=lambda: os.dup2(kept.fileno(), 3)
        )
    assert [entry["fd"] for entry in result.ok().report["fds"]] == [0, 1, 2, 3]
    records = {record["tag"]: record for record in log.records()}
    assert set(records) == set(KINDS)
    for kind, record in records.items():
        assert [entry["fd"] for entry in record["fds"]] == [0, 1, 2], kind


@pytest.mark.parametrize("userns", [False, pytest.param(True, marks=pytest.mark.userns)])
def test_directory_of_hooks_in_the_container(
    runtime: RuntimeCommand, bundle: Bundle, log: Log, userns: bool
) -> None:
    """Not where the caller was: createContainer hooks are in the root, startContainer hooks where the process will be."""
    log.add("createContainer").add("startContainer")
    bundle.dir("/somewhere").process(cwd="/somewhere")
    if userns:
        bundle.userns()
    bundle.file(INSIDE_LOG, mode=0o666)
    log.path.touch(0o666)
    log.path.chmod(0o666)
    log.path.parent.chmod(0o755)
    runtime.run(bundle, cwd="/proc").ok()
    records = {record["tag"]: record for record in log.records()}
    assert records["startContainer"]["raw_cwd"] == "/somewhere"
    assert records["createContainer"]["raw_cwd"] == str(bundle.rootfs)


# ---- what the image's own programs may do ----------------------------------------------------------

EXDEV_FOR_GETSID = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}],
}


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("nnp", [True, False])
def test_start_container_hooks_are_confined(
    runtime: RuntimeCommand, bundle: Bundle, log: Log, nnp: bool, uid: int
) -> None:
    """A startContainer hook is a program of the image: it has no more privileges than the process that it precedes."""
    bundle.file(INSIDE_LOG, mode=0o666).linux(seccomp=EXDEV_FOR_GETSID)
    bundle.process(noNewPrivileges=nnp, user={"uid": uid, "gid": uid})
    log.add("startContainer").add("startContainer", path="/probe", args=["probe", "syscall", "getsid", "0"])
    result = runtime.run(bundle.seq("report")).ok()
    assert result.one("syscall")["errno"] == "EXDEV"
    (record,) = log.records()
    for name in ("no_new_privs", "seccomp", "caps", "uids", "gids", "groups"):
        assert record[name] == result.report[name], name
    assert record["seccomp"] == {"mode": 2, "filters": 1}


@pytest.mark.ocirun_only("the filter is loaded for the runtime's own system calls as well")
def test_profile_is_for_the_hook_alone(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What it takes to run a hook need not be allowed."""
    names = "execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom mprotect"
    rule = {"names": [*names.split(), "exit_group"], "action": "SCMP_ACT_ALLOW"}
    bundle.linux(seccomp={"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]})
    bundle.patch({"hooks": {"startContainer": [{"path": "/probe", "args": ["probe", "exit", "0"]}]}})
    bundle.process(noNewPrivileges=True).args("exit", "23")
    assert runtime.run(bundle).rc == 23
    bundle.again().patch({"hooks": {"startContainer": [{"path": "/probe", "args": ["probe", "report"]}]}})
    runtime.run(bundle).refused("/hooks/startContainer/0", "killed by signal 31")


@pytest.mark.ocirun_only("they ask their agent")
def test_hooks_have_no_agent(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """What an agent would have to decide is ENOSYS for a hook; nothing waits for an answer."""
    rule = {"names": ["getsid"], "action": "SCMP_ACT_NOTIFY"}
    path = workdir / "agent"
    bundle.linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": str(path)})
    bundle.patch({"hooks": {"startContainer": [{"path": "/probe", "args": ["probe", "syscall", "getsid", "0"]}]}})
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        result = runtime.run(bundle.seq("ready")).ok()
    assert result.one("syscall")["errno"] == "ENOSYS"


def test_hooks_read_their_state_whatever_the_limits(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """RLIMIT_FSIZE of the process is not in the way of the state that its hooks get."""
    bundle.process(rlimits=[{"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0}])
    bundle.patch({"hooks": {"startContainer": [{"path": "/probe", "args": ["probe", "read", "/dev/stdin"]}]}})
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    assert json.loads(container.line()["data"])["id"] == bundle.id


def test_umask(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """No hook makes files that everybody may write."""
    log.every()
    runtime.run(bundle).ok()
    assert {record["tag"]: record["umask"] for record in log.records()} == dict.fromkeys(KINDS, 0o022)


def test_container_is_not_yet_started_for_the_early_hooks(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """prestart and createRuntime can enter the container's namespaces by the pid of the state."""
    log.add("prestart").add("createRuntime")
    container = runtime.create(bundle.seq("ready", "sleep"))
    pids = {json.loads(record["stdin"])["pid"] for record in log.records()}
    assert pids == {container.pid}


# ---- failures ------------------------------------------------------------------------------------

FATAL = ("prestart", "createRuntime", "createContainer", "startContainer")
WAYS = {
    "exit": {"options": ("--fail", "3")},
    "signal": {"options": ("--signal", "9")},
    "missing": {"path": "/no/such/hook"},
    "not-executable": {"path": "/etc/passwd"},
}


@pytest.mark.parametrize("kind", FATAL)
@pytest.mark.parametrize("way", list(WAYS))
def test_fatal_hooks(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str, way: str) -> None:
    """S-60: a failing hook ends the container: later hooks are skipped, poststop runs, nothing is left."""
    how: dict[str, Any] = dict(WAYS[way])
    log.add(kind, *how.pop("options", ()), **how).add(kind).add("poststop")
    bundle.args("create", "/program-ran", "x")
    result = runtime.run(bundle)
    result.refused()
    ran = log.tags()
    assert ran.count(kind) == (0 if "path" in WAYS[way] else 1), ran
    assert ran.count("poststop") == 1, ran
    assert not bundle.inside("/program-ran").exists()
    runtime.call("state", bundle.id).refused("does not exist")


@pytest.mark.parametrize("kind", FATAL)
def test_failing_hook_is_named(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str) -> None:
    """The error names the hook and repeats what it wrote to stderr."""
    log.add(kind, "--say", "this is why\n", "--fail", "1")
    result = runtime.run(bundle).refused("hook")
    if runtime.name == "ocirun":
        result.refused(kind, "this is why")


@pytest.mark.parametrize("kind", AT_CREATE)
def test_create_fails_with_its_hooks(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str) -> None:
    """create itself fails, and the ID is free again."""
    log.add(kind, "--fail", "1").add("poststop")
    runtime.try_create(bundle).refused()
    runtime.call("state", bundle.id).refused("does not exist")
    del bundle.spec["hooks"]
    runtime.create(bundle).delete("--force").ok()


@pytest.mark.ocirun_only("1.1.5 and 1.8.1 start the program, or leave the container")
def test_start_fails_with_its_hooks(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """A failing startContainer hook makes start fail; the container is gone and poststop ran."""
    log.add("startContainer", "--fail", "1").add("poststop")
    container = runtime.create(bundle.args("create", "/program-ran", "x"))
    runtime.call("start", container.id).refused("startContainer")
    assert "poststop" in log.tags()
    runtime.call("state", bundle.id).refused("does not exist")
    assert not bundle.inside("/program-ran").exists()


@pytest.mark.ocirun_only("fatal since version 1.3 of the specification only")
@pytest.mark.parametrize("way", list(WAYS))
def test_poststart_failure_ends_the_container(runtime: RuntimeCommand, bundle: Bundle, log: Log, way: str) -> None:
    """A failing poststart hook makes start fail; the container is stopped and poststop runs."""
    how: dict[str, Any] = dict(WAYS[way])
    log.add("poststart", *how.pop("options", ()), **how).add("poststop")
    container = runtime.create(bundle.seq("ready", "sleep"))
    runtime.call("start", container.id).refused("poststart")
    container.wait()
    runtime.call("delete", "--force", container.id).ok()
    assert log.tags().count("poststop") == 1


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.peer_fails(runc="the first failing poststop hook ends the list")
def test_poststop_failure_is_a_warning(runtime: RuntimeCommand, bundle: Bundle, log: Log, way: str) -> None:
    """W1: a failing poststop hook does not stop the next one, nor delete."""
    how: dict[str, Any] = dict(WAYS[way])
    log.add("poststop", *how.pop("options", ()), **how).add("poststop", tag=None)
    container = runtime.create(bundle.args("exit", "0")).start()
    container.wait()
    container.delete().ok()
    assert log.tags().count("poststop") == (1 if "path" in WAYS[way] else 2)
    runtime.call("state", bundle.id).refused("does not exist")


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_timeout(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str) -> None:
    """S-60: a hook that hangs is ended after its timeout, and that is a failure."""
    log.add(kind, "--hang", timeout=1).add("poststop")
    runtime.run(bundle).refused()
    assert log.tags().count("poststop") == 1


@pytest.mark.ocirun_only("only the direct child is killed")
def test_timeout_ends_the_whole_group(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-60: what a timed-out hook started ends with it."""
    log.add("createRuntime", "--daemon", "--hang", timeout=1)
    runtime.run(bundle).refused("createRuntime")
    until(lambda: "probe" not in descendants().values(), "what the hook started is gone")


@pytest.mark.ocirun_only("only the direct child is killed")
def test_timeout_ends_a_hook_that_left_its_group(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A createContainer hook that went into its parent's group ends at its timeout as well."""
    program = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); signal.pause()"
    hook = {"path": sys.executable, "args": ["python", "-I", "-S", "-c", program], "timeout": 1}
    bundle.patch({"hooks": {"createContainer": [hook]}})
    runtime.try_create(bundle).refused("/hooks/createContainer/0", "timed out")


@pytest.mark.parametrize("timeout", [0, -1, "1"])
@pytest.mark.ocirun_only("not checked")
def test_timeout_must_be_positive(runtime: RuntimeCommand, bundle: Bundle, log: Log, timeout: Any) -> None:
    """A timeout has to be a number greater than zero."""
    log.add("createRuntime", timeout=timeout)
    runtime.run(bundle).refused("timeout")
    assert log.tags() == []


@pytest.mark.parametrize("kind", KINDS)
def test_hook_that_does_not_read_and_writes_a_lot(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str) -> None:
    """S-60: not reading stdin and writing megabytes does no harm."""
    log.add(kind, "--no-stdin", "--flood", "3000000")
    bundle.patch({"annotations": {f"org.example.{n}": "x" * 1000 for n in range(200)}})
    runtime.run(bundle.args("exit", "0")).ok()
    assert log.tags() == [kind]


@pytest.mark.ocirun_only("runc waits for the end of the daemon's output")
def test_hook_that_writes_for_ever(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-60: output without end keeps nobody from seeing that the time of a hook is over, or that it has ended."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "exec yes"], "env": ["PATH=/usr/bin:/bin"], "timeout": 1}
    bundle.args("exit", "0").patch({"hooks": {"createRuntime": [hook]}})
    runtime.run(bundle).refused("/hooks/createRuntime/0", "timed out")
    bundle.again().patch({"hooks": {"createRuntime": [hook | {"args": ["sh", "-c", "yes & exit 0"], "timeout": 60}]}})
    runtime.run(bundle).ok()


@pytest.mark.ocirun_only("runc waits for the end of the daemon's output")
def test_daemon_of_a_hook(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """S-60: a hook may leave a daemon behind that holds its output open."""
    for kind in ("createRuntime", "poststart", "poststop"):
        log.add(kind, "--daemon")
    try:
        runtime.run(bundle.args("exit", "0")).ok()
    finally:
        for pid, name in descendants().items():
            if name == "probe":
                os.kill(pid, signal.SIGKILL)


@pytest.mark.ocirun_only("runc leaves its cgroups when it is killed in create")
@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_hook_that_kills_its_parent(runtime: RuntimeCommand, bundle: Bundle, log: Log, kind: str) -> None:
    """S-60: after the runtime was killed from a hook, delete --force leaves nothing."""
    log.add(kind, "--kill-parent")
    result = runtime.try_create(bundle)
    assert result.rc != 0
    runtime.call("delete", "--force", bundle.id).ok()
    runtime.call("state", bundle.id).refused("does not exist")


@pytest.mark.parametrize(
    "hook",
    [
        {"path": "relative/path"},
        {"path": ""},
        {},
        {"path": 5},
        {"path": "/x", "args": "not a list"},
    ],
    ids=str,
)
@pytest.mark.ocirun_only("not all of them are checked before anything is done")
def test_hook_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, log: Log, hook: dict[str, Any]) -> None:
    """A hook needs an absolute path; the refusal comes before any hook has run."""
    log.add("prestart")
    bundle.spec["hooks"]["createRuntime"] = [hook]
    runtime.run(bundle).refused("hooks")
    assert log.tags() == []


def test_hooks_of_the_created_container_count(runtime: RuntimeCommand, bundle: Bundle, log: Log) -> None:
    """Changing config.json after create changes nothing: the hooks of create run."""
    log.every()
    container = runtime.create(bundle.args("exit", "0"))
    Path(bundle.path, "config.json").write_text('{"ociVersion": "1.0.2"}')
    container.start()
    container.wait()
    container.delete().ok()
    assert set(log.tags()) == set(KINDS)
