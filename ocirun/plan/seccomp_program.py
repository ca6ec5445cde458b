# SPDX-License-Identifier: Apache-2.0
"""Seccomp filters as code: ranges of numbers and comparisons of arguments -> classic BPF.

A filter looks up the architecture, then halves its way through ranges of system call numbers to an
answer, which is a return or a few comparisons that end in returns.  Only the comparisons read
arguments, so the kernel recognises all other answers as constant and keeps those that allow in a
bitmap (Linux 5.11), where the program is not even run.

Everything here is pure.  Kernel: seccomp(2), Documentation/networking/filter.rst.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k
    Code = tuple[Instruction, ...]
    Range = tuple[int, int]  # first and last number, both included
    # Argument, operator, value, second value; for MASKED_EQ the value is the mask.
    Comparator = tuple[int, int, int, int]
    Comparators = tuple[Comparator, ...]

NE, LT, LE, EQ, GE, GT, MASKED_EQ = 1, 2, 3, 4, 5, 6, 7

LAST = 0xFFFF_FFFF  # the highest number; also -1
_LOW = 0xFFFF_FFFF
_MAX_JUMP = 255  # a conditional jump's distance has 8 bits

# linux/bpf_common.h
_LD_W_ABS = 0x20
_AND_K = 0x54
_JA = 0x05
_JEQ_K = 0x15
_JGT_K = 0x25
_JGE_K = 0x35
_RET_K = 0x06

# struct seccomp_data
_NUMBER = 0
_ARCH = 4
_ARGS = 16
_LOW_HALF, _HIGH_HALF = (0, 4) if sys.byteorder == "little" else (4, 0)


def answer(action: int) -> Code:
    """Return the code that returns *action* whatever the arguments."""
    return ((_RET_K, 0, 0, action),)


def conditions(alternatives: Iterable[tuple[Comparators, int]], otherwise: int, width: int) -> Code:
    """Return the code that answers with the action of the first alternative that matches.

    All comparators of an alternative have to match.  *width* is 64, or 32 to leave the high halves
    of the arguments alone; comparators must have gone through `narrow` for the same width.
    """
    code: list[Instruction] = []
    for comparators, action in alternatives:
        tests: list[Instruction] = []
        # From the back, so that each comparator knows how far it is to the end of them all, where
        # a mismatch has to go: over the return.
        for comparator in reversed(comparators):
            tests[:0] = _compare(comparator, width, mismatch=len(tests) + 1)
        code += tests
        code += answer(action)
    code += answer(otherwise)
    return tuple(code)


def _compare(comparator: Comparator, width: int, mismatch: int) -> list[Instruction]:
    """Return the code of one comparator, which runs on behind its end if the comparator matches.

    *mismatch* is how many instructions behind that end the code for the other case is.
    """
    argument, operator, value, second = comparator
    base = _ARGS + 8 * argument
    low = (_LD_W_ABS, 0, 0, base + _LOW_HALF)
    high = (_LD_W_ABS, 0, 0, base + _HIGH_HALF)
    if operator == MASKED_EQ:
        return _compare_masked(low, high, value, second, mismatch)
    last = {
        EQ: (_JEQ_K, 0, mismatch),
        NE: (_JEQ_K, mismatch, 0),
        GT: (_JGT_K, 0, mismatch),
        LE: (_JGT_K, mismatch, 0),
        GE: (_JGE_K, 0, mismatch),
        LT: (_JGE_K, mismatch, 0),
    }[operator]
    halves = [low, (*last, value & _LOW)]
    if width == 32:
        return halves
    # The high half settles it unless it is equal.
    top = value >> 32
    over = len(halves)
    if operator in {EQ, NE}:
        return [high, (_JEQ_K, 0, over + mismatch if operator == EQ else over, top), *halves]
    greater_matches = operator in {GT, GE}
    return [
        high,
        (_JGT_K, 1 + over if greater_matches else 1 + over + mismatch, 0, top),
        (_JEQ_K, 0, over + mismatch if greater_matches else over, top),
        *halves,
    ]


def _compare_masked(low: Instruction, high: Instruction, mask: int, wanted: int, mismatch: int) -> list[Instruction]:
    code: list[Instruction] = []
    for load, part, value in ((low, mask & _LOW, wanted & _LOW), (high, mask >> 32, wanted >> 32)):
        if part:
            code[:0] = [load, (_AND_K, 0, 0, part), (_JEQ_K, 0, len(code) + mismatch, value)]
    return code


def narrow(comparator: Comparator, width: int) -> Comparator | bool:
    """Return the comparator for arguments of *width* bits; True or False if any or none matches.

    The values in a profile have 64 bits everywhere.  Of a 32-bit argument, "equals 2**32" is never
    true, where comparing low halves would find it equal to 0.
    """
    argument, operator, value, second = comparator
    largest = (1 << width) - 1
    if operator == MASKED_EQ:
        # seccomp_rule_add(3): the masked argument equals the masked second value.
        mask, wanted = value & largest, value & second
        if wanted > largest:
            return False
        return (argument, operator, mask, wanted) if mask else True
    if operator in {EQ, NE}:
        if value > largest:
            return operator == NE
    elif operator in {LT, GE}:
        if value > largest or value == 0:
            return (value != 0) == (operator == LT)
    elif value >= largest:
        return operator == LE
    return (argument, operator, value, 0)


def fill(
    parts: Iterable[tuple[Range, Code]], rest: Code, bounds: Sequence[Range] = ((0, LAST),)
) -> list[tuple[Range, Code]]:
    """Return disjoint *parts* in order, with *rest* in the gaps within *bounds*.

    *bounds* are in order, and each part lies within one of them.
    """
    waiting = sorted(parts, reverse=True)
    result: list[tuple[Range, Code]] = []
    for start, end in bounds:
        while waiting and waiting[-1][0][0] <= end:
            (first, last), code = waiting.pop()
            if start < first:
                result.append(((start, first - 1), rest))
            result.append(((first, last), code))
            start = last + 1
        if start <= end:
            result.append(((start, end), rest))
    return result


def program(by_arch: Mapping[int, Sequence[tuple[Range, Code]]], foreign: int) -> list[Instruction]:
    """Return the whole filter.

    *by_arch* gives for each of the kernel's AUDIT_ARCH values what `fill` made; calls of any other
    architecture are answered with *foreign*.
    """
    result: list[Instruction] = [(_LD_W_ABS, 0, 0, _ARCH)]
    for audit, parts in by_arch.items():
        block = [(_LD_W_ABS, 0, 0, _NUMBER), *_search(_join(parts))]
        if len(block) <= _MAX_JUMP:
            result.append((_JEQ_K, 0, len(block), audit))
        else:
            result += ((_JEQ_K, 1, 0, audit), (_JA, 0, 0, len(block)))
        result += block
    result += answer(foreign)
    return result


def _join(parts: Sequence[tuple[Range, Code]]) -> list[tuple[int, Code]]:
    """Return where each answer starts, neighbours with one answer joined."""
    result: list[tuple[int, Code]] = []
    for (first, _), code in parts:
        if not result or result[-1][1] != code:
            result.append((first, code))
    return result


def _search(starts: Sequence[tuple[int, Code]]) -> list[Instruction]:
    """Return the code that finds the answer to the number in the accumulator."""
    if len(starts) == 1:
        return list(starts[0][1])
    middle = len(starts) // 2
    below = _search(starts[:middle])
    above = _search(starts[middle:])
    boundary = starts[middle][0]
    if len(below) <= _MAX_JUMP:
        return [(_JGE_K, len(below), 0, boundary), *below, *above]
    return [(_JGE_K, 0, 1, boundary), (_JA, 0, 0, len(below)), *below, *above]


def assemble(instructions: Sequence[Instruction]) -> bytes:
    """Encode instructions as an array of struct sock_filter in this machine's byte order."""
    order = sys.byteorder
    return b"".join(
        code.to_bytes(2, order) + bytes((jt, jf)) + k.to_bytes(4, order) for code, jt, jf, k in instructions
    )
