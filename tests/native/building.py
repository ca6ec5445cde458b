# SPDX-License-Identifier: Apache-2.0
"""Building the C programs of these tests, from their own sources and the package's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
NATIVE = REPOSITORY / "ocirun/_native"
CACHE = REPOSITORY / ".cache/tests"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g")


def compiler() -> list[str]:
    """Return the C compiler as the environment names it."""
    return os.environ.get("CC", "cc").split()


def build(name: str, sources: Sequence[Path], *flags: str) -> Path:
    """Return an up-to-date program from these sources, built with these flags."""
    digest = hashlib.sha256("\0".join([*compiler(), *flags]).encode())
    for path in [*sources, *sorted(NATIVE.glob("*.h"))]:
        digest.update(path.read_bytes())
    target = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    # Several test runs may build at once: each makes its own file, the last rename wins.
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        made = Path(directory) / name
        command = [*compiler(), *flags, "-o", str(made), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made.rename(target)
    return target


def tool(name: str, *flags: str) -> Path:
    """Return a program of this directory, linked with the checker of plans."""
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    return build(name, [HERE / f"{name}.c", NATIVE / "plan.c"], *warnings, *flags)
