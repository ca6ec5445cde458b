# SPDX-License-Identifier: Apache-2.0
"""Compiled seccomp filters, loaded into the kernel by this process's children: no container, no root.

`tests/kernel/test_seccomp.py` has the same from inside containers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.machine import compat_call, has_compat

from ocirun._native.libseccomp import Library
from ocirun.plan.seccomp import compile_profile

ALLOW, DENY, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"
X32_BIT = 0x40000000
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
needs_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="machine: no 32-bit system calls")

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
library = Library()
# What the child needs to report and leave; the interpreter may free memory meanwhile.
NEEDED = ["write", "exit_group", "munmap", "mmap", "brk", "madvise", "futex", "rt_sigreturn"]

Call = Callable[[], int]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def number(name: str) -> int:
    return library.number(library.native, name)


def direct(call: int, *args: int) -> Call:
    """A system call by its number; the answer is what the kernel returns, errors negative."""

    def make() -> int:
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(call), *(ctypes.c_ulong(a) for a in args))
        return -ctypes.get_errno() if result == -1 else result

    return make


def seccomp_call() -> int:
    return number("seccomp")


def observe(profile: dict[str, Any], calls: Sequence[Call]) -> tuple[list[int], int]:
    """Load the filter of *profile* in a child, make the calls there; return the answers and the wait status."""
    found = compile_profile(profile, cache_dir=None)
    program = Program(len(found.program) // 8, found.program)
    # Everything is prepared before the filter is loaded.
    load = direct(seccomp_call(), SECCOMP_SET_MODE_FILTER, found.flags, ctypes.addressof(program))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            if (result := load()) != 0:
                os.write(writer, b"load %d " % result)
                os._exit(1)
            for call in calls:
                os.write(writer, b"%d " % call())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answers = [int(word) for word in stream.read().split()]
    return answers, os.waitpid(pid, 0)[1]


def profile(default: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    basic = [{"names": NEEDED, "action": ALLOW}] if default != ALLOW else []
    return {"defaultAction": default, "syscalls": [*basic, *rules], **more}


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "names": list(names), **more}


def test_allow_list() -> None:
    """S-52: listed calls work, unlisted ones answer EPERM, those newer than the profile ENOSYS."""
    calls = [direct(number(name)) for name in ("getppid", "getuid", "openat2")]
    newer = [direct(call) for call in (number("openat2") + 1, 9999, 0x3FFFFFFF)]
    answers, status = observe(profile(DENY, rule(ALLOW, "getppid", "openat2")), [*calls, *newer])
    assert status == 0
    assert answers[0] == os.getpid()
    assert answers[1] == -errno.EPERM
    assert answers[2] not in {-errno.EPERM, -errno.ENOSYS}
    assert answers[3:] == [-errno.ENOSYS] * 3


def test_deny_list() -> None:
    """A default that allows leaves everything to the kernel but what is listed."""
    answers, status = observe(
        profile(ALLOW, rule(DENY, "getppid", errnoRet=errno.EXDEV)),
        [direct(number("getppid")), direct(number("getuid")), direct(9999)],
    )
    assert status == 0
    assert answers == [-errno.EXDEV, os.getuid(), -errno.ENOSYS]


def test_kill() -> None:
    """A default that kills does so for what is old and unlisted only."""
    document = profile(KILL, rule(ALLOW, "openat2"))
    answers, status = observe(document, [direct(9999), direct(number("getuid")), direct(9999)])
    assert answers == [-errno.ENOSYS]
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_skipped_call() -> None:
    """Number -1, nobody's call, answers as without a filter even if the default kills."""
    answers, status = observe(profile(KILL, rule(ALLOW, "openat2")), [direct(-1)])
    assert (answers, status) == ([-errno.ENOSYS], 0)


@pytest.mark.parametrize(
    ("op", "value", "two", "matching", "others"),
    [
        ("EQ", 2**32 + 5, 0, [2**32 + 5], [5, 2**32 + 4, 2**33 + 5]),
        ("NE", 2**32 + 5, 0, [5, 2**32, 2**33 + 5], [2**32 + 5]),
        ("LT", 2**32 + 5, 0, [0, 2**32 - 1, 2**32 + 4], [2**32 + 5, 2**33]),
        ("LE", 2**32 + 5, 0, [9, 2**32 + 5], [2**32 + 6, 2**33]),
        ("GT", 2**32 + 5, 0, [2**32 + 6, 2**33], [9, 2**32 + 5]),
        ("GE", 2**32 + 5, 0, [2**32 + 5, 2**33], [9, 2**32 + 4]),
        ("MASKED_EQ", 2**32 + 6, 2**32 + 2, [2**32 + 2, 2**33 + 2**32 + 3], [2, 2**32 + 4, 2**32]),
    ],
)
def test_operators(op: str, value: int, two: int, matching: list[int], others: list[int]) -> None:
    """Each operator compares all 64 bits of an argument (the fourth here, which getppid ignores)."""
    if library.architecture("x86_64") != library.native and library.architecture("aarch64") != library.native:
        pytest.skip("machine: no 64-bit arguments")
    args = [{"index": 3, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}]
    document = profile(ALLOW, rule(DENY, "getppid", args=args, errnoRet=errno.EXDEV))
    calls = [direct(number("getppid"), 0, 0, 0, argument) for argument in [*matching, *others]]
    answers, status = observe(document, calls)
    assert status == 0
    assert answers == [-errno.EXDEV] * len(matching) + [os.getpid()] * len(others)


@needs_x86_64
def test_compat_architecture_that_is_listed() -> None:
    """i386 calls are judged by their own numbers, the ENOSYS rule included."""
    if not has_compat():
        pytest.skip("machine: no 32-bit system calls")
    document = profile(DENY, rule(ALLOW, "getppid", "openat2"), architectures=["SCMP_ARCH_X86"])
    x86 = library.architecture("x86")
    calls = [library.number(x86, name) for name in ("getppid", "getuid32")]
    answers, status = observe(document, [compat_call(call) for call in [*calls, 436, 438]])
    assert status == 0
    assert answers == [os.getpid(), -errno.EPERM, -errno.EPERM, -errno.ENOSYS]


@needs_x86_64
@pytest.mark.parametrize("call", ["compat", "x32", "new x32"])
def test_architecture_that_is_not_listed(call: str) -> None:
    """i386 and x32 calls kill if the profile does not list their architecture, whatever the default."""
    if call == "compat" and not has_compat():
        pytest.skip("machine: no 32-bit system calls")
    made = {"compat": compat_call(20), "x32": direct(X32_BIT | 39), "new x32": direct(X32_BIT | 9999)}
    answers, status = observe(profile(ALLOW), [made[call]])
    assert answers == []
    assert os.WTERMSIG(status) == signal.SIGSYS


@needs_x86_64
def test_x32_that_is_listed() -> None:
    """x32 calls, where listed, are judged by x32 numbers."""
    document = profile(DENY, rule(ALLOW, "getppid", "openat2"), architectures=["SCMP_ARCH_X32"])
    answers, status = observe(document, [direct(X32_BIT | 102), direct(X32_BIT | 439)])
    assert (answers, status) == ([-errno.EPERM, -errno.ENOSYS], 0)


@pytest.mark.parametrize("flags", [[], None, ["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_TSYNC"]])
def test_flags_are_accepted(flags: list[str] | None) -> None:
    """The kernel takes the flags that come with the program."""
    answers, status = observe(profile(ALLOW, flags=flags), [direct(number("getppid"))])
    assert (answers, status) == ([os.getpid()], 0)


@pytest.mark.kernel("5.19")
def test_listener() -> None:
    """A filter with NOTIFY comes with the flag for a listener, and loading it returns one."""
    document = profile(
        ALLOW,
        rule("SCMP_ACT_NOTIFY", "mkdirat"),
        listenerPath="/run/agent",
        flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
    )
    found = compile_profile(document, cache_dir=None)
    program = Program(len(found.program) // 8, found.program)
    load = direct(seccomp_call(), SECCOMP_SET_MODE_FILTER, found.flags, ctypes.addressof(program))
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            listener = load()
            os._exit(0 if listener >= 0 and "seccomp notify" in os.readlink(f"/proc/self/fd/{listener}") else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_longest_program() -> None:
    """The kernel takes a program as long as the limit allows."""
    args = [[{"index": 1, "op": "SCMP_CMP_EQ", "value": 3 * value}] for value in range(800)]
    document = profile(ALLOW, *(rule(DENY, "getppid", args=each) for each in args))
    assert 3900 < len(compile_profile(document, cache_dir=None).program) // 8 <= 4096
    answers, status = observe(document, [direct(number("getppid"), 0, 3 * 799), direct(number("getppid"), 0, 1)])
    assert (answers, status) == ([-errno.EPERM, os.getpid()], 0)
