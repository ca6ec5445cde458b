# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the part of eBPF that device filters use.

It follows the verifier where a program of ours could offend it: forward jumps inside the program, no instruction that
cannot be reached, no register read before it is written, an exit at the end.  Anything else is an AssertionError, so a
test that runs a program also checks it.
"""

from __future__ import annotations

import struct
import sys

_INSTRUCTION = struct.Struct("=BBhI")
_WORD = 0xFFFF_FFFF
_LOAD, _MOVE, _MOVE_IMM, _AND, _OR, _LSH, _RSH = 0x61, 0xBC, 0xB4, 0x54, 0x4C, 0x64, 0x74
_JUMP_EQUAL, _JUMP_UNEQUAL, _EXIT = 0x16, 0x56, 0x95
_JUMPS = (_JUMP_EQUAL, _JUMP_UNEQUAL)


def decode(program: bytes) -> list[tuple[int, int, int, int, int]]:
    """Return (opcode, dst, src, offset, imm) of each instruction, after the checks on the control flow."""
    assert program
    assert len(program) % 8 == 0
    code = []
    for opcode, registers, offset, imm in _INSTRUCTION.iter_unpack(program):
        low, high = registers & 15, registers >> 4
        dst, src = (low, high) if sys.byteorder == "little" else (high, low)
        code.append((opcode, dst, src, offset, imm))
    reachable, pending = set(), [0]
    while pending:
        at = pending.pop()
        assert at < len(code), "control runs past the end"
        if at in reachable:
            continue
        reachable.add(at)
        opcode, _, _, offset, _ = code[at]
        if opcode == _EXIT:
            continue
        pending.append(at + 1)
        if opcode in _JUMPS:
            assert offset >= 0, "jumps backwards"
            pending.append(at + 1 + offset)
    assert reachable == set(range(len(code))), "dead code"
    return code


def run(program: bytes, kind: int, rights: int, major: int, minor: int) -> bool:
    """Return whether the filter grants the access; `kind` and `rights` are BPF_DEVCG_* numbers."""
    context = (rights << 16 | kind, major, minor)
    registers: dict[int, int] = {}
    code = decode(program)
    at = 0
    while True:
        opcode, dst, src, offset, imm = code[at]
        at += 1
        if opcode == _EXIT:
            return bool(registers[0])
        if opcode == _LOAD:
            assert src == 1
            assert offset in (0, 4, 8)
            registers[dst] = context[offset // 4]
        elif opcode == _MOVE:
            registers[dst] = registers[src]
        elif opcode == _MOVE_IMM:
            registers[dst] = imm
        elif opcode == _AND:
            registers[dst] &= imm
        elif opcode == _OR:
            registers[dst] |= registers[src]
        elif opcode == _LSH:
            registers[dst] = registers[dst] << imm & _WORD
        elif opcode == _RSH:
            registers[dst] >>= imm
        elif opcode in _JUMPS:
            if (registers[dst] == imm) == (opcode == _JUMP_EQUAL):
                at += offset
        else:
            raise AssertionError(f"opcode {opcode:#x}")
