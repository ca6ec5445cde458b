# SPDX-License-Identifier: Apache-2.0
"""Device rules: what a container may do with which device node.  Pure.

Meaning.  An access is a device (type, major, minor) and one or more of the rights `r`, `w`, `m`.
Each right is decided by the last rule that names the device and that right; no such rule means no.
An access is granted if all its rights are.  (Judging rights one by one matters: after "allow c 1:3
rwm, deny c 1:3 w", opening for reading *and* writing must fail.)  Then come the rules of
`DEFAULT_RULES`, as in other runtimes.

Two forms carry it out.  Version 2 runs a program (`device_program`).  Version 1 has a default and a
list of exceptions (`legacy_lines`), which cannot say everything; what it cannot is refused, since
the kernel would not complain.

Spec: config-linux.md#allowed-device-list
Kernel: admin-guide/cgroup-v1/devices.rst; BPF_PROG_TYPE_CGROUP_DEVICE
"""

from __future__ import annotations

from ocirun.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.spec.resources import DeviceRule

POINTER = "/linux/resources/devices"

# BPF_DEVCG_ACC_*
MKNOD, READ, WRITE = 1, 2, 4
ALL_RIGHTS = MKNOD | READ | WRITE
_RIGHTS = {"m": MKNOD, "r": READ, "w": WRITE}

# BPF_DEVCG_DEV_*
_TYPES = {"b": 1, "c": 2}


class Rule:
    """A device rule with its holes filled in: `kind` is "b" or "c", None for both; major and minor
    None for any.
    """

    __slots__ = ("allow", "kind", "major", "minor", "pointer", "rights")

    def __init__(
        self,
        allow: bool,
        kind: str | None,
        major: int | None,
        minor: int | None,
        rights: int,
        pointer: str = "",
    ) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.rights = rights
        self.pointer = pointer

    def __repr__(self) -> str:
        verb = "allow" if self.allow else "deny"
        return f"{verb} {_line(self.kind or 'a', (self.major, self.minor), self.rights)}"

    @property
    def is_total(self) -> bool:
        """Whether nothing before this rule matters."""
        return (self.kind, self.major, self.minor, self.rights) == (None, None, None, ALL_RIGHTS)


def _default(
    kind: str | None, major: int | None, minor: int | None, rights: int = ALL_RIGHTS
) -> Rule:
    return Rule(True, kind, major, minor, rights)


# Making any node is harmless as long as it cannot be opened, and image builds do it.  The rest are
# the default devices of the specification, terminals, and /dev/net/tun, which engines rely on.
# Not 5:1: a container's /dev/console is a pseudo-terminal, and who may make nodes could open the host's.
DEFAULT_RULES = (
    _default(None, None, None, MKNOD),
    _default("c", 1, 3),  # null
    _default("c", 1, 5),  # zero
    _default("c", 1, 7),  # full
    _default("c", 1, 8),  # random
    _default("c", 1, 9),  # urandom
    _default("c", 5, 0),  # tty
    _default("c", 5, 2),  # ptmx
    _default("c", 136, None),  # pts/*
    _default("c", 10, 200),  # net/tun
)


def effective_rules(
    rules: Sequence[DeviceRule], pointer: str = POINTER
) -> tuple[list[Rule], list[Problem]]:
    """Return the rules that count, in order, with the defaults at the end.

    *pointer* is where they stand in their document.

    A rule without `access` denies everything or, if it allows, is a problem: what it would allow is
    a guess.
    """
    found: list[Rule] = []
    problems: list[Problem] = []
    for index, rule in enumerate(rules):
        where = f"{pointer}/{index}"
        rights = 0
        for letter in rule.access or ("" if rule.allow else "rwm"):
            rights |= _RIGHTS.get(letter, 8)
        kind = {None: None, "a": None, "u": "c"}.get(rule.type, rule.type)
        major, minor = _number(rule.major), _number(rule.minor)
        if not 0 < rights <= ALL_RIGHTS:
            problems.append(Problem("rule", f"{where}/access", "must be of the letters r, w, m"))
        elif kind not in (None, "b", "c"):
            problems.append(Problem("rule", f"{where}/type", f"{kind!r} has no device numbers"))
        elif (major or 0) < 0 or (minor or 0) < 0:
            problems.append(Problem("rule", where, "device numbers are not negative"))
        elif (major or 0) >> _MAJOR_BITS or (minor or 0) >> _MINOR_BITS:
            continue  # names a device that this kernel cannot have
        else:
            found.append(Rule(rule.allow, kind, major, minor, rights, where))
    found.extend(DEFAULT_RULES)
    for index in range(len(found) - 1, -1, -1):
        if found[index].is_total:
            return found[index:], problems
    return found, problems


def allows_everything(rules: Sequence[Rule]) -> bool:
    """Tell whether no access is denied, so that no filter is needed."""
    return bool(rules) and rules[0].is_total and all(rule.allow for rule in rules)


def device_program(rules: Sequence[Rule]) -> bytes:
    """Compile *rules* to a BPF program for version 2: one `struct bpf_insn` for each 8 bytes.

    The last rule comes first.  r3 has the rights that are still undecided: an allowing rule takes
    its rights out, and the access is granted when none is left; a denying rule that meets one of
    them ends it.

    The form is made for the verifier, which follows every path: the type is tested once for a run
    of rules about it, and both device numbers at once.  (With a test for each field in each rule,
    loading takes six times as long.)
    """
    program = [
        (_LOAD_WORD, 2, 1, 0, 0),  # access_type = rights << 16 | type
        (_MOVE_REGISTER, 3, 2, 0, 0),
        (_AND, 2, 0, 0, 0xFFFF),
        (_SHIFT_RIGHT, 3, 0, 0, 16),
        (_LOAD_WORD, 4, 1, 4, 0),  # major
        (_LOAD_WORD, 5, 1, 8, 0),  # minor
        (_MOVE_REGISTER, 6, 4, 0, 0),
        (_SHIFT_LEFT, 6, 0, 0, _MINOR_BITS),
        (_OR_REGISTER, 6, 5, 0, 0),  # both, as in the kernel's dev_t
    ]
    for kind, run in _runs(rules):
        block: list[Instruction] = []
        for rule in run:
            # What could not be reached must not be there: the verifier refuses dead code.
            if rule.is_total:
                return _encode([*program, *block, *_EXITS[rule.allow]])
            block += _rule_block(rule)
            if (rule.major, rule.minor, rule.rights) == (None, None, ALL_RIGHTS):
                break
        if kind is not None and block:
            program.append((_JUMP_UNEQUAL, 2, 0, len(block), _TYPES[kind]))
        program += block
    return _encode([*program, *_EXITS[False]])


def legacy_lines(
    rules: Sequence[Rule], pointer: str = POINTER
) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Return the (file, line) writes that make version 1 do what *rules* mean.

    The first write sets the default, the rest are its exceptions.  Rules that need exceptions from
    exceptions are problems.
    """
    state = _Exceptions(pointer)
    for rule in rules:
        state.take(rule)
    if state.allow_by_default:
        first, other = ("devices.allow", "a"), "devices.deny"
    else:
        first, other = _DENY_ALL, "devices.allow"
    lines = [first]
    for kind in ("c", "b"):
        table = state.tables[kind] if state.allow_by_default else _closed(state.tables[kind])
        lines += [(other, _line(kind, numbers, rights)) for numbers, rights in table.items()]
    return lines, state.problems


def legacy_changes(lines: Sequence[tuple[str, str]], listed: str) -> list[tuple[str, str]]:
    """Return the writes that lead a cgroup from what *listed*, its devices.list, says to *lines*.

    Where both deny by default these are the differences alone, what is new first: so nothing that
    both allow is denied for a moment, and a cgroup that has children takes it.  A list that allows
    by default does not show its exceptions: then all *lines*.

    Kernel: security/device_cgroup.c, devcgroup_update_access
    """
    now = [line.split(" ") for line in listed.splitlines()]
    if not lines or lines[0] != _DENY_ALL or any(kind == "a" for kind, _, _ in now):
        return list(lines)
    before = {(kind, numbers): set(rights) for kind, numbers, rights in now}
    after = {}
    for _, line in lines[1:]:
        kind, numbers, rights = line.split(" ")
        after[kind, numbers] = set(rights)
    changes = []
    for file, wanted, had in (("devices.allow", after, before), ("devices.deny", before, after)):
        for place, letters in wanted.items():
            left = letters - had.get(place, set())
            if left:
                changes.append((file, f"{place[0]} {place[1]} {''.join(sorted(left))}"))
    return changes


def listed_lines(listed: str) -> list[tuple[str, str]] | None:
    """Return the writes that make the list *listed* (devices.list) again; None where it does not show all of it."""
    lines = listed.splitlines()
    if any(line.startswith("a") for line in lines):
        return None
    return [_DENY_ALL, *[("devices.allow", line) for line in lines]]


_DENY_ALL = ("devices.deny", "a")

Numbers = tuple["int | None", "int | None"]


class _Exceptions:
    """The kernel's model of version 1: a default, and for each type {(major, minor): rights} that
    are otherwise.
    """

    def __init__(self, pointer: str) -> None:
        self._pointer = pointer
        self.allow_by_default = False
        self.tables: dict[str, dict[Numbers, int]] = {"b": {}, "c": {}}
        self.problems: list[Problem] = []

    def take(self, rule: Rule) -> None:
        """Apply one rule after those before it."""
        if rule.is_total:
            self.allow_by_default = rule.allow
            self.tables = {"b": {}, "c": {}}
            return
        for kind in (rule.kind,) if rule.kind else ("b", "c"):
            table = self.tables[kind]
            numbers = (rule.major, rule.minor)
            if rule.allow != self.allow_by_default:
                table[numbers] = table.get(numbers, 0) | rule.rights
            else:
                self._withdraw(table, numbers, rule)

    def _withdraw(self, table: dict[Numbers, int], numbers: Numbers, rule: Rule) -> None:
        """Make the default hold again for what the rule names."""
        for known, rights in list(table.items()):
            if not rights & rule.rights or _meet(known, numbers) is None:
                continue
            if _meet(known, numbers) != known:
                now, then = ("allows", "denied") if rule.allow else ("denies", "allowed")
                why = f"cgroup version 1 cannot have a rule that {now} part of what another {then}"
                self.problems.append(Problem("host", rule.pointer or self._pointer, why))
                return
            left = rights & ~rule.rights
            if left:
                table[known] = left
            else:
                del table[known]


def _closed(table: dict[Numbers, int]) -> dict[Numbers, int]:
    """Add what is allowed by several exceptions together.

    The kernel grants an access only if a single exception covers it; ours may be spread over
    overlapping ones.  Of two that overlap at least one has a wildcard.
    """
    wild = [numbers for numbers in table if None in numbers]
    keys = dict.fromkeys(table, 0)
    for index, one in enumerate(wild):
        for other in wild[:index]:
            both = _meet(one, other)
            if both is not None:
                keys.setdefault(both, 0)
    for major, minor in keys:
        for wide in wild:
            if wide[0] in (None, major) and wide[1] in (None, minor):
                keys[major, minor] |= table[wide]
        keys[major, minor] |= table.get((major, minor), 0)
    return keys


def _meet(one: Numbers, other: Numbers) -> Numbers | None:
    """Return the device numbers that both name, None if there are none."""
    found = []
    for left, right in zip(one, other, strict=True):
        if left is not None and right is not None and left != right:
            return None
        found.append(right if left is None else left)
    return found[0], found[1]


def _line(kind: str, numbers: Numbers, rights: int) -> str:
    major, minor = ["*" if number is None else number for number in numbers]
    letters = "rwm" if rights == ALL_RIGHTS else "".join([each for each in "rwm" if _RIGHTS[each] & rights])
    return f"{kind} {major}:{minor} {letters}"


def _number(number: int | None) -> int | None:
    """Return a major or minor number; -1 and absent both mean any."""
    return None if number is None or number == -1 else number


# The kernel's dev_t has 32 bits.
_MAJOR_BITS = 12
_MINOR_BITS = 20
_MAX_RUN = 5000

# Opcodes: class | size or source | operation, see the kernel's
# bpf/standardization/instruction-set.rst
_LOAD_WORD = 0x61  # dst = *(u32 *)(src + offset)
_MOVE_REGISTER = 0xBC  # 32 bits
_MOVE = 0xB4
_AND = 0x54
_OR_REGISTER = 0x4C
_SHIFT_LEFT = 0x64
_SHIFT_RIGHT = 0x74
_JUMP_UNEQUAL = 0x56  # if dst != imm, 32 bits
_JUMP_EQUAL = 0x16
_EXIT = 0x95


# opcode, destination register, source register, offset, immediate value
Instruction = tuple[int, int, int, int, int]

_EXITS: dict[bool, list[Instruction]] = {
    allow: [(_MOVE, 0, 0, 0, int(allow)), (_EXIT, 0, 0, 0, 0)] for allow in (False, True)
}


def _encode(program: list[Instruction]) -> bytes:
    """Encode each instruction as a `struct bpf_insn` in this machine's byte order.

    The two registers are bit fields of four bits: the first is the low one on a little-endian
    machine, where the whole is an integer with the opcode lowest; and the reverse on the others.
    """
    from sys import byteorder

    if byteorder == "little":
        words = [
            opcode | dst << 8 | src << 12 | offset << 16 | (imm & 0xFFFF_FFFF) << 32
            for opcode, dst, src, offset, imm in program
        ]
    else:
        words = [
            opcode << 56 | dst << 52 | src << 48 | offset << 32 | imm & 0xFFFF_FFFF
            for opcode, dst, src, offset, imm in program
        ]
    return b"".join([word.to_bytes(8, byteorder) for word in words])


def _runs(rules: Sequence[Rule]) -> list[tuple[str | None, list[Rule]]]:
    """Return the rules from the last to the first, in runs of the same type."""
    runs: list[tuple[str | None, list[Rule]]] = []
    for rule in reversed(rules):
        # A jump reaches 32767 instructions.
        if not runs or runs[-1][0] != rule.kind or len(runs[-1][1]) == _MAX_RUN:
            runs.append((rule.kind, []))
        runs[-1][1].append(rule)
    return runs


def _rule_block(rule: Rule) -> list[Instruction]:
    """Compile one rule without its type; control goes past its end if the rule decides nothing."""
    if rule.rights == ALL_RIGHTS:
        # Whatever is undecided is decided; and the verifier has one path less to follow.
        decide = _EXITS[rule.allow]
    elif rule.allow:
        decide = [(_AND, 3, 0, 0, ~rule.rights), (_JUMP_UNEQUAL, 3, 0, 2, 0), *_EXITS[True]]
    else:
        decide = [
            (_MOVE_REGISTER, 1, 3, 0, 0),
            (_AND, 1, 0, 0, rule.rights),
            (_JUMP_EQUAL, 1, 0, 2, 0),
            *_EXITS[False],
        ]
    if rule.major is None and rule.minor is None:
        return decide
    if rule.major is None:
        register, value = 5, rule.minor or 0
    elif rule.minor is None:
        register, value = 4, rule.major
    else:
        register, value = 6, rule.major << _MINOR_BITS | rule.minor
    return [(_JUMP_UNEQUAL, register, 0, len(decide), value), *decide]
