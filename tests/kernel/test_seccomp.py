# SPDX-License-Identifier: Apache-2.0
"""linux.seccomp: what a profile does to the program's system calls."""

from __future__ import annotations

import array
import errno
import itertools
import json
import os
import platform
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import Result, RuntimeCommand
from support.machine import has_compat
from support.native import without

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
X86_64 = platform.machine() == "x86_64"
needs_x86_64 = pytest.mark.skipif(not X86_64, reason="machine: no 32-bit system calls")

# What a small static program, and a runtime that has already loaded its filter, may need.
BASIC = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchmod",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgid",
    "getpid",
    "getppid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "gettid",
    "getuid",
    "ioctl",
    "kill",
    "lseek",
    "madvise",
    "mkdirat",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pipe2",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setgroups32",
    "setresgid",
    "setresuid",
    "setsid",
    "setuid",
    "sigaltstack",
    "stat",
    "statfs",
    "statx",
    "tgkill",
    "umask",
    "uname",
    "unlinkat",
    "wait4",
    "waitid",
    "write",
    "writev",
    "fsetxattr",
    "getsockopt",
    "poll",
    "setfsuid",
    "setfsgid",
]


def profile(default: str, *rules: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return a profile."""
    return {"defaultAction": default, "syscalls": list(rules), **members}


def rule(action: str, *names: str, **members: Any) -> dict[str, Any]:
    """Return a rule."""
    return {"names": list(names), "action": action, **members}


def arg(index: int, op: str, value: int, **members: int) -> dict[str, Any]:
    """Return a comparison of an argument."""
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, **members}


def call(runtime: RuntimeCommand, bundle: Bundle, *calls: list[str]) -> list[str | int]:
    """Run the system calls; return for each the error's name or its result."""
    result = runtime.run(bundle.seq(*(["syscall", *words] for words in calls))).ok()
    return [line.get("errno", line["ret"]) for line in result.all("syscall")]


# ---- actions -------------------------------------------------------------------------------------


def test_errno(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """ERRNO answers EPERM, or the rule's own number, which may be 0."""
    bundle.linux(
        seccomp=profile(
            ALLOW,
            rule(ERRNO, "mlockall"),
            rule(ERRNO, "setdomainname", "getsid", errnoRet=errno.EXDEV),
            rule(ERRNO, "acct", errnoRet=0),
            rule(ERRNO, "sync", errnoRet=133),
        )
    )
    calls = [["mlockall", "1"], ["setdomainname", "0"], ["getsid", "0"], ["acct", "0"], ["sync"]]
    assert call(runtime, bundle, *calls, ["getpid"]) == [
        "EPERM",
        "EXDEV",
        "EXDEV",
        0,
        "EHWPOISON",
        1,
    ]


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("SCMP_ACT_KILL", 128 + signal.SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", 128 + signal.SIGSYS),
        ("SCMP_ACT_KILL_THREAD", 128 + signal.SIGSYS),
        ("SCMP_ACT_TRAP", 128 + signal.SIGSYS),
        ("SCMP_ACT_LOG", 0),
        (ALLOW, 0),
    ],
)
def test_actions(runtime: RuntimeCommand, bundle: Bundle, action: str, status: int) -> None:
    """The other actions do what their names say."""
    bundle.linux(seccomp=profile(ALLOW if action != ALLOW else "SCMP_ACT_LOG", rule(action, "getsid")))
    result = runtime.run(bundle.seq(["syscall", "getsid", "0"], ["echo", "survived"]))
    assert result.rc == status, result
    assert (b"survived" in result.stdout) == (status == 0)


def test_trace_without_a_tracer(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """TRACE without a tracer answers ENOSYS."""
    bundle.linux(seccomp=profile(ALLOW, rule("SCMP_ACT_TRACE", "getsid", errnoRet=7)))
    assert call(runtime, bundle, ["getsid", "0"]) == ["ENOSYS"]


# ---- defaults and new system calls -----------------------------------------------------------------


@pytest.mark.parametrize(
    "architectures",
    [
        pytest.param(None, marks=pytest.mark.peer_fails(runc="answers EPERM when no architecture is listed")),
        [NATIVE],
    ],
    ids=str,
)
@pytest.mark.peer_fails(crun="answers EPERM for system calls newer than the profile")
def test_default_deny(runtime: RuntimeCommand, bundle: Bundle, architectures: list[str] | None) -> None:
    """S-52: what is listed works, what is not answers EPERM, what is newer than the profile ENOSYS."""
    extra = {"architectures": architectures} if architectures else {}
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *BASIC), **extra))
    assert call(runtime, bundle, ["getpid"], ["ptrace", "0", "0"], ["swapon"], ["9999"], ["700"]) == [
        1,
        "EPERM",
        "EPERM",
        "ENOSYS",
        "ENOSYS",
    ]


@pytest.mark.peer_fails(crun="kills for system calls newer than the profile")
def test_default_kill_and_new_calls(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-52: with a killing default a system call newer than the profile answers ENOSYS too."""
    bundle.linux(seccomp=profile("SCMP_ACT_KILL_PROCESS", rule(ALLOW, *BASIC), architectures=[NATIVE]))
    assert call(runtime, bundle, ["9999"]) == ["ENOSYS"]
    assert runtime.run(bundle.again().seq(["syscall", "ptrace", "0", "0"])).rc == 128 + signal.SIGSYS


@pytest.mark.parametrize("default", [ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_permissive_defaults_are_not_changed(runtime: RuntimeCommand, bundle: Bundle, default: str) -> None:
    """S-52: with a permissive default unknown system calls are the kernel's."""
    if default == "SCMP_ACT_TRACE":
        bundle.linux(seccomp=profile(default, rule(ALLOW, *BASIC)))
    else:
        bundle.linux(seccomp=profile(default, rule(ERRNO, "getsid")))
    assert call(runtime, bundle, ["9999"], ["getpid"]) == ["ENOSYS", 1]


def test_default_errno(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """defaultErrnoRet is what an unlisted system call answers."""
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *BASIC), defaultErrnoRet=errno.ENOTTY))
    assert call(runtime, bundle, ["ptrace", "0", "0"], ["getpid"]) == ["ENOTTY", 1]


def test_listed_calls_are_never_enosys(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-52: a rule for the highest number of the profile is obeyed."""
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *BASIC), rule(ERRNO, "io_uring_setup", errnoRet=errno.EXDEV)))
    assert call(runtime, bundle, ["io_uring_setup"]) == ["EXDEV"]


def test_unknown_names_in_an_allow_list(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A name that does not exist is left out of a list of what is allowed."""
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *BASIC, "no_such_call_at_all")))
    assert call(runtime, bundle, ["getpid"]) == [1]


@pytest.mark.ocirun_only("left out silently, which allows the call")
def test_unknown_names_in_a_deny_list(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-56: a name that does not exist in a list of what is denied is an error."""
    bundle.linux(seccomp=profile(ALLOW, rule(ERRNO, "no_such_call_at_all")))
    runtime.run(bundle).refused("no_such_call_at_all")


# ---- arguments -----------------------------------------------------------------------------------

OPERATORS: list[tuple[dict[str, Any], list[int], list[int]]] = [
    (arg(0, "EQ", 7), [7], [6, 8, 7 + (1 << 32)]),
    (arg(0, "NE", 7), [6, 8, 7 + (1 << 32)], [7]),
    (arg(0, "LT", 7), [0, 6], [7, 8, 1 << 40]),
    (arg(0, "LE", 7), [6, 7], [8, 1 << 40]),
    (arg(0, "GT", 7), [8, 1 << 40], [6, 7]),
    (arg(0, "GE", 7), [7, 1 << 40], [6]),
    (arg(0, "MASKED_EQ", 0xF0, valueTwo=0x30), [0x30, 0x3F, 0x135], [0x20, 0x70]),
]


def test_comparisons(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-56: the seven operators compare the whole 64 bits of an argument."""
    for comparison, matches, others in OPERATORS:
        bundle = mkbundle().linux(
            seccomp=profile(ALLOW, rule(ERRNO, "munlockall", args=[comparison], errnoRet=errno.EXDEV))
        )
        values = matches + others
        answers = call(runtime, bundle, *(["munlockall", str(v)] for v in values))
        assert answers == ["EXDEV"] * len(matches) + [0] * len(others), comparison


def test_comparisons_of_several_arguments(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All comparisons of a rule have to hold, and several rules for one call add up."""
    bundle.linux(
        seccomp=profile(
            ALLOW,
            rule(ERRNO, "munlockall", args=[arg(0, "EQ", 1), arg(1, "EQ", 2)], errnoRet=errno.EXDEV),
            rule(ERRNO, "munlockall", args=[arg(0, "EQ", 5)], errnoRet=errno.EXDEV),
            rule(ERRNO, "munlockall", args=[arg(5, "GT", 1 << 40)], errnoRet=errno.EXDEV),
        )
    )
    assert call(
        runtime,
        bundle,
        ["munlockall", "1", "2"],
        ["munlockall", "1", "3"],
        ["munlockall", "5", "9"],
        ["munlockall", "0", "0", "0", "0", "0", str(1 << 41)],
        ["munlockall", "0", "0", "0", "0", "0", "1"],
    ) == ["EXDEV", 0, "EXDEV", "EXDEV", 0]


# ---- architectures -------------------------------------------------------------------------------


@needs_x86_64
def test_other_architecture_that_is_listed(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-52: the rules hold for the 32-bit entry when its architecture is listed."""
    if not has_compat():
        pytest.skip("machine: no 32-bit system calls")
    bundle.linux(
        seccomp=profile(
            ALLOW,
            rule(ERRNO, "getsid", errnoRet=errno.EXDEV),
            architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        )
    )
    # 147 and 20 are getsid and getpid in the 32-bit table
    result = runtime.run(bundle.seq(["syscall32", "147", "0"], ["syscall32", "20"])).ok()
    first, second = result.all("syscall32")
    assert (first.get("errno"), second["ret"]) == ("EXDEV", 1)


@needs_x86_64
@pytest.mark.parametrize("architectures", [["SCMP_ARCH_X86_64"], None], ids=str)
def test_other_architecture_that_is_not_listed(
    runtime: RuntimeCommand, bundle: Bundle, architectures: list[str] | None
) -> None:
    """S-52: a system call of an architecture that is not listed does not get through."""
    extra = {"architectures": architectures} if architectures else {}
    bundle.linux(seccomp=profile(ALLOW, rule(ERRNO, "getsid"), **extra))
    result = runtime.run(bundle.seq(["syscall32", "20"], ["echo", "survived"]))
    assert b"survived" not in result.stdout or result.one("syscall32").get("errno")


@needs_x86_64
def test_x32_calls_do_not_get_through(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-52: the x32 number of a denied call is denied as well."""
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *BASIC), architectures=["SCMP_ARCH_X86_64"]))
    x32 = str(0x40000000 | 101)  # ptrace
    result = runtime.run(bundle.seq(["syscall", x32], ["echo", "survived"]))
    if b"survived" in result.stdout:
        assert result.one("syscall")["errno"] in ("EPERM", "ENOSYS")


# ---- how it is loaded ------------------------------------------------------------------------------

ORDERS = list(itertools.product([None, True, False], [True, False], [0, 1000], [False, True]))


@pytest.mark.parametrize(("nnp", "caps", "uid", "userns"), ORDERS)
def test_every_order_of_loading(
    runtime: RuntimeCommand, bundle: Bundle, nnp: bool | None, caps: bool, uid: int, userns: bool
) -> None:
    """S-54: with or without new privileges, capabilities, root and user namespace: one filter, exactly."""
    bundle.linux(seccomp=profile(ALLOW, rule(ERRNO, "getsid", errnoRet=errno.EXDEV)))
    bundle.process(noNewPrivileges=nnp, user={"uid": uid, "gid": uid})
    if not caps:
        bundle.capabilities()
    if userns:
        bundle.userns()
    bundle.seq("report", ["syscall", "getsid", "0"])
    result = runtime.run(bundle).ok()
    assert result.report["seccomp"] == {"mode": 2, "filters": 1}
    assert result.report["no_new_privs"] == int(bool(nnp))
    assert result.one("syscall")["errno"] == "EXDEV"
    if not caps or uid:
        assert result.report["caps"]["effective"] == 0


MINIMAL = "execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom mprotect exit_group"


@pytest.mark.ocirun_only("what a filter does to the runtime itself")
@pytest.mark.parametrize("nnp", [True, False])
def test_filter_that_forbids_to_end(runtime: RuntimeCommand, bundle: Bundle, nnp: bool) -> None:
    """Where the program cannot be executed and the filter answers exit_group with an errno, init ends all the same."""
    allowed = ["execve", "write", *([] if nnp else ["capset", "capget"])]
    bundle.file("/script", "#!/no/such/interpreter\n", 0o755).process(noNewPrivileges=nnp, args=["/script"])
    bundle.linux(seccomp=profile(ERRNO, rule(ALLOW, *allowed)))
    container = runtime.create(bundle)
    runtime.call("start", bundle.id).refused("/script", "interpreter")
    assert container.status() == "stopped"
    assert container.wait() == 128 + {"x86_64": signal.SIGILL, "aarch64": signal.SIGTRAP}[platform.machine()]


def test_minimal_profile(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-53: with no_new_privs the program needs nothing allowed beyond what it uses itself."""
    bundle.process(noNewPrivileges=True).args("exit", "23")
    bundle.linux(seccomp=profile("SCMP_ACT_KILL_PROCESS", rule(ALLOW, *MINIMAL.split())))
    if runtime.name != "ocirun":
        pytest.skip("peer: Go and crun need more system calls after loading the filter")
    assert runtime.run(bundle).rc == 23


@pytest.mark.parametrize(
    "flags",
    [
        [],
        *(
            pytest.param(flags, marks=pytest.mark.peer_fails(runc="1.1.5 has no seccomp flags"))
            for flags in (
                ["SECCOMP_FILTER_FLAG_LOG"],
                ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                ["SECCOMP_FILTER_FLAG_TSYNC"],
                ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            )
        ),
    ],
    ids=str,
)
def test_flags(runtime: RuntimeCommand, bundle: Bundle, flags: list[str]) -> None:
    """The flags of the specification are accepted."""
    bundle.linux(seccomp=profile(ALLOW, rule(ERRNO, "getsid"), flags=flags))
    assert call(runtime, bundle, ["getsid", "0"]) == ["EPERM"]


@pytest.mark.parametrize(
    "seccomp",
    [
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"syscalls": []},
        profile(ALLOW, rule("SCMP_ACT_NONSENSE", "getsid")),
        profile(ALLOW, rule(ERRNO, "getsid", args=[arg(6, "EQ", 1)])),
        profile(ALLOW, rule(ERRNO, "getsid", args=[arg(0, "NONSENSE", 1)])),
        profile(ALLOW, architectures=["SCMP_ARCH_NONSENSE"]),
        profile(ALLOW, rule(ERRNO, "getsid"), flags=["SECCOMP_FILTER_FLAG_NONSENSE"]),
    ],
    ids=str,
)
def test_profile_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, seccomp: dict[str, Any]) -> None:
    """S-56: unknown words and argument indexes are refused."""
    if runtime.name != "ocirun" and seccomp == {"syscalls": []}:
        pytest.skip("peer: takes a missing default action")
    runtime.run(bundle.linux(seccomp=seccomp)).refused()


@pytest.mark.parametrize(
    "seccomp",
    [
        profile(ALLOW, rule(ALLOW, "getsid", errnoRet=1)),
        profile("SCMP_ACT_KILL", defaultErrnoRet=1),
        profile(ALLOW, rule("SCMP_ACT_NOTIFY", "getsid")),
        profile(ALLOW, rule(ERRNO, "getsid"), listenerMetadata="x"),
        profile(ALLOW, rule("SCMP_ACT_NOTIFY", "write"), listenerPath="/nowhere"),
        profile("SCMP_ACT_NOTIFY", listenerPath="/nowhere"),
    ],
    ids=str,
)
@pytest.mark.ocirun_only("rules of the specification that not all check")
def test_profile_against_the_rules(runtime: RuntimeCommand, bundle: Bundle, seccomp: dict[str, Any]) -> None:
    """W17: an errno for an action without one, and listeners that cannot work, are refused."""
    runtime.run(bundle.linux(seccomp=seccomp)).refused("seccomp")


# ---- notify ----------------------------------------------------------------------------------------


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Agent:
    """A seccomp agent: takes the listener, and answers each notification with an errno."""

    def __init__(self, path: Path, *, until_the_end: bool = False) -> None:
        self._until_the_end = until_the_end
        self.state: dict[str, Any] = {}
        self.fd_count = 0
        self.notified: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(60)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        import fcntl
        import select
        import struct

        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            text, fds, _, _ = socket.recv_fds(connection, 1 << 20, 8)
            self.fd_count = len(fds)
            # runc keeps the connection open, so for it there is no end to wait for
            connection.settimeout(60)
            while not _is_json(text) or self._until_the_end:
                more, others, _, _ = socket.recv_fds(connection, 1 << 20, 8)
                self.fd_count += len(others)
                if not more:
                    break
                text += more
        self.state = json.loads(text)
        poller = select.poll()
        poller.register(fds[0], select.POLLIN)
        while True:
            events = poller.poll(60000)
            if not events or events[0][1] & (select.POLLHUP | select.POLLERR):
                break
            request = array.array("B", bytes(80))
            fcntl.ioctl(fds[0], 0xC0502100, request)  # SECCOMP_IOCTL_NOTIF_RECV
            ident, _, _, number = struct.unpack_from("QIIi", request)
            self.notified.append(number)
            reply = array.array("B", struct.pack("QqiI", ident, 0, -errno.EMEDIUMTYPE, 0))
            fcntl.ioctl(fds[0], 0xC0182101, reply)  # SECCOMP_IOCTL_NOTIF_SEND
        for fd in fds:
            os.close(fd)

    def close(self) -> None:
        """Wait for the end of the container's filter."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.mark.kernel("5.6")
@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("userns", [False, True])
def test_notify(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, nnp: bool, userns: bool) -> None:
    """S-55: the agent gets one descriptor with the state; the program sees its answer and no descriptor."""
    path = workdir / "agent"
    bundle.linux(
        seccomp=profile(
            ALLOW,
            rule("SCMP_ACT_NOTIFY", "getsid"),
            listenerPath=str(path),
            listenerMetadata="meta data",
        )
    )
    if userns:
        bundle.userns()
    bundle.process(noNewPrivileges=nnp).seq(["syscall", "getsid", "0"], "report")
    agent = Agent(path, until_the_end=runtime.name == "ocirun")
    try:
        result: Result = runtime.run(bundle).ok()
    finally:
        agent.close()
    assert result.one("syscall")["errno"] == "EMEDIUMTYPE"
    assert [entry["fd"] for entry in result.report["fds"]] == [0, 1, 2]
    assert agent.fd_count == 1
    assert agent.state["metadata"] == "meta data"
    assert agent.state["fds"] == ["seccompFd"]
    assert agent.state["state"]["id"] == bundle.id
    assert agent.state["pid"] > 0
    assert agent.notified[0] == (124 if X86_64 else 156)


@pytest.mark.ocirun_only("what 1.1.5 and 1.8.1 say is not the same")
def test_container_process_state(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """config-linux.md: one state for a connection, which ends then; it is whole however long, and so is the listener."""
    path = workdir / "agent"
    annotations = {f"org.example.{number}": "✓" * 500 for number in range(600)}
    bundle.patch({"annotations": annotations}).seq(["syscall", "getsid", "0"], "ready", "sleep")
    bundle.linux(seccomp=profile(ALLOW, rule("SCMP_ACT_NOTIFY", "getsid"), listenerPath=str(path)))
    agent = Agent(path, until_the_end=True)
    try:
        container = runtime.create(bundle).start()
        assert container.line()["errno"] == "EMEDIUMTYPE"
        container.line()
        container.delete("--force").ok()
    finally:
        agent.close()
    assert agent.fd_count == 1
    assert set(agent.state) == {"ociVersion", "fds", "pid", "state"}
    assert agent.state["ociVersion"] == agent.state["state"]["ociVersion"] == "1.3.0"
    assert agent.state["pid"] == agent.state["state"]["pid"] == container.pid
    assert agent.state["state"] == {
        "ociVersion": "1.3.0",
        "id": bundle.id,
        "status": "created",
        "pid": container.pid,
        "bundle": str(bundle.path),
        "annotations": annotations,
    }


def test_listener_path_without_notify(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """config-linux.md: listenerPath is ignored where no rule notifies, whatever is there."""
    bundle.linux(seccomp=profile(ALLOW, rule(ERRNO, "getsid"), listenerPath="/no/such/agent"))
    assert call(runtime, bundle, ["getsid", "0"]) == ["EPERM"]


@pytest.mark.parametrize("kind", ["missing", "not-listening"])
def test_notify_without_an_agent(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, kind: str) -> None:
    """S-55: without an agent create fails and does not hang."""
    path = workdir / "agent"
    if kind == "not-listening":
        left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        left.bind(str(path))
        left.close()
    bundle.linux(seccomp=profile(ALLOW, rule("SCMP_ACT_NOTIFY", "getsid"), listenerPath=str(path)))
    runtime.run(bundle).refused()


def test_large_profile(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-56: several hundred rules with comparisons work."""
    rules = [rule(ERRNO, "munlockall", args=[arg(0, "EQ", n)], errnoRet=errno.EXDEV) for n in range(100, 400)]
    bundle.linux(seccomp=profile(ALLOW, *rules))
    assert call(runtime, bundle, ["munlockall", "399"], ["munlockall", "400"]) == ["EXDEV", 0]


@pytest.mark.kernel("5.6")
@pytest.mark.ocirun_only("about our own fallback")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_notify_without_userfaultfd(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, error: str) -> None:
    """Where the kernel has no userfaultfd, or forbids it, the agent gets the listener all the same."""
    path = workdir / "agent"
    bundle.linux(seccomp=profile(ALLOW, rule("SCMP_ACT_NOTIFY", "getsid"), listenerPath=str(path)))
    agent = Agent(path)
    try:
        result = runtime.under(*without(error, "userfaultfd")).run(bundle.seq(["syscall", "getsid", "0"])).ok()
    finally:
        agent.close()
    assert result.one("syscall")["errno"] == "EMEDIUMTYPE"


@contextmanager
def agent_that_does_not_read(bundle: Bundle, path: Path) -> Iterator[None]:
    """Let the bundle have an agent that takes no more than its socket's buffer."""
    bundle.linux(
        seccomp=profile(
            ALLOW,
            rule("SCMP_ACT_NOTIFY", "getsid"),
            listenerPath=str(path),
            listenerMetadata="m" * (1 << 20),
        )
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)
        yield


@pytest.mark.kernel("5.11")
@pytest.mark.ocirun_only("about our own thread")
def test_waiting_for_the_agent_takes_no_time(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """While the listener is on its way to the agent, both threads sleep."""
    with agent_that_does_not_read(bundle, workdir / "agent"):
        container = runtime.create(bundle.seq("ready"))
        tasks = Path(f"/proc/{container.pid}/task")

        def asleep_under_the_filter() -> bool:
            told = [task.joinpath("status").read_text() for task in tasks.iterdir()]
            words = [dict(line.partition(":\t")[::2] for line in text.splitlines()) for text in told]
            return sorted((each["Seccomp"], each["State"]) for each in words) == [("0", "S (sleeping)"), ("2", "S (sleeping)")]

        with subprocess.Popen(runtime.command("start", bundle.id), stderr=subprocess.DEVNULL):
            until(asleep_under_the_filter, "both threads sleep")
            container.kill(signal.SIGKILL)


@pytest.mark.kernel("5.11")
@pytest.mark.ocirun_only("runc and crun know no scheduler")
def test_notify_with_real_time_on_one_cpu(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """A process that nothing else may interrupt on its only CPU still hands its listener over."""
    resources: dict[str, Any] = {"cpu": {"cpus": str(min(os.sched_getaffinity(0)))}}
    if Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        resources["cpu"] |= {"realtimeRuntime": 10000, "realtimePeriod": 1000000}
    path = workdir / "agent"
    bundle.linux(seccomp=profile(ALLOW, rule("SCMP_ACT_NOTIFY", "getsid"), listenerPath=str(path)), resources=resources)
    bundle.process(scheduler={"policy": "SCHED_FIFO", "priority": 1})
    agent = Agent(path)
    try:
        result = runtime.run(bundle.seq(["syscall", "getsid", "0"], "report")).ok()
    finally:
        agent.close()
    assert result.one("syscall")["errno"] == "EMEDIUMTYPE"
    assert result.report["scheduler"]["policy"] == 1


@pytest.mark.kernel("5.6")
@pytest.mark.ocirun_only("runc and crun wait for such an agent without end")
@pytest.mark.parametrize("default", [ALLOW, ERRNO])
def test_agent_that_does_not_read(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, default: str
) -> None:
    """An agent that takes no more than its socket buffer does not keep `start`: it fails, whatever the filter allows."""
    path = workdir / "agent"
    bundle.seq("ready").linux(
        seccomp=profile(
            default,
            rule("SCMP_ACT_NOTIFY", "getsid"),
            # What the program needs, and the loading itself; writing is not in it.
            *([rule(ALLOW, "execve", "capset", "capget", "exit_group")] if default == ERRNO else []),
            listenerPath=str(path),
            listenerMetadata="m" * (1 << 20),
        )
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)
        container = runtime.create(bundle)
        connection, _ = listening.accept()
        with connection:
            runtime.call("start", bundle.id).refused(
                "/linux/seccomp/listenerPath", "sendmsg", "ETIMEDOUT"
            )
    assert container.status() == "stopped"
    container.delete().ok()
