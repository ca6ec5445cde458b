# SPDX-License-Identifier: Apache-2.0
"""Compile `linux.seccomp` with libseccomp.  Loaded only when the cache has no answer.

Each architecture gets a filter of its own, merged at the end.  libseccomp can translate rules to
several architectures by itself, but then compares the low halves of 64-bit values on the 32-bit
ones: "argument 0 equals 2**32" would become "equals 0".  With a filter per architecture a
comparison is first brought to what it means there.

What the specification leaves open is settled as libseccomp has it, because profiles are written
against that:

- the `args` of a rule must all match; but as soon as two of them are about one argument, each of
  them is a rule of its own.  libseccomp cannot say "and" about one argument, and old profiles list
  alternatives in this form;
- a rule without `args` takes the call away from rules with `args`; of several without, the first
  one counts;
- a rule whose action is the default action is left out, yet its names count as named.
"""

from __future__ import annotations

import errno

from ocirun._native.libseccomp import (
    FLAG_LOG,
    FLAG_NEW_LISTENER,
    FLAG_SPEC_ALLOW,
    FLAG_WAIT_KILLABLE_RECV,
    UNKNOWN,
    Library,
)
from ocirun.errors import InvalidConfig, Problem, UnsupportedFeature, errno_text
from ocirun.plan import seccomp_enosys
from ocirun.plan.seccomp_cache import MAX_PROGRAM, Entry, file_identity
from ocirun.spec.seccomp_rules import check_seccomp, uses_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ocirun._native.libseccomp import Comparator, Filter

    Comparators = tuple[Comparator, ...]

_MAX_INSTRUCTIONS = MAX_PROGRAM // 8
_INSTALL_HINT = "install the package libseccomp2 (Debian, Ubuntu) or libseccomp (others)"

# linux/seccomp.h: the values of the actions.  The two with a number have it in their low 16 bits.
ACTIONS = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
_NUMBERED = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
# Younger than seccomp(2) itself.
_LATER_ACTIONS = ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY")

# Under these defaults a call that no rule knows is refused.  TRACE is not among them: its tracer
# may do anything.
_DENYING = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
)
_PERMITTING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")

# TSYNC is accepted and not passed on: it is about the other threads of the process, and init has
# none.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_NE, _LT, _LE, _EQ, _GE, _GT, _MASKED_EQ = 1, 2, 3, 4, 5, 6, 7

# libseccomp's names of the architectures of the specification, likelier natives first.
ARCHITECTURES = (
    *("x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "loongarch64", "x86", "arm"),
    *("mips64", "mipsel64", "mips", "mipsel", "mips64n32", "mipsel64n32", "ppc64", "ppc"),
    *("s390", "parisc64", "parisc", "m68k", "sh", "sheb", "x32"),
)

# Those on which libseccomp looks at the low half of an argument.
_NARROW = (
    *("x86", "x32", "arm", "m68k", "mips", "mipsel", "mips64n32", "mipsel64n32"),
    *("parisc", "ppc", "s390", "sh", "sheb"),
)

# libseccomp's token of x32 is its own invention; to the kernel x32 is x86_64 with a bit in the
# number.
_AUDIT_ARCH_X86_64 = 0xC000_003E

# How many numbers are looked through for calls that exist twice, see _named_numbers.
_NUMBERS_ABOVE = 512

# libseccomp finds the rule of a call by trying one after the other unless told otherwise; from a
# few dozen rules on its binary tree is shorter on average.  Its versions up to 2.5.3 get the tree
# wrong if there is no rule at all.
_TREE_FROM = 33


class LibraryMissing(UnsupportedFeature):
    """The profile would have to be compiled, and libseccomp is not installed."""


class _Architecture:
    __slots__ = ("audit", "name", "pointer", "token")

    def __init__(self, name: str, token: int, pointer: str) -> None:
        self.name = name
        self.token = token
        self.pointer = pointer
        self.audit = _AUDIT_ARCH_X86_64 if name == "x32" else token


class _Rule:
    """One entry of `syscalls`, resolved: any number with any of the alternatives gets the action."""

    __slots__ = ("action", "alternatives", "numbers", "pointer")

    def __init__(
        self,
        pointer: str,
        action: int,
        numbers: Sequence[int],
        alternatives: Sequence[Comparators],
    ) -> None:
        self.pointer = pointer
        self.action = action
        self.numbers = numbers
        self.alternatives = alternatives


def compile_profile(profile: Mapping[str, Any], pointer: str, *, fail_unknown: bool) -> Entry:
    """Compile a schema-valid profile.

    Errors: InvalidConfig for what the profile gets wrong, or names that this libseccomp does not
    know and that must not be skipped; LibraryMissing; UnsupportedFeature for what the kernel or
    this libseccomp cannot do.
    """
    problems = check_seccomp(profile, pointer)
    if problems:
        raise InvalidConfig(problems)
    try:
        library = Library()
    except OSError as error:
        raise LibraryMissing(
            f"{pointer}: libseccomp is needed to compile the profile: {error}",
            op="dlopen",
            json_pointer=pointer,
            hint=_INSTALL_HINT,
        ) from error
    identity = file_identity(library.path)
    try:
        flags = _find_flags(library, profile, pointer)
        _check_actions(library, profile, pointer)
    except OSError as error:
        raise UnsupportedFeature(
            f"{pointer}: seccomp: {errno_text(error.errno or 0)}",
            op="seccomp",
            json_pointer=pointer,
            hint="this kernel has no seccomp filters, or a filter around us hides them",
        ) from error
    skipped = _find_unknown_names(library, profile, pointer, fail_unknown=fail_unknown)
    architectures = _find_architectures(library, profile, pointer)
    program = _compile_rules(library, profile, architectures, pointer)
    program = _enosys_stub(library, profile, architectures) + program
    if len(program) > MAX_PROGRAM:
        raise InvalidConfig([_too_long(pointer, f"{len(program) // 8} instructions")])
    return Entry(program, flags, skipped, library.path, identity)


def _too_long(pointer: str, size: str) -> Problem:
    return Problem(
        "host",
        pointer,
        f"the profile comes to {size}; the kernel takes {_MAX_INSTRUCTIONS} at most",
    )


def _rules_of(profile: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return profile.get("syscalls") or ()


def _action(name: str, number: int | None) -> int:
    """Return an action's value.  Spec: the number of ERRNO and TRACE is EPERM unless given."""
    if name not in _NUMBERED:
        return ACTIONS[name]
    return ACTIONS[name] | (errno.EPERM if number is None else int(number))


def _default_action(profile: Mapping[str, Any]) -> int:
    return _action(profile["defaultAction"], profile.get("defaultErrnoRet"))


def _find_flags(library: Library, profile: Mapping[str, Any], pointer: str) -> int:
    """Return the flags for seccomp(2).

    Without `flags` in the profile, SPEC_ALLOW is asked for if the kernel has it, as runc does: the
    mitigation that it turns off (of speculative store bypass) is dear, and since Linux 5.16 seccomp
    no longer brings it by itself.
    """
    names = profile.get("flags")
    flags = 0
    if names is None:
        if library.kernel_has_flag(FLAG_SPEC_ALLOW):
            flags = FLAG_SPEC_ALLOW
        names = ()
    for index, name in enumerate(names):
        flag = FLAGS[name]
        # The kernel refuses this one without a listener, to which alone it applies.
        needs = FLAG_NEW_LISTENER if flag == FLAG_WAIT_KILLABLE_RECV else 0
        if flag and not library.kernel_has_flag(flag | needs):
            where = f"{pointer}/flags/{index}"
            raise UnsupportedFeature(f"{where}: this kernel has no {name}", json_pointer=where)
        flags |= flag
    if uses_notify(profile):
        return flags | FLAG_NEW_LISTENER
    return flags & ~FLAG_WAIT_KILLABLE_RECV


def _check_actions(library: Library, profile: Mapping[str, Any], pointer: str) -> None:
    """Refuse actions that the kernel would take for KILL."""
    places = [(profile["defaultAction"], f"{pointer}/defaultAction")]
    places += [
        (rule["action"], f"{pointer}/syscalls/{index}/action")
        for index, rule in enumerate(_rules_of(profile))
    ]
    seen: set[str] = set()
    for name, where in places:
        if name in _LATER_ACTIONS and name not in seen:
            seen.add(name)
            if not library.kernel_has_action(ACTIONS[name]):
                raise UnsupportedFeature(f"{where}: this kernel has no {name}", json_pointer=where)


def _find_unknown_names(
    library: Library, profile: Mapping[str, Any], pointer: str, *, fail_unknown: bool
) -> tuple[str, ...]:
    """Return the names that this libseccomp does not know, if they can be skipped.

    Skipping a name leaves its call to the default action.  That is safe where the default denies,
    or the rule would only have permitted; elsewhere a protection would be gone without a word.
    """
    default_denies = profile["defaultAction"] in _DENYING
    problems: list[Problem] = []
    skipped: dict[str, None] = {}
    for index, rule in enumerate(_rules_of(profile)):
        harmless = default_denies or rule["action"] in _PERMITTING
        for position, name in enumerate(rule["names"]):
            if library.number(library.native, name) != UNKNOWN:
                continue
            skipped[name] = None
            if fail_unknown or not harmless:
                problems.append(
                    Problem(
                        "host",
                        f"{pointer}/syscalls/{index}/names/{position}",
                        f"libseccomp {library.version} knows no system call {name!r},"
                        f" so {rule['action']} cannot be applied to it",
                    )
                )
    if problems:
        raise InvalidConfig(problems)
    return tuple(skipped)


def _find_architectures(
    library: Library, profile: Mapping[str, Any], pointer: str
) -> list[_Architecture]:
    """Return the native architecture, always, and those that the profile adds."""
    listed = [
        (text.removeprefix("SCMP_ARCH_").lower(), f"{pointer}/architectures/{index}")
        for index, text in enumerate(profile.get("architectures") or ())
    ]
    found: dict[int, _Architecture] = {}
    for name in ARCHITECTURES:
        if library.architecture(name) == library.native:
            found[library.native] = _Architecture(name, library.native, pointer)
            break
    for name, where in listed:
        token = library.architecture(name)
        if not token:
            raise UnsupportedFeature(
                f"{where}: libseccomp {library.version} does not know this architecture",
                json_pointer=where,
            )
        if token not in found:
            found[token] = _Architecture(name, token, where)
    return list(found.values())


def _compile_rules(
    library: Library,
    profile: Mapping[str, Any],
    architectures: Sequence[_Architecture],
    pointer: str,
) -> bytes:
    """Return libseccomp's program for the rules."""
    default = _default_action(profile)
    rules = _resolve_rules(library, profile, pointer)
    whole: Filter | None = None
    for architecture in architectures:
        try:
            part = library.new_filter(default, architecture.token)
            _add_rules(part, rules, architecture, pointer)
            if whole is None:
                whole = part
            else:
                whole.merge(part)
        except OSError as error:
            raise _refused(error, architecture.pointer) from error
    assert whole is not None, "the native architecture is always there"
    if len({number for rule in rules for number in rule.numbers}) >= _TREE_FROM:
        whole.use_binary_tree()
    try:
        return whole.export()
    except OSError as error:
        raise _refused(error, pointer) from error


def _refused(error: OSError, where: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{where}: libseccomp: {errno_text(error.errno or 0)}", op="libseccomp", json_pointer=where
    )


def _resolve_rules(library: Library, profile: Mapping[str, Any], pointer: str) -> list[_Rule]:
    default = _default_action(profile)
    rules: list[_Rule] = []
    for index, entry in enumerate(_rules_of(profile)):
        action = _action(entry["action"], entry.get("errnoRet"))
        if action == default:
            continue
        numbers = [library.number(library.native, name) for name in entry["names"]]
        rules.append(
            _Rule(
                f"{pointer}/syscalls/{index}",
                action,
                [number for number in numbers if number != UNKNOWN],
                _alternatives(entry.get("args") or ()),
            )
        )
    return rules


def _alternatives(args: Sequence[Mapping[str, Any]]) -> list[Comparators]:
    """Return the sets of comparators of which one has to match; see the module's text for why there
    are several.
    """
    # int(): to JSON Schema, 1.0 is an integer.
    comparators = [
        (
            int(arg["index"]),
            OPERATORS[arg["op"]],
            int(arg["value"]),
            int(arg.get("valueTwo") or 0),
        )
        for arg in args
    ]
    if len({argument for argument, _, _, _ in comparators}) < len(comparators):
        return [(comparator,) for comparator in comparators]
    return [tuple(comparators)]


def _add_rules(
    part: Filter, rules: Sequence[_Rule], architecture: _Architecture, pointer: str
) -> None:
    """Add all rules to the filter of one architecture.  Errors: OSError; InvalidConfig for
    contradictions.
    """
    width = 32 if architecture.name in _NARROW else 64
    added: set[tuple[int, int, Comparators]] = set()
    for rule in rules:
        for alternative in rule.alternatives:
            comparators = _narrow_all(alternative, width)
            if comparators is None:
                continue
            array = part.comparators(comparators)
            for number in rule.numbers:
                if (rule.action, number, comparators) in added:
                    continue
                added.add((rule.action, number, comparators))
                # Each needs an instruction at least.  libseccomp takes minutes to find out with
                # thousands more.
                if len(added) > _MAX_INSTRUCTIONS:
                    raise InvalidConfig([_too_long(pointer, f"over {_MAX_INSTRUCTIONS} rules")])
                try:
                    part.add(rule.action, number, array)
                except FileExistsError as error:
                    raise InvalidConfig([_contradiction(rule.pointer)]) from error


def _contradiction(where: str) -> Problem:
    return Problem(
        "host", where, "libseccomp cannot put this rule beside an earlier one about the same call"
    )


def _narrow_all(comparators: Comparators, width: int) -> Comparators | None:
    """Return what has to be compared on a machine with arguments of *width* bits, None if it can
    never match.
    """
    result: list[Comparator] = []
    for comparator in comparators:
        narrowed = narrow(comparator, width)
        if narrowed is False:
            return None
        if narrowed is not True:
            result.append(narrowed)
    return tuple(result)


def narrow(comparator: Comparator, width: int) -> Comparator | bool:
    """Return the comparator for arguments of *width* bits, or True or False if it does not depend
    on the argument.

    The values in a profile have 64 bits everywhere.
    """
    argument, operator, value, second = comparator
    largest = (1 << width) - 1
    if operator == _MASKED_EQ:
        # seccomp_rule_add(3): the masked argument equals the masked second value.
        mask, wanted = value & largest, value & second
        if wanted > largest:
            return False
        return (argument, operator, mask, wanted) if mask else True
    if operator in {_EQ, _NE}:
        if value > largest:
            return operator == _NE
    elif operator in {_LT, _GE}:
        if value > largest or value == 0:
            return (value != 0) == (operator == _LT)
    elif value >= largest:
        return operator == _LE
    return (argument, operator, value, 0)


def _enosys_stub(
    library: Library, profile: Mapping[str, Any], architectures: Sequence[_Architecture]
) -> bytes:
    """Return the code that has to stand before libseccomp's; empty if the rule does not apply."""
    denies = profile["defaultAction"] in _DENYING
    if not denies or _default_action(profile) == _action("SCMP_ACT_ERRNO", errno.ENOSYS):
        return b""
    names = sorted({name for rule in _rules_of(profile) for name in rule["names"]})
    newer = [
        (
            architecture.audit,
            seccomp_enosys.ranges(
                architecture.name, _named_numbers(library, architecture.token, names)
            ),
        )
        for architecture in architectures
    ]
    return seccomp_enosys.assemble(seccomp_enosys.stub(newer, errno.ENOSYS))


def _named_numbers(library: Library, token: int, names: Sequence[str]) -> set[int]:
    """Return the numbers that *names* have on an architecture, as far as they matter for the
    highest.

    The calls of sockets and System V IPC exist twice on some architectures, as parts of
    socketcall(2) and ipc(2) and with numbers of their own, and libseccomp makes rules for both.  By
    name it tells the first form only, so the numbers above the highest one that it told are asked
    for their names.
    """
    numbers: set[int] = set()
    twofold: set[str] = set()
    for name in names:
        number = library.number(token, name)
        if number >= 0:
            numbers.add(number)
        elif number != UNKNOWN:
            entry = library.entry_number(token, name)
            if entry >= 0:
                numbers.add(entry)
                twofold.add(name)
    if twofold:
        start = max(numbers) + 1
        numbers.update(
            number
            for number in range(start, start + _NUMBERS_ABOVE)
            if library.name(token, number) in twofold
        )
    return numbers
