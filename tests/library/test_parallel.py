# SPDX-License-Identifier: Apache-2.0
"""Many containers created at once and deleted at once, with each cgroup manager.

OCIRUN_PARALLEL sets how many, 100 by default.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import TAG
from support.oracle import HostSnapshot
from support.systemd import units

COUNT = int(os.environ.get("OCIRUN_PARALLEL", "100"))
pytestmark = pytest.mark.root


@pytest.mark.parametrize("manager", ["cgroupfs", pytest.param("systemd", marks=pytest.mark.systemd)])
def test_all_of_them_succeed(
    sleeping: str, workdir: Path, program: Callable[..., subprocess.Popen[str]], manager: str
) -> None:
    """All are there at one moment; afterwards no process, cgroup, unit or state is."""
    snapshot = HostSnapshot(workdir / "state")
    run = program("parallel.py", workdir / "state", sleeping, manager, COUNT, env={"OCIRUN_TEST_PREFIX": TAG})
    out, _ = run.communicate(timeout=1300)
    assert run.returncode == 0
    result = json.loads(out)
    print(manager, COUNT, result)
    assert (result["errors"], result["there"], result["left"], result["warnings"]) == ([], COUNT, [], [])
    snapshot.assert_clean()
    if manager == "systemd":
        assert units() == set()
