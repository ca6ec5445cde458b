# SPDX-License-Identifier: Apache-2.0
"""What this machine's kernel can do, for tests that no other way would tell."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Callable

_kept: list[mmap.mmap] = []


def compat_call(number: int) -> Callable[[], int]:
    """A 32-bit system call without arguments: mov eax, number; int 0x80; ret."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # rbx is the caller's; int 0x80 clears r8 to r11, which are nobody's.
    code.write(b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\xc3")
    _kept.append(code)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))


def has_compat() -> bool:
    """Say whether there are 32-bit calls: the kernel may be built, or started, without.

    User-mode Linux takes the instruction for a 64-bit call.
    """
    if platform.machine() != "x86_64":
        return False
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = compat_call(20)() != os.getpid()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0
