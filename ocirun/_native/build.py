# SPDX-License-Identifier: Apache-2.0
"""The cffi builder of the shim: `setup.py` names it, nothing imports it at run time.

The headers are given to cffi as they are (they are written in the subset that it reads), and to the compiler.
"""

from __future__ import annotations

import os

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))
HEADERS = ("abi.h", "shim.h", "bpf.h")
SOURCES = ("spawn.c", "hostcalls.c", "reminder.c", "bpf.c")

#: For our own C files; the module that cffi generates is compiled in the same run and is not -Wconversion clean.
COMPILE_ARGS = [
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fvisibility=hidden",
    "-fstack-protector-strong",
]  # fmt: skip


def read(name: str) -> str:
    """Return the text of a file beside this one."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


ffibuilder = FFI()
for header in HEADERS:
    ffibuilder.cdef(read(header))
ffibuilder.set_source(
    "ocirun._native._shim",
    "#include <stddef.h>\n#include <stdint.h>\n" + "".join(f'#include "{name}"\n' for name in HEADERS),
    sources=[f"ocirun/_native/{name}" for name in SOURCES],
    include_dirs=[HERE],
    extra_compile_args=COMPILE_ARGS,
    py_limited_api=True,
)
