# SPDX-License-Identifier: Apache-2.0
"""Tests under real engines.  They are run in the sandbox, by `tests/run --engines`, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

RUNTIME = os.environ.get("OCIRUN_ENGINES_RUNTIME", "")
if not RUNTIME:
    collect_ignore_glob = ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at what is left runs last."""
    items.sort(key=lambda item: item.name.startswith("test_nothing_is_left"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Write down what came of a scenario, for the table."""
    report = yield
    if report.when == "call" or report.outcome != "passed":
        reason = "" if report.passed else str(call.excinfo.value)[:2000] if call.excinfo else ""
        line = {
            "engine": Path(str(item.path)).parent.name,
            "scenario": item.name.removeprefix("test_"),
            "runtime": RUNTIME,
            "outcome": report.outcome,
            "seconds": round(call.duration, 2),
            "reason": reason,
        }
        with open(os.environ["OCIRUN_ENGINES_RESULTS"], "a") as results:
            results.write(json.dumps(line) + "\n")
    return report


@pytest.fixture(scope="session")
def runtime_name() -> str:
    """ocirun, runc or crun."""
    return RUNTIME


@pytest.fixture(scope="session")
def runtime_path() -> str:
    """The command that the engine is to call."""
    return os.environ["OCIRUN_ENGINES_COMMAND"]


@pytest.fixture(scope="session")
def images() -> Path:
    """Where the archives and root file systems of `harness/images.py` are."""
    return Path(os.environ["OCIRUN_ENGINES_IMAGES"])


@pytest.fixture(scope="session")
def data() -> Path:
    """A directory on a disk for what the engine keeps; it is gone with the sandbox."""
    return Path(os.environ["OCIRUN_ENGINES_DATA"])


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A directory for one scenario that everybody may enter."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return tmp_path
