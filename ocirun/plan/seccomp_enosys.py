# SPDX-License-Identifier: Apache-2.0
"""The ENOSYS rule: system calls that are newer than a profile answer "not implemented".

A profile that denies by default cannot name system calls that did not exist when it was written.
Answering EPERM for those (or killing the caller) breaks C libraries, which try the newest call
first and fall back on ENOSYS only. So, ahead of the program that libseccomp made, stands a stub
that answers ENOSYS to every number above the highest one that the profile names for the
architecture in question.

The stub decides nothing about a number that is named in any rule, whatever that rule's action,
because no named number is above the highest; all other numbers reach libseccomp's program
unchanged.  It is made of loads, jumps and returns only, which is what the kernel's cache of
always-allowed numbers (Linux 5.11) understands: a filter with the stub is as fast there as one
without.

Everything here is pure: numbers in, instructions out.  Kernel: seccomp(2),
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Range = tuple[int, int]  # first and last number, both included
    Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k

X32_BIT = 0x4000_0000
_LAST = 0xFFFF_FFFF

# Where the numbers of an architecture do not form one growing series, each series is looked at by
# itself; else one named member of a far series would hide everything below it.  The other
# architectures have a single series.
_SERIES: dict[str, tuple[Range, ...]] = {
    # From the x32 bit on, numbers belong to x32.  If the profile does not list x32, libseccomp's
    # program refuses them as a foreign architecture, and must be the one to see them.  The
    # exception is -1, which is nobody's number: it is what a tracer writes to have a call skipped,
    # and ENOSYS is the kernel's own answer to it.
    "x86_64": ((0, X32_BIT - 1), (_LAST, _LAST)),
    # 512 to 547 are calls that x32 has in its own version; new calls join the common series below
    # 512.
    "x32": ((X32_BIT, X32_BIT + 511), (X32_BIT + 512, _LAST)),
    # From 0xf0000 on are the private calls of ARM (cacheflush, set_tls).
    "arm": ((0, 0xEFFFF), (0xF0000, _LAST)),
}
_ONE_SERIES = ((0, _LAST),)

# linux/filter.h, linux/bpf_common.h and linux/seccomp.h
_LD_W_ABS = 0x20
_JA = 0x05
_JEQ_K = 0x15
_JGT_K = 0x25
_JGE_K = 0x35
_RET_K = 0x06
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_RET_ERRNO = 0x0005_0000


def ranges(arch: str, named: Iterable[int]) -> list[Range]:
    """Return the numbers of *arch* that are newer than all of *named*, as disjoint ranges in rising
    order.

    *arch* is libseccomp's name of the architecture ("x86_64"); *named* holds every number that the
    profile names there, with the architecture's offset or bit included.  Without any named number
    there is no highest one, and nothing is newer.
    """
    numbers = sorted(set(named))
    found: list[Range] = []
    if not numbers:
        return found
    # On s390, numbers above 255 are passed beside the instruction.  If the kernel does not know the
    # number, the filter sees 0 instead, which is no call that any program makes.
    if arch in {"s390", "s390x"} and numbers[0] != 0:
        found.append((0, 0))
    lowest = numbers[0]
    for first, last in _SERIES.get(arch, _ONE_SERIES):
        here = [number for number in numbers if first <= number <= last]
        start = here[-1] + 1 if here else first
        # A series without named members is newer only if a lower series has some.
        if start <= last and lowest < start:
            found.append((start, last))
    return _joined(found)


def _joined(found: list[Range]) -> list[Range]:
    """Join ranges that touch or overlap, so that each costs one comparison."""
    result: list[Range] = []
    for first, last in sorted(found):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def stub(by_arch: Sequence[tuple[int, Sequence[Range]]], errno_value: int) -> list[Instruction]:
    """Return the instructions that answer *errno_value* for the ranges and fall through to what
    follows for the rest.

    *by_arch* pairs the kernel's AUDIT_ARCH value with ranges; pairs of one value (x86_64 and x32)
    are merged.  Empty if there is no range at all.
    """
    merged: dict[int, list[Range]] = {}
    for audit, found in by_arch:
        if found:
            merged.setdefault(audit, []).extend(found)
    if not merged:
        return []
    blocks = [(audit, _block(_joined(found), errno_value)) for audit, found in merged.items()]
    program: list[Instruction] = [(_LD_W_ABS, 0, 0, _OFFSET_ARCH)]
    behind = sum(1 + len(block) for _, block in blocks)
    for audit, block in blocks:
        behind -= 1 + len(block)
        # The block's own jump to the end is its last instruction but one, ahead of its return.
        block[-2] = (_JA, 0, 0, behind + 1)
        program.append((_JEQ_K, 0, len(block), audit))
        program += block
    return program


def _block(found: Sequence[Range], errno_value: int) -> list[Instruction]:
    """Return the comparisons of one architecture, a jump to be filled in, and the return of
    *errno_value*.
    """
    # Code, number, and whether the test only guards the next one.
    tests: list[tuple[int, int, bool]] = []
    for first, last in found:
        if first == last:
            tests.append((_JEQ_K, first, False))
        elif last == _LAST:
            tests.append((_JGE_K, first, False))
        else:
            # first <= number and not number > last
            tests.append((_JGE_K, first, True))
            tests.append((_JGT_K, last, False))
    block: list[Instruction] = [(_LD_W_ABS, 0, 0, _OFFSET_NUMBER)]
    for position, (code, number, guard) in enumerate(tests):
        to_return = len(tests) - position  # over the remaining tests and the jump
        if guard:
            block.append((code, 0, 1, number))
        elif code == _JGT_K:
            block.append((code, 0, to_return, number))
        else:
            block.append((code, to_return, 0, number))
    block.append((_JA, 0, 0, 0))
    block.append((_RET_K, 0, 0, _RET_ERRNO | errno_value))
    return block


def assemble(program: Sequence[Instruction]) -> bytes:
    """Encode instructions as an array of struct sock_filter in this machine's byte order."""
    order = sys.byteorder
    return b"".join(
        code.to_bytes(2, order) + bytes((jt, jf)) + k.to_bytes(4, order)
        for code, jt, jf, k in program
    )
