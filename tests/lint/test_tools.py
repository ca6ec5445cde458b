# SPDX-License-Identifier: Apache-2.0
"""The linters, as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "ocirun"


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_ruff() -> None:
    """ruff finds nothing."""
    run(sys.executable, "-m", "ruff", "check", ".")


def test_mypy() -> None:
    """mypy --strict finds nothing."""
    run(sys.executable, "-m", "mypy")


def test_clang_format() -> None:
    """Our C in the package is formatted as .clang-format says."""
    sources = [str(path) for path in sorted((PACKAGE / "_native").glob("*.[ch]")) if path.name != "_shim.c"]
    run("clang-format", "--dry-run", "-Werror", *sources)
