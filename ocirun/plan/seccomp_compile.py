# SPDX-License-Identifier: Apache-2.0
"""Compile `linux.seccomp`.  Loaded only when the cache has no answer.

The numbers of system calls are libseccomp's; the code is our own (`seccomp_program`).

What the specification leaves open is settled as libseccomp has it, because profiles are written
against that:

- the `args` of a rule must all match; but as soon as two of them are about one argument, each of
  them is a rule of its own.  libseccomp cannot say "and" about one argument, and old profiles list
  alternatives in this form;
- a rule without `args` takes the call away from rules with `args`; of several without, the first
  one counts;
- a rule whose action is the default action is left out, yet its names count as named;
- a call of an architecture that is neither native nor listed kills the thread;
- on 32-bit architectures and x32 the low halves of arguments are compared.

Of several matching rules with `args` the first one counts.  libseccomp refuses some of these
profiles, and what it makes of others depends on how they fall into its tree.
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
from ocirun.plan import seccomp_enosys, seccomp_program
from ocirun.plan.seccomp_cache import MAX_PROGRAM, Entry, file_identity
from ocirun.spec.seccomp_rules import check_seccomp, uses_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from ocirun.plan.seccomp_program import Code, Comparators, Range

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

# TSYNC is accepted and not passed on: it is about the other threads of the process.  init has none, or one that hands
# the listener over and must not be filtered.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

OPERATORS = {
    "SCMP_CMP_NE": seccomp_program.NE,
    "SCMP_CMP_LT": seccomp_program.LT,
    "SCMP_CMP_LE": seccomp_program.LE,
    "SCMP_CMP_EQ": seccomp_program.EQ,
    "SCMP_CMP_GE": seccomp_program.GE,
    "SCMP_CMP_GT": seccomp_program.GT,
    "SCMP_CMP_MASKED_EQ": seccomp_program.MASKED_EQ,
}

# libseccomp's names of the architectures of the specification, likelier natives first.
ARCHITECTURES = (
    *("x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "loongarch64", "x86", "arm"),
    *("mips64", "mipsel64", "mips", "mipsel", "mips64n32", "mipsel64n32", "ppc64", "ppc"),
    *("s390", "parisc64", "parisc", "m68k", "sh", "sheb", "x32"),
)

# Those on which the low halves of arguments are compared.
_NARROW = (
    *("x86", "x32", "arm", "m68k", "mips", "mipsel", "mips64n32", "mipsel64n32"),
    *("parisc", "ppc", "s390", "sh", "sheb"),
)

# libseccomp's token of x32 is its own invention; to the kernel x32 is x86_64 with a bit set.
_AUDIT_ARCH_X86_64 = 0xC000_003E

# How many numbers are looked through for the second number of a call, see _Architecture.places.
_TABLE_SIZE = 1000


class LibraryMissing(UnsupportedFeature):
    """The profile would have to be compiled, and libseccomp is not installed."""


class _Architecture:
    """One architecture of the filter: how its numbers are found."""

    __slots__ = ("_library", "_token", "_twins", "audit", "name", "width")

    def __init__(self, library: Library, name: str, token: int) -> None:
        self._library = library
        self._token = token
        self._twins: dict[str, int] | None = None
        self.name = name
        self.audit = _AUDIT_ARCH_X86_64 if name == "x32" else token
        self.width = 32 if name in _NARROW else 64

    def places(self, name: str) -> Iterator[tuple[int, int | None]]:
        """Yield where a call arrives: numbers, each with its argument 0 if that is fixed.

        The calls of sockets and System V IPC exist twice on some architectures: as parts of
        socketcall(2) and ipc(2), where argument 0 says which, and under numbers of their own.
        """
        number = self._library.number(self._token, name)
        if number >= 0:
            yield number, None
        elif number != UNKNOWN:
            entry = self._library.entry_number(self._token, name)
            if entry >= 0:
                yield entry, -number % 100
                twin = self._twin(name, entry)
                if twin is not None:
                    yield twin, None

    def _twin(self, name: str, entry: int) -> int | None:
        """Return the number of its own that a part of the call *entry* has.

        libseccomp tells it only the other way round, a name for a number.
        """
        if self._twins is None:
            start = entry - entry % _TABLE_SIZE  # MIPS counts from 4000
            numbers = range(start, start + _TABLE_SIZE)
            names = ((self._library.name(self._token, number), number) for number in numbers)
            self._twins = {found: number for found, number in names if found is not None}
        return self._twins.get(name)


class _Rule:
    """One entry of `syscalls`: any of the names with any of the alternatives gets the action."""

    __slots__ = ("action", "alternatives", "names")

    def __init__(self, action: int, names: Sequence[str], alternatives: Sequence[Comparators]) -> None:
        self.action = action
        self.names = names
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
    instructions = seccomp_program.program(_answers(profile, architectures), foreign=ACTIONS["SCMP_ACT_KILL_THREAD"])
    if len(instructions) > _MAX_INSTRUCTIONS:
        raise InvalidConfig([_too_long(pointer, len(instructions))])
    program = seccomp_program.assemble(instructions)
    return Entry(program, flags, skipped, library.path, identity)


def _too_long(pointer: str, length: int) -> Problem:
    return Problem(
        "host",
        pointer,
        f"the filter has {length} instructions; the kernel takes up to {_MAX_INSTRUCTIONS}",
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


def kernel_has_flag(library: Library, flag: int) -> bool:
    """Say whether a filter with one of FLAGS can be loaded.  Errors: OSError without seccomp(2)."""
    # The kernel refuses this one without a listener, to which alone it applies.
    needs = FLAG_NEW_LISTENER if flag == FLAG_WAIT_KILLABLE_RECV else 0
    return flag == 0 or library.kernel_has_flag(flag | needs)


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
        if not kernel_has_flag(library, flag):
            where = f"{pointer}/flags/{index}"
            raise UnsupportedFeature(f"{where}: this kernel has no {name}", json_pointer=where)
        flags |= flag
    if uses_notify(profile):
        return flags | FLAG_NEW_LISTENER
    return flags & ~FLAG_WAIT_KILLABLE_RECV


def _check_actions(library: Library, profile: Mapping[str, Any], pointer: str) -> None:
    """Refuse actions that the kernel would take for KILL."""
    places = [(profile["defaultAction"], f"{pointer}/defaultAction")]
    places += [(rule["action"], f"{pointer}/syscalls/{index}/action") for index, rule in enumerate(_rules_of(profile))]
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


def _find_architectures(library: Library, profile: Mapping[str, Any], pointer: str) -> list[_Architecture]:
    """Return the native architecture, always, and those that the profile adds."""
    listed = [
        (text.removeprefix("SCMP_ARCH_").lower(), f"{pointer}/architectures/{index}")
        for index, text in enumerate(profile.get("architectures") or ())
    ]
    found: dict[int, _Architecture] = {}
    for name in ARCHITECTURES:
        if library.architecture(name) == library.native:
            found[library.native] = _Architecture(library, name, library.native)
            break
    for name, where in listed:
        token = library.architecture(name)
        if not token:
            raise UnsupportedFeature(
                f"{where}: libseccomp {library.version} does not know this architecture",
                json_pointer=where,
            )
        if token not in found:
            found[token] = _Architecture(library, name, token)
    return list(found.values())


def _answers(profile: Mapping[str, Any], architectures: Sequence[_Architecture]) -> dict[int, list[tuple[Range, Code]]]:
    """Return what every number of every architecture is answered with, by AUDIT_ARCH value."""
    default = _default_action(profile)
    denies = profile["defaultAction"] in _DENYING
    enosys = _action("SCMP_ACT_ERRNO", errno.ENOSYS)
    names = {name for rule in _rules_of(profile) for name in rule["names"]}
    rules = _resolve_rules(profile)
    by_audit: dict[int, list[tuple[Range, Code]]] = {}
    for architecture in architectures:
        parts = [
            ((number, number), _call_code(alternatives, default, architecture.width))
            for number, alternatives in _by_number(rules, architecture).items()
        ]
        if denies:
            named = [number for name in names for number, _ in architecture.places(name)]
            parts += [
                (newer, seccomp_program.answer(enosys)) for newer in seccomp_enosys.newer(architecture.name, named)
            ]
        # x86_64 and x32 share one AUDIT_ARCH value, but no number.
        by_audit.setdefault(architecture.audit, []).extend(
            seccomp_program.fill(parts, seccomp_program.answer(default), seccomp_enosys.series(architecture.name))
        )
    foreign = seccomp_program.answer(ACTIONS["SCMP_ACT_KILL_THREAD"])
    return {audit: seccomp_program.fill(parts, foreign) for audit, parts in by_audit.items()}


def _resolve_rules(profile: Mapping[str, Any]) -> list[_Rule]:
    default = _default_action(profile)
    rules = []
    for entry in _rules_of(profile):
        action = _action(entry["action"], entry.get("errnoRet"))
        if action != default:
            rules.append(_Rule(action, entry["names"], _alternatives(entry.get("args") or ())))
    return rules


def _alternatives(args: Sequence[Mapping[str, Any]]) -> list[Comparators]:
    """Return the sets of comparators of which one has to match; the module's text says why."""
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


def _by_number(rules: Sequence[_Rule], architecture: _Architecture) -> dict[int, dict[tuple[Comparators, int], None]]:
    """Return for each number the comparators and actions that apply to it, in order, once each."""
    result: dict[int, dict[tuple[Comparators, int], None]] = {}
    for rule in rules:
        alternatives = [
            narrowed
            for comparators in rule.alternatives
            if (narrowed := _narrow_all(comparators, architecture.width)) is not None
        ]
        for name in rule.names:
            for number, first in architecture.places(name):
                for comparators in alternatives:
                    if first is not None:
                        comparators = _fix_first(comparators, first)
                    result.setdefault(number, {})[comparators, rule.action] = None
    return result


def _fix_first(comparators: Comparators, value: int) -> Comparators:
    """Return comparators for one part of socketcall(2) or ipc(2).

    The arguments proper are behind a pointer, where no filter can look.  libseccomp compares the
    registers all the same; who must be sure of these arguments has to deny socketcall as a whole.
    """
    rest = tuple(comparator for comparator in comparators if comparator[0] != 0)
    return ((0, seccomp_program.EQ, value, 0), *rest)


def _narrow_all(comparators: Comparators, width: int) -> Comparators | None:
    """Return what has to be compared for arguments of *width* bits, None if it cannot match."""
    narrowed = [seccomp_program.narrow(comparator, width) for comparator in comparators]
    if False in narrowed:
        return None
    return tuple(comparator for comparator in narrowed if not isinstance(comparator, bool))


def _call_code(alternatives: Mapping[tuple[Comparators, int], None], default: int, width: int) -> Code:
    """Return the code of one number."""
    for comparators, action in alternatives:
        if not comparators:
            return seccomp_program.answer(action)
    return seccomp_program.conditions(alternatives, default, width)
