# SPDX-License-Identifier: Apache-2.0
"""The two static programs, as the linker left them (design D2)."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

import ocirun

INIT = Path(ocirun.__file__).parent / "_native/ocirun-init"
PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO, PT_LOAD = 2, 3, 0x6474E551, 0x6474E552, 1
PF_X, PF_W = 1, 2
ET_DYN = 3


class Elf:
    """The program headers of a 64-bit ELF file of this machine's byte order."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        assert content[:5] == b"\x7fELF\x02"
        self.type, self.machine = struct.unpack_from("HH", content, 16)
        (table,) = struct.unpack_from("Q", content, 32)
        size, count = struct.unpack_from("HH", content, 54)
        self.segments: list[tuple[int, int]] = [
            struct.unpack_from("II", content, table + number * size) for number in range(count)
        ]

    def flags(self, wanted: int) -> list[int]:
        """Return the flags of the segments of a type."""
        return [flags for kind, flags in self.segments if kind == wanted]


def readelf(*options: str) -> str:
    done = subprocess.run(["readelf", "-W", *options, INIT], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def elf() -> Elf:
    return Elf(INIT)


def test_static_and_position_independent(elf: Elf) -> None:
    """It may be loaded anywhere and asks for no loader and no library."""
    assert elf.type == ET_DYN
    assert not elf.flags(PT_INTERP)
    assert "NEEDED" not in readelf("--dynamic")


def test_no_relocations() -> None:
    """Nothing has to be patched at the start: there is no start-up code that would."""
    assert "There are no relocations in this file." in readelf("--relocs")
    assert not re.search(r"\((RELA?|JMPREL|TEXTREL)\)", readelf("--dynamic"))


def test_nothing_is_writable_and_executable(elf: Elf) -> None:
    """The stack is not executable, no segment is both writable and executable, and RELRO is on."""
    assert [flags & PF_X for flags in elf.flags(PT_GNU_STACK)] == [0]
    assert all(flags & (PF_W | PF_X) != PF_W | PF_X for flags in elf.flags(PT_LOAD))
    assert elf.flags(PT_GNU_RELRO)


def test_no_undefined_symbol() -> None:
    """It calls nothing that is not in it."""
    assert " UND " not in re.sub(r"^ +0: .* UND *$", "", readelf("--dyn-syms"), flags=re.MULTILINE)
    assert not re.search(r"^ *\d+: .* UND \S", readelf("--syms"), re.MULTILINE)


def test_small() -> None:
    """Less than 64 KiB, all of it: it is copied into a memfd for every process that uses the library."""
    assert INIT.stat().st_size < 65536


def test_no_path_of_the_build_machine() -> None:
    """The program is the same wherever it was built: no directory, no compiler's note of one."""
    content = INIT.read_bytes()
    for word in (b"/home/", b"/tmp/", b"/build", b"/usr/lib", b"/work"):
        assert word not in content
    assert ".symtab" not in readelf("--sections")


def test_the_machine_is_this_one(elf: Elf) -> None:
    """x86-64 or AArch64: what the system call numbers are for."""
    assert elf.machine in (62, 183)
