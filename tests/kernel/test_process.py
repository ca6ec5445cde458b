# SPDX-License-Identifier: Apache-2.0
"""config.json: process (config.md#process, config.md#posix-process, config.md#linux-process)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.machine import has_compat

from ocirun.plan.process import RLIMITS

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
INFINITY = 0xFFFFFFFFFFFFFFFF
PR_CAPBSET_DROP = 24
CAP_SYS_RESOURCE = 24
# What a program can live with; all others get 5000.
BEARABLE = {"RLIMIT_AS": 1 << 40, "RLIMIT_DATA": 1 << 39, "RLIMIT_FSIZE": 1 << 30, "RLIMIT_STACK": 1 << 23}


def without_home(environ: list[str]) -> list[str]:
    """Drop the HOME that all runtimes add when the configuration has none."""
    return [entry for entry in environ if not entry.startswith("HOME=")]


# ---- args, env, cwd ------------------------------------------------------------------------------


def test_args_and_env_arrive_byte_for_byte(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Odd arguments and variables reach the program unchanged and in order."""
    odd = ["", "a b", "new\nline", "tab\t", "quote\"'\\", "$HOME", "%s{}", "žlutý €𝄞", "--", "-x"]
    env = ["Z=last", "PATH=/bin:/", "A=first", "EMPTY=", "EQ=a=b", "U=žluť", "NL=a\nb", "HOME=/x"]
    bundle.patch({"process": {"args": ["/probe", "report", *odd], "env": env}})
    report = runtime.report(bundle)
    assert report["argv"] == ["/probe", "report", *odd]
    assert report["environ"] == env


def test_nothing_of_the_callers_environment_arrives(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-12: the runtime's own environment is not visible in the container."""
    bundle.process(env=[])
    bundle.seq("report", ["read", "/proc/1/environ"])
    result = runtime.run(bundle, env={"SECRET": "canary", "LD_PRELOAD": "", "LC_ALL": "C"}).ok()
    assert without_home(result.report["environ"]) == []
    assert "canary" not in result.reads["/proc/1/environ"]


def test_home_is_never_taken_from_the_caller(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A HOME that the runtime adds comes from the image or is "/"."""
    bundle.process(env=["PATH=/"])
    environ = runtime.report(bundle, env={"HOME": "/home/of/caller"})["environ"]
    assert set(environ) <= {"PATH=/", "HOME=/root", "HOME=/"}


def test_cwd(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """The working directory is the configured one; a missing one is made."""
    report = runtime.report(mkbundle({"process": {"cwd": "/tmp"}}))
    assert report["raw_cwd"] == "/tmp"
    bundle = mkbundle({"process": {"cwd": "/new/work/dir"}})
    assert runtime.report(bundle)["raw_cwd"] == "/new/work/dir"
    assert bundle.inside("/new/work/dir").stat().st_mode & 0o7777 == 0o755


def test_cwd_through_a_link_stays_inside(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A working directory behind a link is the one inside the root."""
    bundle.symlink("/w", "../../../../tmp").process(cwd="/w")
    bundle.args("walk-up")
    walk = runtime.run(bundle).ok().one("walk-up")
    assert (walk["raw_cwd"], walk["at_root"]) == ("/tmp", True)


@pytest.mark.parametrize("cwd", ["relative", "", "./tmp"])
def test_cwd_must_be_absolute(runtime: RuntimeCommand, bundle: Bundle, cwd: str) -> None:
    """A relative working directory is refused."""
    runtime.run(bundle.process(cwd=cwd)).refused("cwd")


def test_cwd_that_is_a_file(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A working directory that is a file is an error of create."""
    runtime.run(bundle.process(cwd="/etc/passwd")).refused()


def test_cwd_only_the_user_may_enter(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A directory that the container's user owns and others may not enter works."""
    bundle.dir("/home", 0o755).dir("/home/user", 0o700)
    os.chown(bundle.inside("/home/user"), 1000, 1000)
    bundle.process(cwd="/home/user", user={"uid": 1000, "gid": 1000}).capabilities()
    assert runtime.report(bundle)["raw_cwd"] == "/home/user"


# ---- which program -------------------------------------------------------------------------------


def test_program_is_found_in_the_containers_path(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """args[0] without a slash is looked up in the configured PATH, inside the root."""
    bundle.dir("/bin")
    os.link(bundle.inside("/probe"), bundle.inside("/bin/other"))
    bundle.patch({"process": {"args": ["other", "report"], "env": ["PATH=/none:/bin"]}})
    assert runtime.report(bundle)["argv"][0] == "other"


@pytest.mark.parametrize(
    ("args0", "words"),
    [
        ("nosuchprogram", ("executable file not found in $PATH",)),
        ("/nosuch", ("no such file or directory",)),
        ("/etc/passwd", ("permission denied",)),
        ("/etc", ()),
        ("", ()),
    ],
)
def test_program_that_cannot_run_is_reported_by_create(
    runtime: RuntimeCommand, bundle: Bundle, args0: str, words: tuple[str, ...]
) -> None:
    """create fails with the words that engines look for, and leaves nothing."""
    bundle.patch({"process": {"args": [args0]}})
    runtime.try_create(bundle).refused(*words)
    runtime.call("state", bundle.id).refused("does not exist")


def test_program_of_a_wrong_format(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A file that the kernel cannot execute: "exec format error"."""
    bundle.file("/garbage", b"\x01\x02\x03 garbage", 0o755).patch({"process": {"args": ["/garbage"]}})
    runtime.run(bundle).refused("exec format error")


def test_script_with_interpreter(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A script is run by its interpreter inside the root."""
    bundle.file("/script", "#!/probe echo\n", 0o755).patch({"process": {"args": ["/script", "x"]}})
    assert runtime.run(bundle).ok().stdout == b"/script x\n"


def test_program_only_the_user_may_execute(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The lookup is done with the rights of the container's user."""
    bundle.dir("/private", 0o700)
    os.link(bundle.inside("/probe"), bundle.inside("/private/probe"))
    os.chown(bundle.inside("/private"), 1000, 1000)
    user = {"uid": 1000, "gid": 1000}
    bundle.patch({"process": {"args": ["/private/probe", "report"], "user": user}}).capabilities()
    assert runtime.report(bundle)["uids"] == [1000] * 4


@pytest.mark.parametrize("process", [{"args": []}, {"args": None}, {"args": "report"}])
def test_args_must_have_a_program(runtime: RuntimeCommand, bundle: Bundle, process: dict[str, Any]) -> None:
    """process.args needs at least one entry, of strings, in a list."""
    runtime.run(bundle.process(**process)).refused()


def test_what_windows_has_instead(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """commandLine and user.username are Windows's: they change nothing, and take the place of nothing."""
    bundle.process(commandLine="/probe exit 3", user={"uid": 1000, "gid": 1000, "username": "root"})
    assert runtime.report(bundle)["uids"] == [1000] * 4
    if runtime.name == "ocirun":
        bundle.again().process(args=None)
        runtime.run(bundle).refused("/process/args")


# ---- exit status and stdio -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status(runtime: RuntimeCommand, bundle: Bundle, code: int) -> None:
    """run exits as the program did."""
    assert runtime.run(bundle.args("exit", str(code))).rc == code


def test_exit_by_signal(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """run exits with 128+N for a program killed by signal N."""
    # Signals to oneself are not delivered to pid 1, so the killer is outside.
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    container.kill(signal.SIGKILL).ok()
    assert container.wait() == 128 + signal.SIGKILL
    bundle.again().namespaces(without=("pid",)).seq(["syscall", "kill", "0", "9"])
    assert runtime.run(bundle).rc == 137


def test_stdio_is_the_callers(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """stdin arrives whole and stdout and stderr stay apart."""
    data = bytes(range(256)) * 4096
    assert runtime.run(bundle.args("cat"), stdin=data).ok().stdout == data
    bundle.again().args("nosuchverb")
    result = runtime.run(bundle)
    assert (result.rc, result.stdout) == (125, b"")
    assert "unknown verb nosuchverb" in result.stderr


def test_session_without_terminal(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without a terminal the program leads a session of its own that has no controlling terminal."""
    report = runtime.report(bundle)
    assert (report["pid"], report["sid"], report["pgid"]) == (1, 1, 1)
    assert (report["tty_nr"], report["has_ctty"]) == (0, False)


# ---- user ----------------------------------------------------------------------------------------


def test_ids(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All four uids and gids are the configured ones, and a plain user keeps no capability."""
    bundle.process(user={"uid": 1000, "gid": 2000})
    report = runtime.report(bundle)
    assert report["uids"] == [1000] * 4
    assert report["gids"] == [2000] * 4
    assert report["groups"] == []
    assert report["caps"]["effective"] == report["caps"]["permitted"] == 0
    assert report["at_secure"] == 0
    assert report["dumpable"] == 1


@pytest.mark.parametrize(
    "user",
    [
        {"uid": -1, "gid": 0},
        {"uid": 0, "gid": -1},
        {"uid": 4294967295, "gid": 0},
        {"uid": 0, "gid": 4294967295},
        {"uid": 4294967296, "gid": 0},
        {"uid": "1000", "gid": 0},
        {"uid": 1.5, "gid": 0},
        {"uid": True, "gid": 0},
        {"uid": 0, "gid": 0, "additionalGids": [-1]},
        {"uid": 0, "gid": 0, "additionalGids": [4294967295]},
    ],
)
def test_ids_out_of_range(runtime: RuntimeCommand, bundle: Bundle, user: dict[str, Any]) -> None:
    """S-40: an id that is no id is refused; -1 would mean "no change" to the kernel."""
    runtime.run(bundle.patch({"process": {"user": user}})).refused("user")


def test_numeric_id_is_never_looked_up(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-40: a passwd line whose name is a number does not change who runs."""
    bundle.file("/etc/passwd", "1000:x:0:0::/:\nroot:x:0:0::/:\n")
    bundle.process(user={"uid": 1000, "gid": 1000})
    assert runtime.report(bundle)["uids"] == [1000] * 4


@pytest.mark.parametrize("want", [None, [], [5, 6], [1000], [7, 7, 8], list(range(3000, 3300))], ids=str)
def test_groups_are_exactly_the_configured_ones(
    runtime: RuntimeCommand, bundle: Bundle, want: list[int] | None
) -> None:
    """S-41: the caller's groups never reach the container; the list is installed as it is."""
    user: dict[str, Any] = {"uid": 1000, "gid": 1000}
    if want is not None:
        user["additionalGids"] = want
    bundle.process(user=user)
    report = runtime.report(bundle, before_exec=lambda: os.setgroups([0, 4, 27, 44]))
    assert sorted(set(report["groups"])) == sorted(set(want or []))


@pytest.mark.userns
def test_unmapped_ids_are_refused(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-41: ids that the user namespace does not map make create fail."""
    for user in (
        {"uid": 70000, "gid": 0},
        {"uid": 0, "gid": 70000},
        {"uid": 0, "gid": 0, "additionalGids": [70000]},
    ):
        runtime.run(mkbundle({"process": {"user": user}}).userns()).refused()


@pytest.mark.parametrize(("value", "expected"), [(None, 0o022), (0o027, 0o027), (0, 0), (0o777, 0o777)])
def test_umask(runtime: RuntimeCommand, bundle: Bundle, value: int | None, expected: int) -> None:
    """The umask is the configured one and 0022 by default, whatever the caller's is."""
    if value is not None:
        bundle.process(user={"umask": value})
    assert runtime.report(bundle, before_exec=lambda: os.umask(0o077))["umask"] == expected


# ---- limits and attributes -----------------------------------------------------------------------


def test_rlimits(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Every kind of limit is set, and those that are not named are the caller's."""
    want = {
        "RLIMIT_AS": (1 << 40, 1 << 41),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_CPU": (1000, 2000),
        "RLIMIT_DATA": (1 << 39, INFINITY),
        "RLIMIT_FSIZE": (1 << 30, 1 << 31),
        "RLIMIT_LOCKS": (100, 200),
        "RLIMIT_MEMLOCK": (65536, 65536),
        "RLIMIT_MSGQUEUE": (1000, 2000),
        "RLIMIT_NOFILE": (300, 400),
        "RLIMIT_NPROC": (5000, 6000),
        "RLIMIT_RSS": (1 << 33, 1 << 34),
        "RLIMIT_SIGPENDING": (64, 128),
    }
    bundle.process(rlimits=[{"type": k, "soft": s, "hard": h} for k, (s, h) in want.items()])
    report = runtime.report(bundle)
    assert {name: tuple(report["rlimits"][name]) for name in want} == want
    stack = [value & INFINITY for value in resource.getrlimit(resource.RLIMIT_STACK)]
    assert report["rlimits"]["RLIMIT_STACK"] == stack


@pytest.mark.parametrize("name", sorted(RLIMITS))
def test_each_rlimit(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """W9, config.md: getrlimit(2) of each kind says in the container what config.json says."""
    smallest = {"RLIMIT_AS": 1 << 30, "RLIMIT_DATA": 1 << 30, "RLIMIT_STACK": 1 << 20, "RLIMIT_CPU": 100}
    soft = smallest.get(name, 1 << 20 if name == "RLIMIT_FSIZE" else 8)
    hard = min(soft + 1, resource.getrlimit(RLIMITS[name])[1] & INFINITY)
    bundle.process(rlimits=[{"type": name, "soft": min(soft, hard), "hard": hard}])
    assert runtime.report(bundle)["rlimits"][name] == [min(soft, hard), hard]


def lowered_limit(name: str) -> tuple[int, Callable[[], None]]:
    """Return a hard limit for the runtime, and what sets it there."""
    limit = min(BEARABLE.get(name, 5000), resource.getrlimit(RLIMITS[name])[1] & INFINITY)
    return limit, lambda: resource.setrlimit(RLIMITS[name], (limit, limit))


@pytest.mark.parametrize("userns", [False, pytest.param(True, marks=pytest.mark.userns)])
@pytest.mark.parametrize("name", sorted(RLIMITS))
def test_rlimit_may_not_be_raised(runtime: RuntimeCommand, bundle: Bundle, name: str, userns: bool) -> None:
    """setrlimit(2): without CAP_SYS_RESOURCE a hard limit above the caller's is an error that names the entry."""
    if userns:
        bundle.userns()
    limit, lower_own = lowered_limit(name)
    libc = ctypes.CDLL(None)

    def without_privilege() -> None:
        lower_own()
        libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)

    bundle.process(rlimits=[{"type": name, "soft": limit, "hard": limit + 1}])
    result = runtime.run(bundle, before_exec=without_privilege)
    result.refused(*(("/process/rlimits/0", "EPERM") if runtime.name == "ocirun" else ()))


@pytest.mark.sys_resource
@pytest.mark.parametrize("userns", [False, pytest.param(True, marks=pytest.mark.userns)])
def test_rlimits_raised(runtime: RuntimeCommand, bundle: Bundle, userns: bool) -> None:
    """setrlimit(2): CAP_SYS_RESOURCE over the host raises each, and a new user namespace does not take that away."""
    if userns:
        bundle.userns()
    lowered = {name: lowered_limit(name) for name in RLIMITS}

    def lower_own() -> None:
        for _, lower in lowered.values():
            lower()

    bundle.process(rlimits=[{"type": name, "soft": limit + 1, "hard": limit + 2} for name, (limit, _) in lowered.items()])
    report = runtime.report(bundle, before_exec=lower_own)["rlimits"]
    assert {name: report[name] for name in lowered} == {name: [limit + 1, limit + 2] for name, (limit, _) in lowered.items()}


@pytest.mark.peer_fails(runc="duplicate rlimits: the last wins", crun="duplicate rlimits: the last wins")
def test_rlimits_duplicate(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Two entries of one type are an error."""
    entry = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}
    runtime.run(bundle.process(rlimits=[entry, entry])).refused("RLIMIT_NOFILE")


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1},
        {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100},
    ],
)
def test_rlimits_impossible(runtime: RuntimeCommand, bundle: Bundle, entry: dict[str, Any]) -> None:
    """An unknown type, and a soft limit above the hard one, are refused."""
    runtime.run(bundle.process(rlimits=[entry])).refused()


@pytest.mark.parametrize("value", [None, False, True])
def test_no_new_privileges(runtime: RuntimeCommand, bundle: Bundle, value: bool | None) -> None:
    """noNewPrivileges is exactly what was asked for."""
    bundle.process(noNewPrivileges=value)
    assert runtime.report(bundle)["no_new_privs"] == int(bool(value))


def test_oom_score_adj(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """oomScoreAdj is set; without it the caller's value is kept."""
    assert runtime.report(mkbundle({"process": {"oomScoreAdj": 321}}))["oom_score_adj"] == "321\n"

    def raise_own() -> None:
        Path("/proc/self/oom_score_adj").write_text("7")

    assert runtime.report(mkbundle(), before_exec=raise_own)["oom_score_adj"] == "7\n"


@pytest.mark.parametrize("userns", [False, pytest.param(True, marks=pytest.mark.userns)])
@pytest.mark.vm
@pytest.mark.parametrize("value", [-1000, -500, 0, 1000])
def test_oom_score_adj_lower(runtime: RuntimeCommand, bundle: Bundle, value: int, userns: bool) -> None:
    """A score below the caller's takes CAP_SYS_RESOURCE over the host, which a new user namespace does not take away."""
    if userns:
        bundle.userns()
    result = runtime.run(bundle.process(oomScoreAdj=value))
    effective = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    if value < int(Path("/proc/self/oom_score_adj").read_text()) and not effective >> 24 & 1:
        result.refused("oomScoreAdj" if runtime.name == "ocirun" else "")
    else:
        assert result.ok().report["oom_score_adj"] == f"{value}\n"


@pytest.mark.parametrize("value", [-1001, 1001, "5"])
def test_oom_score_adj_out_of_range(runtime: RuntimeCommand, bundle: Bundle, value: Any) -> None:
    """A score outside -1000…1000 is refused."""
    runtime.run(bundle.process(oomScoreAdj=value)).refused()


@pytest.mark.parametrize(
    ("domain", "value", "machine"),
    [
        pytest.param("LINUX32", 8, "i686", marks=pytest.mark.peer_fails(runc="1.1 has no linux.personality")),
        ("LINUX", 0, "x86_64"),
    ],
)
def test_personality(runtime: RuntimeCommand, bundle: Bundle, domain: str, value: int, machine: str) -> None:
    """The execution domain is set."""
    report = runtime.report(bundle.linux(personality={"domain": domain, "flags": []}))
    assert report["personality"] == value
    if has_compat():  # without, the kernel knows of no other machine
        assert report["machine"] == machine


@pytest.mark.ocirun_only("runc warns, crun ignores them")
@pytest.mark.parametrize(
    ("personality", "pointer"),
    [
        ({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, "flags"),
        ({"domain": "LINUX64"}, "domain"),
        ({"flags": []}, "domain"),
    ],
    ids=str,
)
def test_personality_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, personality: dict[str, Any], pointer: str
) -> None:
    """Values that are not defined are refused at their place; the specification defines no flag."""
    runtime.run(bundle.linux(personality=personality)).refused(f"/linux/personality/{pointer}")


@pytest.mark.peer_fails(runc="keeps the signals that its caller blocks")
def test_signals_are_reset(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """R-43: signals that the caller ignores or blocks are default and open in the container."""

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGHUP, signal.SIGCHLD})

    signals = runtime.report(bundle, before_exec=ignore)["signals"]
    assert signals == {"blocked": 0, "pending": 0, "ignored": 0, "caught": 0}


def test_other_attributes_are_plain(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """No parent-death signal, no secure bits, not a subreaper, not traced by dumpable 0."""
    report = runtime.report(bundle)
    assert report["pdeathsig"] == 0
    assert report["securebits"] == 0
    assert report["subreaper"] == 0
    assert report["dumpable"] == 1
    assert report["seccomp"] == {"mode": 0, "filters": 0}
    assert report["ppid"] == 0
    assert report["exe"] == "/probe"


# ---- labels on kernels without the security module ---------------------------------------------------


@pytest.mark.parametrize(
    ("member", "module", "value"),
    [
        ("apparmorProfile", "apparmor", "docker-default"),
        ("selinuxLabel", "selinux", "system_u:system_r:container_t:s0"),
    ],
)
def test_label_without_its_module(
    runtime: RuntimeCommand, bundle: Bundle, member: str, module: str, value: str
) -> None:
    """S-16: a label that cannot be set is an error, never ignored, and nothing is written elsewhere."""
    lsm = Path("/sys/kernel/security/lsm")
    if lsm.exists() and module in lsm.read_text():
        pytest.skip(f"machine: has AppArmor or SELinux ({module})")
    for name in ("exec", "current", "fscreate", "apparmor/exec"):
        bundle.file(f"/proc/self/attr/{name}", "")
    runtime.run(bundle.process(**{member: value})).refused(module)
    for name in ("exec", "current", "fscreate", "apparmor/exec"):
        assert bundle.inside(f"/proc/self/attr/{name}").read_text() == ""


# ---- no process ----------------------------------------------------------------------------------


@pytest.mark.peer_fails(runc="needs process at create")
def test_create_without_process(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A bundle without process can be created and deleted; start is the error."""
    bundle.patch({"process": None})
    runtime.try_create(bundle).ok()
    assert runtime.state(bundle.id)["status"] == "created"
    runtime.call("start", bundle.id).refused()
    runtime.call("delete", "--force", bundle.id).ok()


# ---- intelRdt -------------------------------------------------------------------------------------


@pytest.mark.ocirun_only("names the property")
@pytest.mark.parametrize("settings", [{}, {"closID": "a"}, {"closID": "/", "enableMonitoring": True}])
def test_host_without_resctrl(runtime: RuntimeCommand, bundle: Bundle, settings: dict[str, Any]) -> None:
    """A host without a resctrl file system refuses the property by name, before anything is made."""
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("machine: has resctrl")
    runtime.try_create(bundle.linux(intelRdt=settings)).refused("/linux/intelRdt", "no resctrl file system")
    runtime.call("state", bundle.id).refused("does not exist")
