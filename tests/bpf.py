# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the part of classic BPF that seccomp filters may use.

It follows the kernel's verifier for seccomp: aligned 32-bit loads from struct seccomp_data, forward
jumps inside the program, a return at the end.  Anything else is an AssertionError, so a test that
runs a program also checks it.
"""

from __future__ import annotations

import struct
import sys

MAX_INSTRUCTIONS = 4096

KILL_PROCESS = 0x8000_0000
KILL_THREAD = 0x0000_0000
TRAP = 0x0003_0000
ERRNO = 0x0005_0000
NOTIFY = 0x7FC0_0000
TRACE = 0x7FF0_0000
LOG = 0x7FFC_0000
ALLOW = 0x7FFF_0000


def decode(program: bytes) -> list[tuple[int, int, int, int]]:
    """Split a program into (code, jt, jf, k)."""
    assert len(program) % 8 == 0
    instructions = list(struct.iter_unpack("=HBBI", program))
    assert 0 < len(instructions) <= MAX_INSTRUCTIONS
    return instructions


def seccomp_data(arch: int, number: int, args: tuple[int, ...] = ()) -> bytes:
    """Lay out struct seccomp_data: int nr, __u32 arch, __u64 instruction_pointer, __u64 args[6]."""
    six = (*args, *(0,) * (6 - len(args)))
    return struct.pack("=IIQ6Q", number & 0xFFFF_FFFF, arch, 0x1000, *six)


def run(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
    """Return what the filter answers to one system call."""
    return run_decoded(decode(program), seccomp_data(arch, number, args))


def run_decoded(instructions: list[tuple[int, int, int, int]], data: bytes) -> int:
    """Return what decoded instructions answer to one struct seccomp_data."""
    accumulator = 0
    x = 0
    memory = [0] * 16
    at = 0
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        if code == 0x20:  # ld [k]
            assert k % 4 == 0 and k + 4 <= len(data)
            accumulator = int.from_bytes(data[k : k + 4], sys.byteorder)
        elif code == 0x54:  # and #k
            accumulator &= k
        elif code == 0x05:  # ja
            at += k
        elif code in {0x15, 0x25, 0x35, 0x45}:  # jeq, jgt, jge, jset
            taken = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[code]
            at += jt if taken else jf
        elif code == 0x06:  # ret #k
            return k
        elif code == 0x16:  # ret a
            return accumulator
        elif code == 0x07:  # tax
            x = accumulator
        elif code == 0x87:  # txa
            accumulator = x
        elif code == 0x02:  # st
            memory[k] = accumulator
        elif code == 0x60:  # ld m[]
            accumulator = memory[k]
        else:
            raise AssertionError(f"instruction {code:#x} is not known to this interpreter")
        assert at < len(instructions), "the program runs off its end"
