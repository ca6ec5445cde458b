# SPDX-License-Identifier: Apache-2.0
"""linux.seccomp: what is refused, what is skipped, which flags result, and what the program is like."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import bpf
import pytest
import seccomp_model
from cffi import FFI

from ocirun._native import libseccomp
from ocirun._native.libseccomp import Library
from ocirun.errors import InvalidConfig, UnsupportedFeature
from ocirun.plan import seccomp_compile, seccomp_enosys, seccomp_program
from ocirun.plan.seccomp import CompiledFilter, compile_profile
from ocirun.spec.seccomp_rules import check_seccomp

ALLOW, DENY, KILL, LOG = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG"
NOTIFY, TRACE = "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"
X86_64, X86, ARM = (seccomp_model.AUDIT[name] for name in ("x86_64", "x86", "arm"))
ENOSYS = bpf.ERRNO | errno.ENOSYS
EPERM = bpf.ERRNO | errno.EPERM


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "names": list(names), **more}


def arg(index: int, op: str, value: int, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": value_two}


def profile(default: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


def compiled(*args: Any, **more: Any) -> CompiledFilter:
    return compile_profile(profile(*args, **more), cache_dir=None)


def number(name: str, arch: str = "x86_64") -> int:
    return seccomp_model.number(arch, name)


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        (profile(ALLOW, defaultErrnoRet=1), ["/linux/seccomp/defaultErrnoRet"]),
        (profile(DENY, rule(ALLOW, "read", errnoRet=1)), ["/linux/seccomp/syscalls/0/errnoRet"]),
        (profile(DENY, defaultErrnoRet=4096), ["/linux/seccomp/defaultErrnoRet"]),
        (profile(TRACE, defaultErrnoRet=65536), ["/linux/seccomp/defaultErrnoRet"]),
        (profile(NOTIFY, listenerPath="/a"), ["/linux/seccomp/defaultAction"]),
        (
            profile(DENY, rule(NOTIFY, "read", "write"), listenerPath="/a"),
            ["/linux/seccomp/syscalls/0/names/1"],
        ),
        (profile(DENY, rule(NOTIFY, "read")), ["/linux/seccomp/syscalls"]),
        (profile(DENY, listenerMetadata="a"), ["/linux/seccomp/listenerMetadata"]),
        (
            profile(DENY, rule(ALLOW, "read", args=[arg(0, "EQ", 1), arg(6, "EQ", 1)])),
            ["/linux/seccomp/syscalls/0/args/1/index"],
        ),
        (
            profile(ALLOW, rule(KILL, "read", errnoRet=1), defaultErrnoRet=1, listenerMetadata="a"),
            [
                "/linux/seccomp/listenerMetadata",
                "/linux/seccomp/defaultErrnoRet",
                "/linux/seccomp/syscalls/0/errnoRet",
            ],
        ),
    ],
)
def test_rules_of_the_specification(document: dict[str, Any], pointers: list[str]) -> None:
    """W17: each broken rule is reported at its place, all at once, and compiling refuses alike."""
    assert [problem.pointer for problem in check_seccomp(document)] == pointers
    with pytest.raises(InvalidConfig) as caught:
        compile_profile(document, cache_dir=None)
    assert [problem.pointer for problem in caught.value.problems] == pointers


@pytest.mark.parametrize(
    "document",
    [
        profile(DENY, defaultErrnoRet=4095),
        profile(TRACE, defaultErrnoRet=65535),
        profile(DENY, listenerPath="/a"),
        profile(DENY, listenerPath="", listenerMetadata=""),
        profile(ALLOW, defaultErrnoRet=None, architectures=None, flags=None, listenerPath=None),
        {"defaultAction": ALLOW, "syscalls": None},
        {"defaultAction": ALLOW},
    ],
)
def test_what_is_not_against_the_rules(document: dict[str, Any]) -> None:
    """Limits, and absence in all its forms, are accepted."""
    assert not check_seccomp(document)
    assert compile_profile(document, cache_dir=None).program


def test_unknown_names_are_skipped_where_that_is_safe() -> None:
    """A name that libseccomp does not know is left to a default that denies, or that permits no less."""
    assert compiled(DENY, rule(ALLOW, "read", "no_such", "a\0b", "\udc80")).skipped_names == (
        "no_such",
        "a\0b",
        "\udc80",
    )
    assert compiled(KILL, rule(TRACE, "no_such")).skipped_names == ("no_such",)
    assert compiled(LOG, rule(ALLOW, "no_such")).skipped_names == ("no_such",)


@pytest.mark.parametrize(("default", "action"), [(ALLOW, DENY), (LOG, KILL), (TRACE, DENY), (ALLOW, TRACE)])
def test_unknown_names_are_errors_where_protection_would_be_lost(default: str, action: str) -> None:
    """V-13: a rule that restricts under a default that permits must not vanish; all names are reported."""
    with pytest.raises(InvalidConfig) as caught:
        compiled(default, rule(action, "read", "no_such"), rule(action, "nor_this"))
    assert [problem.pointer for problem in caught.value.problems] == [
        "/linux/seccomp/syscalls/0/names/1",
        "/linux/seccomp/syscalls/1/names/0",
    ]


def test_unknown_names_can_always_be_made_errors() -> None:
    """fail_unknown refuses also what would be safe to skip."""
    document = profile(DENY, rule(ALLOW, "no_such"))
    with pytest.raises(InvalidConfig):
        compile_profile(document, cache_dir=None, fail_unknown=True)


def test_unknown_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that this libseccomp does not have is named by its place."""
    monkeypatch.setattr(Library, "architecture", lambda *_: 0)
    with pytest.raises(UnsupportedFeature) as caught:
        compiled(DENY, architectures=["SCMP_ARCH_X86_64"])
    assert caught.value.json_pointer == "/linux/seccomp/architectures/0"


def test_flags() -> None:
    """SPEC_ALLOW is the default and can be taken back; TSYNC is accepted; NOTIFY brings a listener."""
    wait = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    notify = {"listenerPath": "/agent", "listenerMetadata": "m"}
    assert compiled(ALLOW).flags == 4
    assert compiled(ALLOW, flags=[]).flags == 0
    assert compiled(ALLOW, flags=["SECCOMP_FILTER_FLAG_TSYNC"]).flags == 0
    assert compiled(ALLOW, flags=["SECCOMP_FILTER_FLAG_LOG"]).flags == 2
    assert compiled(ALLOW, flags=[wait]).flags == 0
    assert compiled(ALLOW, flags=[wait], **notify).listener_path is None
    listening = compiled(ALLOW, rule(NOTIFY, "mkdir"), flags=[wait], **notify)
    assert listening.flags == 8 | 32
    assert listening.notify
    assert (listening.listener_path, listening.listener_metadata) == ("/agent", "m")


def test_flags_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that was asked for is missed by its place; the default one is just left out."""
    monkeypatch.setattr(Library, "kernel_has_flag", lambda *_: False)
    assert compiled(ALLOW).flags == 0
    with pytest.raises(UnsupportedFeature) as caught:
        compiled(ALLOW, flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])
    assert caught.value.json_pointer == "/linux/seccomp/flags/1"


def test_actions_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would take an unknown action for KILL; so it is an error."""
    monkeypatch.setattr(Library, "kernel_has_action", lambda *_: False)
    assert compiled(DENY, rule(ALLOW, "read")).program
    with pytest.raises(UnsupportedFeature) as caught:
        compiled(DENY, rule(ALLOW, "read"), rule(LOG, "write"))
    assert caught.value.json_pointer == "/linux/seccomp/syscalls/1/action"


def test_kernel_knows_its_flags_and_actions() -> None:
    """The questions to seccomp(2) tell what exists from what does not."""
    library = Library()
    assert library.kernel_has_flag(libseccomp.FLAG_LOG)
    assert not library.kernel_has_flag(1 << 30)
    assert library.kernel_has_action(bpf.ALLOW)
    assert not library.kernel_has_action(0x12340000)


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libseccomp the error names the package."""
    monkeypatch.setattr(libseccomp, "SONAME", "libnowhere.so.2")
    with pytest.raises(UnsupportedFeature) as caught:
        compiled(DENY)
    assert "libseccomp2" in (caught.value.hint or "")
    assert caught.value.json_pointer == "/linux/seccomp"


@pytest.mark.parametrize(
    ("default", "more", "applies"),
    [
        (DENY, {}, True),
        (DENY, {"defaultErrnoRet": errno.ENOSYS}, False),
        (KILL, {}, True),
        ("SCMP_ACT_KILL_PROCESS", {}, True),
        ("SCMP_ACT_TRAP", {}, True),
        (ALLOW, {}, False),
        (LOG, {}, False),
        (TRACE, {}, False),
    ],
)
def test_enosys_rule_by_default_action(default: str, more: dict[str, Any], applies: bool) -> None:
    """S-52: where the default denies, numbers above the highest named one are answered with ENOSYS."""
    highest = number("openat2")
    program = compiled(default, rule(KILL if default == ALLOW else ALLOW, "openat2"), **more).program
    unlisted = seccomp_model.action(default, more.get("defaultErrnoRet"))
    assert bpf.run(program, X86_64, highest - 1) == unlisted
    assert bpf.run(program, X86_64, highest) != ENOSYS
    for newer in (highest + 1, 9999, 0xFFFFFFFF):
        assert bpf.run(program, X86_64, newer) == (ENOSYS if applies else unlisted)


def test_enosys_rule_counts_every_named_call() -> None:
    """A rule that is left out, that cannot match or that denies still makes its number a known one."""
    never = [arg(0, "LT", 0)]
    program = compiled(DENY, rule(DENY, "openat2"), rule(ALLOW, "close_range", args=never)).program
    assert bpf.run(program, X86_64, number("openat2")) == EPERM
    assert bpf.run(program, X86_64, number("openat2") + 1) == ENOSYS


def test_enosys_rule_without_names() -> None:
    """A profile that names nothing has no highest number."""
    program = compiled(DENY, rule(ALLOW, "no_such")).program
    assert bpf.run(program, X86_64, 9999) == EPERM


def test_enosys_rule_and_calls_with_two_numbers() -> None:
    """socket(2) on x86 is allowed under its own number too, though that is far above socketcall's."""
    program = compiled(DENY, rule(ALLOW, "socket"), architectures=["SCMP_ARCH_X86"]).program
    assert bpf.run(program, X86, 102, (1,)) == bpf.ALLOW
    assert bpf.run(program, X86, 102, (2,)) == EPERM
    assert bpf.run(program, X86, 359) == bpf.ALLOW
    assert bpf.run(program, X86, 360) == ENOSYS


def test_enosys_rule_on_arm() -> None:
    """ARM's private calls, far above the others, do not hide new ones."""
    program = compiled(DENY, rule(ALLOW, "openat2", "set_tls"), architectures=["SCMP_ARCH_ARM"]).program
    highest = number("openat2", "arm")
    assert bpf.run(program, ARM, highest + 1) == ENOSYS
    assert bpf.run(program, ARM, 0xEFFFF) == ENOSYS
    assert bpf.run(program, ARM, 0xF0001) == EPERM
    assert bpf.run(program, ARM, 0xF0005) == bpf.ALLOW
    assert bpf.run(program, ARM, 0xF0006) == ENOSYS


def test_enosys_rule_on_s390() -> None:
    """Number 0, which stands for numbers that the kernel does not know, is newer unless it is named."""
    assert seccomp_enosys.newer("s390x", [3, 5]) == [(0, 0), (6, 0xFFFFFFFF)]
    assert seccomp_enosys.newer("s390x", [0, 5]) == [(6, 0xFFFFFFFF)]
    assert seccomp_enosys.newer("s390x", []) == []


def test_x32() -> None:
    """Calls with the x32 bit are refused unless x32 is listed, and then have numbers of their own."""
    bit = seccomp_model.X32_BIT
    alone = compiled(DENY, rule(ALLOW, "read", "openat2")).program
    for call in (bit, bit | number("read"), bit | 511, bit | 512, 0xFFFFFFFE):
        assert bpf.run(alone, X86_64, call) == bpf.KILL_THREAD
    both = compiled(DENY, rule(ALLOW, "read", "openat2", "ioctl"), architectures=["SCMP_ARCH_X32"]).program
    assert bpf.run(both, X86_64, bit | number("read")) == bpf.ALLOW
    assert bpf.run(both, X86_64, number("ioctl", "x32")) == bpf.ALLOW
    assert bpf.run(both, X86_64, number("openat2", "x32") + 1) == ENOSYS
    assert bpf.run(both, X86_64, bit | 512) == EPERM
    assert bpf.run(both, X86_64, number("ioctl", "x32") + 1) == ENOSYS


def test_foreign_architecture_is_killed() -> None:
    """Calls of an architecture that is not listed kill the thread, even under a default that allows."""
    assert bpf.run(compiled(ALLOW).program, X86, 3) == bpf.KILL_THREAD


def test_several_comparators_on_one_argument() -> None:
    """As in runc and crun, they are rules of their own: any of them is enough."""
    args = [arg(0, "EQ", 0), arg(0, "EQ", 8), arg(1, "EQ", 5)]
    program = compiled(DENY, rule(ALLOW, "personality", args=args)).program
    call = number("personality")
    allowed = {(0, 0), (8, 0), (7, 5)}
    for given in [*allowed, (7, 0), (5, 8)]:
        assert (bpf.run(program, X86_64, call, given) == bpf.ALLOW) == (given in allowed)


@pytest.mark.parametrize(
    ("rules", "call", "wanted"),
    [
        # libseccomp 2.5.4 allows this call, which neither rule does.
        ([[arg(0, "GE", 16)], [arg(0, "LT", 1), arg(1, "LE", 1)]], (0, 17), False),
        # libseccomp 2.5.4 never returns from compiling this.
        ([[arg(0, "NE", 16), arg(1, "LT", 16)], [arg(0, "NE", 16), arg(2, "GE", 16)]], (1, 16, 16), True),
    ],
)
def test_rules_with_common_arguments(rules: list[list[dict[str, Any]]], call: tuple[int, ...], wanted: bool) -> None:
    """Rules about the same arguments of one call neither hide nor widen each other."""
    program = compiled(DENY, *(rule(ALLOW, "ioctl", args=args) for args in rules)).program
    assert (bpf.run(program, X86_64, number("ioctl"), call) == bpf.ALLOW) is wanted


def test_order_of_rules() -> None:
    """Without arguments: the first one, before all with arguments.  With arguments: the first that matches."""
    call = number("ioctl")
    one = [arg(0, "EQ", 1)]
    program = compiled(DENY, rule(LOG, "ioctl", args=one), rule(ALLOW, "ioctl"), rule(KILL, "ioctl")).program
    assert bpf.run(program, X86_64, call, (1,)) == bpf.ALLOW
    program = compiled(DENY, rule(LOG, "ioctl", args=one), rule(ALLOW, "ioctl", args=[arg(1, "EQ", 1)])).program
    assert bpf.run(program, X86_64, call, (1, 1)) == bpf.LOG
    assert bpf.run(program, X86_64, call, (0, 1)) == bpf.ALLOW
    assert bpf.run(program, X86_64, call, (0, 0)) == EPERM


def test_wide_values_on_a_32_bit_architecture() -> None:
    """2**32 does not equal 0 where arguments have 32 bits."""
    args = [arg(0, "EQ", 2**32)]
    program = compiled(DENY, rule(ALLOW, "ioctl", args=args), architectures=["SCMP_ARCH_X86"]).program
    assert bpf.run(program, X86, number("ioctl", "x86"), (0,)) == EPERM
    assert bpf.run(program, X86_64, number("ioctl"), (2**32,)) == bpf.ALLOW


def many(count: int) -> list[dict[str, Any]]:
    return [rule(ALLOW, "ioctl", args=[arg(1, "EQ", value)]) for value in range(count)]


def test_long_program() -> None:
    """Distances beyond a conditional jump's reach are covered; the kernel's limit is a clear error."""
    program = compiled(DENY, *many(700), rule(ALLOW, "read", "sched_yield", "openat2")).program
    assert 255 < len(bpf.decode(program)) <= 4096
    assert bpf.run(program, X86_64, number("ioctl"), (0, 699)) == bpf.ALLOW
    assert bpf.run(program, X86_64, number("ioctl"), (0, 700)) == EPERM
    allowed = {number(name) for name in ("read", "sched_yield", "openat2")}
    for call in range(number("openat2") + 1):
        assert bpf.run(program, X86_64, call, (0, 700)) == (bpf.ALLOW if call in allowed else EPERM)
    assert bpf.run(program, X86, 3) == bpf.KILL_THREAD
    with pytest.raises(InvalidConfig) as caught:
        compiled(DENY, *many(65_000))
    assert caught.value.problems[0].pointer == "/linux/seccomp"
    assert "4096" in caught.value.problems[0].message


@pytest.mark.parametrize("length", range(250, 262))
def test_reach_of_jumps(length: int) -> None:
    """Answers of any length, before and behind one another, do not change what is found."""
    long = (*((0x54, 0, 0, 0xFFFFFFFF) for _ in range(length - 1)), (0x06, 0, 0, bpf.LOG))
    short = seccomp_program.answer(bpf.ALLOW)
    for parts in ([((3, 3), long), ((4, 4), short)], [((3, 3), short), ((4, 4), long)]):
        filled = seccomp_program.fill(parts, seccomp_program.answer(EPERM))
        both = {X86_64: filled, X86: seccomp_program.fill([], short)}
        program = seccomp_program.assemble(seccomp_program.program(both, bpf.TRAP))
        wanted = {3: parts[0][1][-1][3], 4: parts[1][1][-1][3]}
        for call in (0, 2, 3, 4, 5, 0xFFFFFFFF):
            assert bpf.run(program, X86_64, call) == wanted.get(call, EPERM)
        assert bpf.run(program, X86, 3) == bpf.ALLOW
        assert bpf.run(program, ARM, 3) == bpf.TRAP


def test_constant_answers_read_no_arguments() -> None:
    """Calls without comparators are decided by instructions that the kernel's cache can follow."""
    program = bpf.decode(compiled(DENY, rule(ALLOW, "read", "write"), *many(2)).program)
    followed = {0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06}
    assert {code for code, *_ in program} <= followed
    for call in range(600):
        if call != number("ioctl"):
            # No args: an attempt to load them is an AssertionError of the interpreter.
            bpf.run_decoded(program, bpf.seccomp_data(X86_64, call)[:16])


# The compiler that runc, crun and youki use.
_REFERENCE = """
    typedef void *scmp_filter_ctx;
    struct scmp_arg_cmp { unsigned int arg; int op; uint64_t datum_a; uint64_t datum_b; };
    scmp_filter_ctx seccomp_init(uint32_t);
    void seccomp_release(scmp_filter_ctx);
    int seccomp_arch_add(scmp_filter_ctx, uint32_t);
    uint32_t seccomp_arch_resolve_name(const char *);
    int seccomp_syscall_resolve_name(const char *);
    int seccomp_rule_add_array(scmp_filter_ctx, uint32_t, int, unsigned int, const struct scmp_arg_cmp *);
    int seccomp_export_bpf(scmp_filter_ctx, int);
"""


def reference(document: dict[str, Any]) -> bytes:
    """Compile a profile with libseccomp itself; one comparator per argument only."""
    ffi = FFI()
    ffi.cdef(_REFERENCE)
    lib: Any = ffi.dlopen(libseccomp.SONAME)
    ctx = lib.seccomp_init(seccomp_model.action(document["defaultAction"], document.get("defaultErrnoRet")))
    for text in document["architectures"]:
        token = lib.seccomp_arch_resolve_name(text.removeprefix("SCMP_ARCH_").lower().encode())
        assert lib.seccomp_arch_add(ctx, token) in {0, -errno.EEXIST}
    for entry in document["syscalls"]:
        args = [
            (a["index"], list(seccomp_compile.OPERATORS).index(a["op"]) + 1, a["value"], a.get("valueTwo", 0))
            for a in entry.get("args", [])
        ]
        array = ffi.new("struct scmp_arg_cmp[]", args)
        for name in entry["names"]:
            call = lib.seccomp_syscall_resolve_name(name.encode())
            value = seccomp_model.action(entry["action"], entry.get("errnoRet"))
            assert lib.seccomp_rule_add_array(ctx, value, call, len(args), array) == 0
    fd = os.memfd_create("reference")
    try:
        assert lib.seccomp_export_bpf(ctx, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
        lib.seccomp_release(ctx)


def test_same_answers_as_libseccomp() -> None:
    """For a profile as engines make them, all that differs from libseccomp's filter is the ENOSYS rule."""
    held_back = {"clone", "personality", "socket", "mount", "bpf", "reboot", "setns", "clone3", "ptrace"}
    names = sorted({*seccomp_model.table("x86_64").values(), *seccomp_model.table("x86").values()} - held_back)
    document = profile(
        DENY,
        rule(ALLOW, *names),
        rule(ALLOW, "socket", args=[arg(0, "NE", 40)]),
        *(rule(ALLOW, "personality", args=[arg(0, "EQ", v)]) for v in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
        rule(ALLOW, "clone", args=[arg(0, "MASKED_EQ", 0x7E020000, 0)]),
        rule(DENY, "clone3", errnoRet=errno.ENOSYS),
        rule(KILL, "ptrace", args=[arg(0, "GT", 16), arg(3, "LE", 7)]),
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
    )
    ours = bpf.decode(compile_profile(document, cache_dir=None).program)
    theirs = bpf.decode(reference(document))
    assert len(ours) < len(theirs)
    edges = [0, 1, 8, 16, 17, 40, 0x20008, 0x7E020000, 2**32 - 1, 2**32, 2**32 + 40]
    telling = [(first, 0, 0, third) for first in edges for third in (0, 7, 8, 2**32)]
    conditional = {*held_back, "socketcall", "ipc"}
    for arch in ("x86_64", "x86", "x32", "aarch64", "arm"):
        base = seccomp_model.X32_BIT if arch == "x32" else 0
        audit = seccomp_model.AUDIT[arch]
        for call in range(base, base + 600):
            some = telling if seccomp_model.table(arch).get(call) in conditional else telling[:1]
            for args in some:
                data = bpf.seccomp_data(audit, call, args)
                got, wanted = bpf.run_decoded(ours, data), bpf.run_decoded(theirs, data)
                if got != wanted:
                    assert (got, wanted) == (ENOSYS, EPERM), (arch, call, args)


def test_hot_path_imports() -> None:
    """D10: what a cached filter takes imports neither the compiler nor cffi nor json."""
    code = (
        "import sys; import ocirun.plan.seccomp;"
        "print(*sorted({'_cffi_backend', 'hashlib', 'json', 're', 'typing', 'ocirun.plan.seccomp_compile'}"
        " & set(sys.modules)))"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    from subprocess import run

    before = run([*command[:-1], "import sys; print(*sorted(sys.modules))"], capture_output=True, check=True, text=True)
    after = run(command, capture_output=True, check=True, text=True)
    assert set(after.stdout.split()) <= set(before.stdout.split())
