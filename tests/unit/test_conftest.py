# SPDX-License-Identifier: Apache-2.0
"""tests/conftest.py: a test that fails does not make the next one fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PLANTED = """
import gc, os, subprocess
from pathlib import Path

import pytest

PID = Path(__file__).with_name("pid")


def test_that_fails():
    process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE)
    PID.write_text(str(process.pid))
    raise AssertionError("planted")


def test_that_is_next():
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(int(PID.read_text()), 0)
"""


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """The process that only the frame of a failed test knew is gone, and the garbage collector complains of nothing."""
    (tmp_path / "test_planted.py").write_text(PLANTED)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-c", TOP / "pyproject.toml", "--rootdir", tmp_path,
         "-p", "no:cacheprovider", "-p", "conftest", tmp_path / "test_planted.py"],
        env={**environment, "PYTHONPATH": str(TOP / "tests")}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "planted" in done.stdout
    assert "ResourceWarning" not in done.stdout + done.stderr
