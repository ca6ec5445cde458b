# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: seccomp, from what the filtered program gets."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from typing import Any

from conformance.harness import machine
from conformance.harness.case import Failed, case
from conformance.harness.context import Context
from conformance.harness.runtime import Json, Output

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
#: What runtimes and the probe need, for a profile that denies by default; munlockall and mlockall are not among them.
NEEDED = [
    "access", "arch_prctl", "brk", "capget", "capset", "chdir", "chmod", "chown", "clock_gettime", "clock_nanosleep",
    "clone", "clone3", "close", "close_range", "connect", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl",
    "epoll_pwait", "epoll_wait", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2",
    "fchdir", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl", "fstat", "fstatfs", "fsync", "ftruncate", "futex",
    "get_robust_list", "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "getsockname",
    "getsockopt", "gettid", "gettimeofday", "getuid", "ioctl", "kill", "lseek", "lstat", "madvise", "membarrier",
    "memfd_create", "mkdirat", "mknodat", "mmap", "mount", "mprotect", "mremap", "munmap", "nanosleep", "newfstatat",
    "open", "openat", "openat2", "pause", "personality", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "poll",
    "ppoll", "prctl", "pread64", "prlimit64", "pselect6", "pwrite64", "read", "readlink", "readlinkat", "readv",
    "recvfrom", "recvmsg", "rename", "renameat", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "rt_sigsuspend", "sched_getaffinity", "sched_yield", "seccomp", "select", "sendfile", "sendmsg",
    "sendto", "set_mempolicy", "set_robust_list", "set_tid_address", "setgid", "setgroups", "sethostname",
    "setitimer", "setns", "setresgid", "setresuid", "setrlimit", "setsid", "setuid", "sigaltstack", "signalfd4",
    "socket", "socketpair", "stat", "statfs", "statx", "symlinkat", "sysinfo", "tgkill", "timer_create",
    "timer_delete", "timer_settime", "tkill", "umask", "umount2", "uname", "unlinkat", "unshare", "wait4", "waitid",
    "write", "writev",
]  # fmt: skip


def rule(action: str, *names: str, **members: Any) -> Json:
    """Return an entry of syscalls."""
    return {"names": list(names), "action": action} | members


def profile(c: Context, *rules: Json, default: str = ALLOW, **members: Any) -> Context:
    """Set a profile."""
    return c.linux(seccomp={"defaultAction": default, "syscalls": list(rules)} | members)


def calls(c: Context, *words: list[str]) -> list[Any]:
    """Run system calls; return for each the name of the errno or what it returned."""
    output = c.run(*[["syscall", *word] for word in words], "ready")
    output.one("ready")
    return [line.get("errno") or line["ret"] for line in output.all("syscall")]


# -- actions -----------------------------------------------------------------------------------------------------------


@case("seccomp-actions")
def seccomp_allow(c: Context) -> None:
    """A call without a rule is allowed by the default action."""
    profile(c, rule(ERRNO, "mlockall"))
    c.equal("munlockall", calls(c, ["munlockall"]), [0])


@case("seccomp-actions", "seccomp-errno")
def seccomp_errno_default(c: Context) -> None:
    """SCMP_ACT_ERRNO gives EPERM."""
    profile(c, rule(ERRNO, "munlockall"))
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


@case("seccomp-errno", each={"EXDEV": errno.EXDEV, "ENOSYS": errno.ENOSYS, "zero": 0})
def seccomp_errno(c: Context, number: int) -> None:
    """errnoRet is the number that the program gets."""
    profile(c, rule(ERRNO, "munlockall", errnoRet=number))
    c.equal("munlockall", calls(c, ["munlockall"]), [errno.errorcode[number] if number else 0])


KILLERS = {"SCMP_ACT_KILL": 31, "SCMP_ACT_KILL_THREAD": 31, "SCMP_ACT_KILL_PROCESS": 31, "SCMP_ACT_TRAP": 31}


@case("seccomp-actions", each={name: (name, number) for name, number in KILLERS.items()})
def seccomp_kill(c: Context, action: str, number: int) -> None:
    """The call ends the program with SIGSYS."""
    profile(c, rule(action, "munlockall"))
    output: Output = c.run(["syscall", "munlockall"], "ready")
    c.equal("the program went on", len(output.all("ready")), 0)
    c.within("exit status", output.status, (128 + number, -1))


@case("seccomp-actions")
def seccomp_log(c: Context) -> None:
    """SCMP_ACT_LOG lets the call through."""
    profile(c, rule("SCMP_ACT_LOG", "munlockall"))
    c.equal("munlockall", calls(c, ["munlockall"]), [0])


@case("seccomp-actions")
def seccomp_trace(c: Context) -> None:
    """SCMP_ACT_TRACE without a tracer is ENOSYS."""
    profile(c, rule("SCMP_ACT_TRACE", "munlockall"))
    c.equal("munlockall", calls(c, ["munlockall"]), ["ENOSYS"])


@case("seccomp-default")
def seccomp_default_denies(c: Context) -> None:
    """defaultAction is for every call that no rule names."""
    profile(c, rule(ALLOW, *NEEDED), default=ERRNO)
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


@case("seccomp-default-errno")
def seccomp_default_errno(c: Context) -> None:
    """defaultErrnoRet is the number of the default action."""
    profile(c, rule(ALLOW, *NEEDED), default=ERRNO, defaultErrnoRet=errno.EXDEV)
    c.equal("munlockall", calls(c, ["munlockall"]), ["EXDEV"])


@case("seccomp-default-errno-wrong", each={"allow": ALLOW, "log": "SCMP_ACT_LOG"})
def seccomp_default_errno_wrong(c: Context, action: str) -> None:
    """defaultErrnoRet for an action that gives no number is an error."""
    profile(c, rule(ERRNO, "munlockall"), default=action, defaultErrnoRet=1)
    c.refused(why=f"defaultErrnoRet with {action}", late=True)


@case("seccomp-errno-wrong", each={name: name for name in ("SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP")})
def seccomp_errno_wrong(c: Context, action: str) -> None:
    """errnoRet for an action that gives no number is an error."""
    profile(c, rule(action, "munlockall", errnoRet=1))
    c.refused(why=f"errnoRet with {action}", late=True)


# -- arguments ---------------------------------------------------------------------------------------------------------

BIG = 1 << 40
# operator: value, valueTwo, arguments that match, arguments that do not
OPERATORS: dict[str, tuple[int, int, list[int], list[int]]] = {
    "SCMP_CMP_NE": (5, 0, [4, 6, BIG | 5], [5]),
    "SCMP_CMP_LT": (5, 0, [0, 4], [5, 6, BIG]),
    "SCMP_CMP_LE": (5, 0, [0, 5], [6, BIG]),
    "SCMP_CMP_EQ": (5, 0, [5], [4, 6, BIG | 5]),
    "SCMP_CMP_GE": (5, 0, [5, 6, BIG], [0, 4]),
    "SCMP_CMP_GT": (5, 0, [6, BIG], [0, 5]),
    "SCMP_CMP_MASKED_EQ": (0xF0, 0x30, [0x30, 0x3F, BIG | 0x31], [0x20, 0x00, 0xFF]),
}


@case("seccomp-args", each={name: (name, *row) for name, row in OPERATORS.items()})
def seccomp_operator(c: Context, name: str, value: int, two: int, match: list[int], others: list[int]) -> None:
    """The operator compares all 64 bits of an argument."""
    entry = {"index": 0, "value": value, "op": name} | ({"valueTwo": two} if two else {})
    profile(c, rule(ERRNO, "munlockall", args=[entry], errnoRet=errno.EXDEV))
    seen = calls(c, *[["munlockall", str(number)] for number in match + others])
    c.equal("results", seen, ["EXDEV"] * len(match) + [0] * len(others))


@case("seccomp-args", each={str(index): index for index in range(6)})
def seccomp_index(c: Context, index: int) -> None:
    """index names the argument."""
    profile(c, rule(ERRNO, "munlockall", args=[{"index": index, "value": 7, "op": "SCMP_CMP_EQ"}]))
    hit = ["7" if number == index else "0" for number in range(6)]
    miss = ["0" if number == index else "7" for number in range(6)]
    c.equal("results", calls(c, ["munlockall", *hit], ["munlockall", *miss]), ["EPERM", 0])


@case("seccomp-args")
def seccomp_all_arguments(c: Context) -> None:
    """All comparisons of a rule on different arguments must hold."""
    entries = [{"index": index, "value": 7, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    profile(c, rule(ERRNO, "munlockall", args=entries))
    seen = calls(c, ["munlockall", "7", "7"], ["munlockall", "7", "0"], ["munlockall", "0", "7"])
    c.equal("results", seen, ["EPERM", 0, 0])


@case("seccomp-args")
def seccomp_64_bits(c: Context) -> None:
    """A value above 32 bits is compared whole."""
    profile(c, rule(ERRNO, "munlockall", args=[{"index": 0, "value": BIG | 5, "op": "SCMP_CMP_EQ"}]))
    c.equal("results", calls(c, ["munlockall", str(BIG | 5)], ["munlockall", "5"]), ["EPERM", 0])


@case("seccomp-names")
def seccomp_two_names(c: Context) -> None:
    """A rule is for each of its names."""
    profile(c, rule(ERRNO, "munlockall", "mlockall", errnoRet=errno.EXDEV))
    c.equal("results", calls(c, ["munlockall"], ["mlockall"]), ["EXDEV", "EXDEV"])


@case("seccomp-names", each={"empty": [], "missing": None})
def seccomp_no_names(c: Context, names: list[str] | None) -> None:
    """A rule without a name is an error."""
    entry: Json = {"action": ERRNO} | ({} if names is None else {"names": names})
    profile(c, entry)
    c.refused(why="a rule without a name", late=True)


INVALID = {
    "action": {"syscalls": [rule("SCMP_ACT_NONSENSE", "munlockall")]},
    "default-action": {"defaultAction": "SCMP_ACT_NONSENSE"},
    "no-default-action": {"defaultAction": None},
    "operator": {"syscalls": [rule(ERRNO, "munlockall", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_NONSENSE"}])]},
    "index": {"syscalls": [rule(ERRNO, "munlockall", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])]},
    "architecture": {"architectures": ["SCMP_ARCH_NONSENSE"]},
    "flag": {"flags": ["SECCOMP_FILTER_FLAG_NONSENSE"]},
}


@case("invalid-values", each=INVALID)
def seccomp_invalid(c: Context, patch: Json) -> None:
    """A word or number of a profile that there is not is an error."""
    profile(c, rule(ERRNO, "munlockall")).linux(seccomp=patch)
    c.refused(why="an invalid profile", late=True)


@case("seccomp-flags", each={name: f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW")})
def seccomp_flag(c: Context, flag: str) -> None:
    """The flag is understood, and the filter works."""
    profile(c, rule(ERRNO, "munlockall"), flags=[flag])
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


@case("seccomp-architectures")
def seccomp_architectures(c: Context) -> None:
    """With the machine's own architectures listed the filter works."""
    c.need(machine.X86_64, "only known for x86-64")
    profile(c, rule(ERRNO, "munlockall"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


@case("seccomp-architectures")
def seccomp_other_architecture(c: Context) -> None:
    """A call of a listed other architecture is filtered by name."""
    c.need(machine.X86_64, "only known for x86-64")
    plain = c.run(["syscall32", "153"]).one("syscall32")
    c.need(not plain.get("errno"), "the kernel has no 32-bit system calls")
    profile(c, rule(ERRNO, "munlockall", errnoRet=errno.EXDEV), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    c.equal("munlockall of 32 bits", c.run(["syscall32", "153"]).one("syscall32").get("errno"), "EXDEV")


@case("seccomp-default")
def seccomp_with_no_new_privileges(c: Context) -> None:
    """The filter works with noNewPrivileges and without capabilities."""
    c.process(noNewPrivileges=True, user={"uid": 1000, "gid": 1000})
    c.config["process"]["capabilities"] = {}
    profile(c, rule(ERRNO, "munlockall"))
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


# -- the agent ---------------------------------------------------------------------------------------------------------


class Agent(threading.Thread):
    """A seccomp agent that keeps what it was sent, and answers every notification with EMEDIUMTYPE."""

    def __init__(self, c: Context) -> None:
        super().__init__(daemon=True)
        self.path = str(c.place / "agent")
        self.messages: list[tuple[bytes, int]] = []
        self.closed = False
        self.notified: list[int] = []
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(4)
        self._listener.settimeout(60)
        self._end, self._ender = os.pipe()
        self.start()
        c.at_the_end(self.finish)

    def run(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self.connections += 1
        kept: list[int] = []
        with connection:
            connection.settimeout(60)
            try:
                while True:
                    data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 8)
                    if not data:
                        self.closed = True
                        break
                    self.messages.append((data, len(fds)))
                    kept += fds
                    if fds:
                        self.serve_soon(kept[0])
            except OSError:
                pass
        for fd in kept:
            self._threads[-1].join(60)
            os.close(fd)

    _threads: list[threading.Thread]

    def serve_soon(self, fd: int) -> None:
        """Answer in a thread of its own: the connection is watched meanwhile."""
        self._threads = [threading.Thread(target=self.serve, args=(fd,), daemon=True)]
        self._threads[0].start()

    def serve(self, fd: int) -> None:
        """Answer notifications until the filter is gone."""
        while True:
            ready = select.select([fd, self._end], [], [], 60)[0]
            if not ready or self._end in ready:
                return
            request = array.array("B", bytes(80))
            try:
                fcntl.ioctl(fd, 0xC0502100, request)  # SECCOMP_IOCTL_NOTIF_RECV
                ident, _, _, number = struct.unpack_from("QIIi", request)
                self.notified.append(number)
                answer = array.array("B", struct.pack("QqiI", ident, 0, -errno.EMEDIUMTYPE, 0))
                fcntl.ioctl(fd, 0xC0182101, answer)  # SECCOMP_IOCTL_NOTIF_SEND
            except OSError:
                return

    def finish(self) -> None:
        """End it."""
        os.close(self._ender)
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.join(60)
        self._listener.close()
        os.close(self._end)

    def state(self) -> Json:
        """Return the process state that it was sent."""
        try:
            document: Json = json.loads(b"".join(data for data, _ in self.messages))
        except ValueError:
            raise Failed("the process state is JSON", "a document", self.messages) from None
        return document


def notify(c: Context, **members: Any) -> tuple[Agent, Output]:
    """Run a program whose call the agent answers."""
    agent = Agent(c)
    profile(c, rule("SCMP_ACT_NOTIFY", "munlockall"), listenerPath=agent.path, **members)
    output: Output = c.run(["syscall", "munlockall"], "ready")
    return agent, output


@case("seccomp-listener", "seccomp-actions")
def seccomp_notify(c: Context) -> None:
    """The agent decides what the call gives."""
    agent, output = notify(c)
    c.equal("munlockall", output.one("syscall").get("errno"), "EMEDIUMTYPE")
    c.equal("calls that the agent saw", len(agent.notified), 1)


@case("process-state-json", "seccomp-listener")
def seccomp_notify_message(c: Context) -> None:
    """The agent gets one document, with the descriptor in its first message."""
    agent, _ = notify(c)
    agent.state()
    c.equal("descriptors of the messages", [count for _, count in agent.messages][:1], [1])
    c.equal("descriptors after the first message", sum(count for _, count in agent.messages[1:]), 0)


@case("process-state-members")
def seccomp_notify_state(c: Context) -> None:
    """The document has version, names of descriptors, pid, and the container's state."""
    c.set({"annotations": {"com.example.key": "value"}})
    agent, _ = notify(c, listenerMetadata="meta data")
    seen = agent.state()
    c.true("ociVersion is there", isinstance(seen.get("ociVersion"), str), seen)
    c.equal("fds", seen.get("fds"), ["seccompFd"])
    c.equal("metadata", seen.get("metadata"), "meta data")
    c.true("pid is a number above 0", type(seen.get("pid")) is int and seen["pid"] > 0, seen.get("pid"))
    state = seen.get("state") or {}
    c.equal("state.id", state.get("id"), c.id)
    c.equal("state.bundle", state.get("bundle"), os.path.realpath(c.bundle))
    c.within("state.status", state.get("status"), ("creating", "created", "running"))
    c.equal("state.annotations", state.get("annotations"), {"com.example.key": "value"})


@case("process-state-members")
def seccomp_notify_pid(c: Context) -> None:
    """pid is that of the container's process, as the host sees it."""
    agent = Agent(c)
    profile(c, rule("SCMP_ACT_NOTIFY", "munlockall"), listenerPath=agent.path)
    container = c.running(["syscall", "munlockall"])
    c.equal("pid", agent.state().get("pid"), container.pid)


@case("seccomp-listener")
def seccomp_notify_closes(c: Context) -> None:
    """The connection is closed once the state was sent, while the program runs."""
    import time

    agent = Agent(c)
    profile(c, rule("SCMP_ACT_NOTIFY", "munlockall"), listenerPath=agent.path)
    c.running(["syscall", "munlockall"])
    deadline = time.monotonic() + 60
    while not agent.closed and agent.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    c.equal("the connection is closed", agent.closed, True)


@case("seccomp-listener-fails", each={"missing": "missing", "nobody-listens": "dead"})
def seccomp_notify_without_agent(c: Context, kind: str) -> None:
    """A socket that nobody serves is an error."""
    path = str(c.place / "agent")
    if kind == "dead":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            left.bind(path)
    profile(c, rule("SCMP_ACT_NOTIFY", "munlockall"), listenerPath=path)
    c.refused(why="no agent", late=True)


@case("seccomp-listener-ignored")
def seccomp_listener_ignored(c: Context) -> None:
    """Without SCMP_ACT_NOTIFY the path is ignored."""
    profile(c, rule(ERRNO, "munlockall"), listenerPath=str(c.place / "nothing"))
    c.equal("munlockall", calls(c, ["munlockall"]), ["EPERM"])


@case("seccomp-metadata")
def seccomp_metadata_alone(c: Context) -> None:
    """listenerMetadata without listenerPath is an error."""
    profile(c, rule(ERRNO, "munlockall"), listenerMetadata="meta")
    c.refused(why="listenerMetadata without listenerPath", late=True)
