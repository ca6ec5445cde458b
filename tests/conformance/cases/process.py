# SPDX-License-Identifier: Apache-2.0
"""config.md: process, its user, limits, capabilities; hostname and domainname."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import shutil
import socket
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any

from conformance.harness.case import Failed, case
from conformance.harness.context import Context
from conformance.harness.runtime import TIMEOUT, Container

# -- terminal ----------------------------------------------------------------------------------------------------------


def with_terminal(c: Context, *verbs: Any) -> tuple[Container, int]:
    """Create a container with a terminal; return it and our side of the terminal."""
    path = c.place / "console"
    c.process(terminal=True).probe(*verbs)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        container = c.create("--console-socket", str(path))
        listener.settimeout(60)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    if len(fds) != 1:
        raise Failed("the console socket gets one descriptor", 1, len(fds))
    c.at_the_end(lambda: os.close(fds[0]))
    return container, fds[0]


def read_terminal(c: Context, fd: int) -> list[Any]:
    """Return what the probe wrote to its terminal."""
    from conformance.harness.runtime import parse_lines

    data = b""
    while select.select([fd], [], [], TIMEOUT)[0]:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    return parse_lines(data.replace(b"\r\n", b"\n"))


@case("process-terminal")
def terminal(c: Context) -> None:
    """The three standard streams are a terminal, and it is the controlling one."""
    container, fd = with_terminal(c, "report")
    container.start()
    report = read_terminal(c, fd)[0]
    container.wait()
    c.equal("standard streams that are terminals", [stream["tty"] for stream in report["stdio"]], [True] * 3)
    c.true("it is the controlling terminal", report["has_ctty"])


@case("process-console-size")
def console_size(c: Context) -> None:
    """The terminal has the configured size when the program starts."""
    c.process(consoleSize={"height": 33, "width": 77})
    container, fd = with_terminal(c, "report")
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    container.start()
    stream = read_terminal(c, fd)[0]["stdio"][0]
    container.wait()
    c.equal("size that the program sees", (stream.get("rows"), stream.get("cols")), (33, 77))
    c.equal("size that the caller sees", (rows, columns), (33, 77))


@case("process-console-size-ignored")
def console_size_without_terminal(c: Context) -> None:
    """Without a terminal the size is ignored."""
    c.process(consoleSize={"height": 33, "width": 77}, terminal=False)
    c.equal("standard output is a terminal", c.report()["stdio"][1]["tty"], False)


@case("process-terminal")
def no_terminal(c: Context) -> None:
    """Without terminal the standard streams are those that the caller gave."""
    c.equal("standard output is a terminal", c.report()["stdio"][1]["tty"], False)


@case("default-console")
def dev_console(c: Context) -> None:
    """With a terminal /dev/console is that terminal."""
    container, fd = with_terminal(c, ["stat", "/dev/console", "/proc/self/fd/0"])
    container.start()
    files = {entry["path"]: entry for entry in read_terminal(c, fd)[0]["files"]}
    container.wait()
    c.equal("device", files["/dev/console"].get("rdev"), files["/proc/self/fd/0"].get("rdev"))


# -- cwd, env, args ----------------------------------------------------------------------------------------------------


@case("process-cwd")
def cwd(c: Context) -> None:
    """The program's working directory is cwd."""
    c.file("/etc/deep/file", "x")
    c.equal("working directory", c.process(cwd="/etc/deep").report()["raw_cwd"], "/etc/deep")


@case("process-cwd", "invalid-values")
def cwd_missing(c: Context) -> None:
    """A process without cwd is an error."""
    c.process(cwd=None)
    c.refused(why="a process without cwd", late=True)


@case("process-cwd-absolute", each={"relative": "tmp", "dot": "."})
def cwd_relative(c: Context, path: str) -> None:
    """A relative cwd is an error."""
    c.process(cwd=path)
    c.refused(why="a relative cwd", late=True)


@case("process-env")
def env(c: Context) -> None:
    """Each variable arrives as it is."""
    wanted = ["PATH=/bin:/", "EMPTY=", "EQUALS=a=b=c", "SPACE=a b", "UTF=ü", "lower=1", "NEWLINE=a\nb"]
    seen = c.process(env=wanted).report()["environ"]
    c.equal("variables that are missing", [word for word in wanted if word not in seen], [])


@case("process-env")
def env_not_the_callers(c: Context) -> None:
    """A variable of the caller does not reach the program."""
    c.runtime.argv, argv = ["/usr/bin/env", "CONFORMANCE_LEAK=1", *c.runtime.argv], c.runtime.argv
    try:
        seen = c.report()["environ"]
    finally:
        c.runtime.argv = argv
    c.equal("variables of the caller", [word for word in seen if word.startswith("CONFORMANCE_LEAK")], [])


@case("process-args")
def args(c: Context) -> None:
    """Each argument arrives as it is."""
    words = ["/probe", "report", "two words", "", "ü", "a\nb", "--", "$HOME", "*"]
    c.equal("arguments", c.process(args=words).run().report["argv"], words)


@case("process-args-one", each={"empty": [], "missing": None})
def args_none(c: Context, value: Any) -> None:
    """Without a program there is an error."""
    c.process(args=value)
    c.refused(why="no arguments", late=True)


PROGRAMS = {
    "absolute": ("/bin/tool", "/"),
    "path": ("tool", "/"),
    "slash-relative-to-cwd": ("./tool", "/bin"),
    "slash-relative-without-dot": ("bin/tool", "/"),
}


@case("process-args-path", each=PROGRAMS)
def args_program(c: Context, program: str, place: str) -> None:
    """A program is found in PATH, or where its slash says."""
    c.file("/bin/tool", c.probe_path.read_bytes(), 0o755)
    c.process(args=[program, "report"], cwd=place, env=["PATH=/nowhere:/bin"])
    c.equal("program", c.run().report["exe"], "/bin/tool")


@case("process-args-path", each={"first": ("/a:/b", "/a/tool"), "second": ("/b:/a", "/b/tool")})
def args_program_order_of_path(c: Context, path: str, wanted: str) -> None:
    """The first directory of PATH that has it wins."""
    c.file("/a/tool", c.probe_path.read_bytes(), 0o755)
    c.file("/b/tool", c.probe_path.read_bytes(), 0o755)
    c.process(args=["tool", "report"], env=[f"PATH={path}"])
    c.equal("program", c.run().report["exe"], wanted)


NO_PROGRAM = {"missing": "/no/such/program", "not-in-path": "nosuchprogram", "not-executable": "/etc/passwd",
              "directory": "/etc"}  # fmt: skip


@case("lifecycle-environment-error", "process-args-path", each=NO_PROGRAM)
def args_program_missing(c: Context, program: str) -> None:
    """A program that cannot be executed is an error of create or start."""
    c.process(args=[program])
    c.refused(why="a program that cannot be executed", late=True)


# -- rlimits -----------------------------------------------------------------------------------------------------------

TYPES = (
    "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO",
    "RTTIME", "SIGPENDING", "STACK",
)  # fmt: skip
NUMBERS = {
    "CPU": 0, "FSIZE": 1, "DATA": 2, "STACK": 3, "CORE": 4, "RSS": 5, "NPROC": 6, "NOFILE": 7, "MEMLOCK": 8, "AS": 9,
    "LOCKS": 10, "SIGPENDING": 11, "MSGQUEUE": 12, "NICE": 13, "RTPRIO": 14, "RTTIME": 15,
}  # fmt: skip
UNLIMITED = (1 << 64) - 1


@case("rlimits-soft", "rlimits-hard", each={name: name for name in TYPES})
def rlimit(c: Context, name: str) -> None:
    """Both limits are what the program sees."""
    _, ceiling = resource.getrlimit(NUMBERS[name])
    wish = {"AS": 1 << 40, "STACK": 1 << 26, "DATA": 1 << 40, "CPU": 1 << 20, "NOFILE": 1000, "NPROC": 5000}
    hard = wish.get(name, 1 << 20)
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    soft = hard - hard // 4
    c.process(rlimits=[{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}])
    c.equal(f"RLIMIT_{name}", c.report()["rlimits"][f"RLIMIT_{name}"], [soft, hard])


@case("rlimits-soft", "rlimits-hard")
def rlimit_unlimited(c: Context) -> None:
    """The greatest number is no limit."""
    _, ceiling = resource.getrlimit(resource.RLIMIT_FSIZE)
    c.need(ceiling == resource.RLIM_INFINITY, "the caller has a limit of file size")
    c.process(rlimits=[{"type": "RLIMIT_FSIZE", "soft": 1 << 30, "hard": UNLIMITED}])
    c.equal("RLIMIT_FSIZE", c.report()["rlimits"]["RLIMIT_FSIZE"], [1 << 30, UNLIMITED])


@case("rlimits-unknown", each={"word": "RLIMIT_NONSENSE", "case": "rlimit_nofile", "empty": ""})
def rlimit_unknown(c: Context, name: str) -> None:
    """A type that the kernel does not have is an error."""
    c.process(rlimits=[{"type": name, "soft": 1, "hard": 1}])
    c.refused(why="an unknown rlimit", late=True)


@case("rlimits-twice")
def rlimit_twice(c: Context) -> None:
    """A type that is there twice is an error."""
    c.process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100 + n, "hard": 200} for n in (0, 1)])
    c.refused(why="two limits of one type", late=True)


# -- capabilities ------------------------------------------------------------------------------------------------------

CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10,
}  # fmt: skip


def mask(names: list[str]) -> int:
    """Return the bits of some capabilities."""
    return sum(1 << CAPABILITIES[name] for name in names)


SETS = {
    "bounding": {"bounding": ["CAP_CHOWN", "CAP_KILL"]},
    "permitted": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"]},
    "effective": {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
    },
    "inheritable": {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],
    },
    "none": {},
}


@case("capabilities-sets", each=SETS)
def capabilities(c: Context, sets: dict[str, list[str]]) -> None:
    """The sets of a program of root's are the configured ones, as far as execve leaves them."""
    c.config["process"]["capabilities"] = sets
    seen = c.report()["caps"]
    c.equal("bounding", seen["bounding"], mask(sets.get("bounding", [])))
    c.equal("inheritable", seen["inheritable"], mask(sets.get("inheritable", [])))
    # A program of root's gets all of its bounding set when it is executed: capabilities(7).
    c.equal("permitted", seen["permitted"], mask(sets.get("bounding", [])) | mask(sets.get("inheritable", [])))


@case("capabilities-sets")
def capabilities_ambient(c: Context) -> None:
    """Ambient capabilities are those that a program of another user has."""
    names = ["CAP_NET_BIND_SERVICE", "CAP_KILL"]
    c.config["process"]["capabilities"] = {
        "bounding": [*names, "CAP_CHOWN"], "permitted": names, "effective": names, "inheritable": names, "ambient": names,
    }  # fmt: skip
    seen = c.process(user={"uid": 1000, "gid": 1000}).report()["caps"]
    wanted = {kind: mask(names) for kind in ("permitted", "effective", "inheritable", "ambient")}
    c.equal("sets", {kind: seen[kind] for kind in wanted}, wanted)
    c.equal("bounding", seen["bounding"], mask([*names, "CAP_CHOWN"]))


@case("capabilities-sets")
def capabilities_absent(c: Context) -> None:
    """Another user's program without ambient capabilities has none to use."""
    seen = c.process(user={"uid": 1000, "gid": 1000}).report()["caps"]
    c.equal("effective and permitted", (seen["effective"], seen["permitted"]), (0, 0))


@case("capabilities-unknown-goes-on", "warnings-go-on")
def capability_unknown(c: Context) -> None:
    """A capability that does not exist does not stop the container."""
    for names in c.config["process"]["capabilities"].values():
        names.append("CAP_NONSENSE")
    c.equal("exit status", c.run(["exit", "3"]).status, 3)


@case("capabilities-unknown")
def capability_unknown_is_told(c: Context) -> None:
    """A capability that does not exist is a warning, on standard error or in the log."""
    for names in c.config["process"]["capabilities"].values():
        names.append("CAP_NONSENSE")
    c.write()
    log = c.place / "log"
    done = c.runtime.call("--log", str(log), "create", "--bundle", str(c.bundle), c.id)
    c.ok("create", done)
    told = done.err + (log.read_text() if log.exists() else "")
    c.true("the capability is named", "NONSENSE" in told.upper(), told)


# -- the rest of linux process -----------------------------------------------------------------------------------------


@case("no-new-privileges", each={"true": (True, 1), "false": (False, 0), "absent": (None, 0)})
def no_new_privileges(c: Context, value: bool | None, wanted: int) -> None:
    """The flag is what the program has."""
    c.equal("no_new_privs", c.process(noNewPrivileges=value).report()["no_new_privs"], wanted)


def own_score(c: Context) -> int:
    """Return the oom score of this process."""
    return int(Path("/proc/self/oom_score_adj").read_text())


@case("oom-score-adj", each={"middle": 500, "most": 1000})
def oom_score_adj(c: Context, value: int) -> None:
    """The value is set."""
    c.equal("oom_score_adj", int(c.process(oomScoreAdj=value).report()["oom_score_adj"]), value)


@case("oom-score-adj")
def oom_score_adj_created(c: Context) -> None:
    """Zero is a value."""
    before = own_score(c)
    c.need(before <= 0, "the caller's value is above 0, and going below needs a privilege")
    Path("/proc/self/oom_score_adj").write_text("300")
    try:
        seen = int(c.process(oomScoreAdj=max(before, 0)).report()["oom_score_adj"])
    finally:
        Path("/proc/self/oom_score_adj").write_text(str(before))
    c.equal("oom_score_adj", seen, max(before, 0))


@case("oom-score-adj-absent")
def oom_score_adj_absent(c: Context) -> None:
    """Without a value the caller's stays."""
    before = own_score(c)
    Path("/proc/self/oom_score_adj").write_text("321")
    try:
        seen = int(c.report()["oom_score_adj"])
    finally:
        Path("/proc/self/oom_score_adj").write_text(str(before))
    c.equal("oom_score_adj", seen, 321)


POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_IDLE": 5}


@case("scheduler", each={name: (name, number) for name, number in POLICIES.items()})
def scheduler_policy(c: Context, name: str, number: int) -> None:
    """The program runs with the policy, and the priority that goes with it."""
    real_time = name in ("SCHED_FIFO", "SCHED_RR")
    if real_time:
        need_real_time(c, "-f" if name == "SCHED_FIFO" else "-r")
    c.process(scheduler={"policy": name} | ({"priority": 7} if real_time else {}))
    seen = c.report()["scheduler"]
    c.equal("policy and priority", (seen["policy"], seen["priority"]), (number, 7 if real_time else 0))


def need_real_time(c: Context, *options: str) -> None:
    """Say so where this machine has no real-time scheduling for us."""
    c.need(shutil.which("chrt"), "no chrt(1)")
    done = subprocess.run(["chrt", *options, "1", "true"], capture_output=True, check=False)
    c.need(done.returncode == 0, f"chrt {' '.join(options)}: {done.stderr.decode().strip()}")
    c.need(not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"), "real time is shared out by cgroups here")


@case("scheduler", each={"above": 5, "below": -5})
def scheduler_nice(c: Context, value: int) -> None:
    """The program has the nice value."""
    seen = c.process(scheduler={"policy": "SCHED_OTHER", "nice": value}).report()["scheduler"]
    c.equal("nice", seen["nice"], value)


@case("scheduler-defaults")
def scheduler_nice_absent(c: Context) -> None:
    """Without nice it is 0, and not the caller's."""
    c.runtime.argv, argv = ["/usr/bin/nice", "-n", "5", *c.runtime.argv], c.runtime.argv
    try:
        seen = c.process(scheduler={"policy": "SCHED_OTHER"}).report()["scheduler"]
    finally:
        c.runtime.argv = argv
    c.equal("nice", seen["nice"], 0)


@case("scheduler")
def scheduler_flags(c: Context) -> None:
    """SCHED_FLAG_RESET_ON_FORK is set."""
    c.process(scheduler={"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]})
    c.equal("flags", c.report()["scheduler"]["flags"] & 1, 1)


@case("scheduler")
def scheduler_deadline(c: Context) -> None:
    """The three times of the deadline policy are set."""
    need_real_time(c, "-d", "--sched-runtime", "10000000", "--sched-deadline", "30000000", "--sched-period", "30000000")
    c.process(
        scheduler={"policy": "SCHED_DEADLINE", "runtime": 10000000, "deadline": 20000000, "period": 30000000}
    )
    seen = c.report()["scheduler"]
    c.equal("policy", seen["policy"], 6)
    c.equal("times", (seen["runtime"], seen["deadline"], seen["period"]), (10000000, 20000000, 30000000))


@case("scheduler", "invalid-values", each={"policy": {"policy": "SCHED_NONSENSE"}, "none": {"nice": 1},
                                           "flag": {"policy": "SCHED_OTHER", "flags": ["NONSENSE"]}})  # fmt: skip
def scheduler_invalid(c: Context, value: dict[str, Any]) -> None:
    """An unknown policy or flag, or none, is an error."""
    c.process(scheduler=value)
    c.refused(why="an invalid scheduler", late=True)


CLASSES = {"IOPRIO_CLASS_RT": (1, 4), "IOPRIO_CLASS_BE": (2, 7), "IOPRIO_CLASS_IDLE": (3, 0)}


@case("io-priority", each={name: (name, *row) for name, row in CLASSES.items()})
def io_priority(c: Context, name: str, number: int, level: int) -> None:
    """The program has the class and the level, and its process group too."""
    report = c.process(ioPriority={"class": name, "priority": level}).report()
    c.equal("class and level", (report["ioprio"] >> 13, report["ioprio"] & 7), (number, level))
    c.equal("of the process group", report["ioprio_group"], report["ioprio"])


@case("io-priority", "invalid-values", each={"class": ("NONSENSE", 0), "level": ("IOPRIO_CLASS_BE", 8)})
def io_priority_invalid(c: Context, name: str, level: int) -> None:
    """An unknown class or level is an error."""
    c.process(ioPriority={"class": name, "priority": level})
    c.refused(why="an invalid I/O priority", late=True)


@case("exec-affinity")
def exec_affinity(c: Context) -> None:
    """execCPUAffinity leaves the container's first process alone."""
    c.need((os.cpu_count() or 1) > 1, "one CPU only")
    before = c.report()["affinity"]
    seen = c.process(execCPUAffinity={"initial": "0", "final": "0"}).report()["affinity"]
    c.equal("CPUs of the program", seen, before)


@case("apparmor", "lifecycle-environment-error")
def apparmor(c: Context) -> None:
    """Where there is no AppArmor, a profile is an error."""
    c.need(not os.path.exists("/sys/kernel/security/apparmor"), "there is AppArmor, and no profile of ours")
    c.process(apparmorProfile="conformance")
    c.refused(why="a profile that nothing can apply", late=True)


@case("selinux", "lifecycle-environment-error")
def selinux(c: Context) -> None:
    """Where there is no SELinux, a label is an error."""
    c.need(not os.path.exists("/sys/fs/selinux/enforce"), "there is SELinux, and no label of ours")
    c.process(selinuxLabel="system_u:system_r:conformance_t:s0")
    c.refused(why="a label that nothing can apply", late=True)


# -- user --------------------------------------------------------------------------------------------------------------


@case("user-ids", each={"root": (0, 0), "other": (1000, 1001), "large": (2**31 - 1, 2**31 - 1)})
def user_ids(c: Context, uid: int, gid: int) -> None:
    """All four kinds of uid and gid are the configured ones."""
    report = c.process(user={"uid": uid, "gid": gid}).report()
    c.equal("uids", report["uids"], [uid] * 4)
    c.equal("gids", report["gids"], [gid] * 4)


@case("user-groups", each={"none": None, "two": [5, 6], "own": [1001, 7]})
def user_groups(c: Context, groups: list[int] | None) -> None:
    """The further groups are the configured ones."""
    c.process(user={"uid": 1000, "gid": 1001} | ({"additionalGids": groups} if groups else {}))
    seen = set(c.report()["groups"]) - {1001}
    c.equal("groups", sorted(seen), sorted(set(groups or []) - {1001}))


@case("user-umask", each={"077": 0o077, "0": 0, "027": 0o027})
def user_umask(c: Context, value: int) -> None:
    """The umask is the configured one."""
    c.set({"process": {"user": {"umask": value}}})
    c.equal("umask", c.report()["umask"], value)


@case("user-umask-absent")
def user_umask_absent(c: Context) -> None:
    """Without one the caller's stays."""
    container = c.probe("report").create(umask=0o026)
    c.equal("umask", container.start().finish().report["umask"], 0o026)


# -- names -------------------------------------------------------------------------------------------------------------


@case("hostname", each={"short": "web1", "dots": "a.example.org", "64": "h" * 64})
def hostname(c: Context, name: str) -> None:
    """The program sees the name, and the host keeps its own."""
    before = os.uname().nodename
    c.equal("host name", c.set({"hostname": name}).report()["hostname"], name)
    c.equal("host name of the host", os.uname().nodename, before)


@case("domainname")
def domainname(c: Context) -> None:
    """The program sees the name, and the host keeps its own."""
    before = Path("/proc/sys/kernel/domainname").read_text()
    c.equal("domain name", c.set({"domainname": "example.test"}).report()["domainname"], "example.test")
    c.equal("domain name of the host", Path("/proc/sys/kernel/domainname").read_text(), before)


