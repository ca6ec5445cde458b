#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the probe: one static program from the C files beside this script.

`build()` returns the path and does nothing when the program is newer than its sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("probe.c", "report.c", "kernel.c", "network.c", "load.c", "hook.c", "out.c")
HEADERS = ("out.h", "report.h", "verbs.h")
FLAGS = (
    "-static",
    "-O1",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--gc-sections",
    "-ffunction-sections",
    "-fdata-sections",
    "-s",
)


def build() -> Path:
    """Return the path of an up-to-date probe; raises CalledProcessError when the compiler refuses."""
    target = HERE / "probe"
    inputs = [HERE / name for name in (*SOURCES, *HEADERS, Path(__file__).name)]
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path in inputs):
        return target
    compiler = os.environ.get("CC", "cc")
    # Several test runs may build at once: each makes its own file, the last rename wins.
    handle, temporary = tempfile.mkstemp(dir=HERE, prefix=".probe-")
    os.close(handle)
    try:
        subprocess.run(
            [compiler, *FLAGS, "-o", temporary, *(str(HERE / name) for name in SOURCES)], check=True
        )
        os.chmod(temporary, 0o755)
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
