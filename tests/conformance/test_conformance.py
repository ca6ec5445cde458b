# SPDX-License-Identifier: Apache-2.0
"""The conformance suite on ocirun, a test for each case: it runs once, apart, and here are its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.command import find_runtime

from conformance import cases
from conformance.harness.case import CASES

SUITE = Path(__file__).resolve().parent
assert cases


def run(names: Sequence[str], directory: Path) -> dict[str, dict[str, Any]]:
    """Run cases; return their results by name."""
    command = find_runtime(None)
    assert command is not None
    file = directory / "results.json"
    selected = [word for name in names for word in ("--case", name.replace("[", "[[]"))]
    if len(names) == len(CASES):
        selected = []
    # Who ends these tests ends the suite: its workers do not outlive the reader of their results.
    words = ["setpriv", "--pdeathsig", "TERM", sys.executable, str(SUITE / "run")]
    words += ["--runtime", " ".join(command), "--json", str(file), *selected]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert file.exists(), done.stderr
    document = json.loads(file.read_text())
    return {result["name"]: result for result in next(iter(document.values()))["results"]}


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the cases that were selected; return their results by name."""
    if request.config.getoption("--peer"):
        pytest.skip("peer: tests/run --conformance --runtime NAME")
    names = [item.callspec.params["name"] for item in request.session.items if item.path == Path(__file__)]
    return run(names, tmp_path_factory.mktemp("conformance"))


@pytest.mark.root
@pytest.mark.parametrize("name", list(CASES))
def test_conformance(results: dict[str, dict[str, Any]], name: str, tmp_path: Path) -> None:
    """The case passes, or is a deviation that is listed with its reason."""
    # Whoever runs the test again (--reruns) runs the case again.
    result = results.pop(name, None) or run([name], tmp_path)[name]
    if result["outcome"] == "n/a":
        pytest.skip(f"machine: conformance: {result['why']}")
    assert result["outcome"] in ("pass", "deviates"), (
        [str(sentence) for sentence in CASES[name].sentences],
        result["why"],
        result["detail"],
        f"uid {os.geteuid()}",
    )
