# SPDX-License-Identifier: Apache-2.0
"""The library in this very process, or in programs that stand for somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from library.attributes import descriptors, of_this_process
from support.bundle import Bundle
from support.command import reap
from support.oracle import HostSnapshot, remove_leftovers

from ocirun import Runtime

HERE = Path(__file__).resolve().parent


@pytest.fixture
def ready(bundle: Bundle) -> str:
    """A bundle whose program ends at once."""
    bundle.args("exit", "0").write()
    return str(bundle.path)


@pytest.fixture
def sleeping(mkbundle: Callable[..., Bundle]) -> str:
    """A bundle whose program does not end by itself."""
    bundle = mkbundle().seq("ready", "sleep")
    bundle.write()
    return str(bundle.path)


def attributes() -> dict[str, object]:
    """Return what the library must not change of this process; pytest itself changes one variable."""
    found = of_this_process()
    environ = found["environ"]
    assert isinstance(environ, dict)
    environ.pop("PYTEST_CURRENT_TEST", None)
    return {**found, "descriptors": descriptors()}


@pytest.fixture
def library(private_host: None, workdir: Path) -> Iterator[Runtime]:
    """A Runtime in this process.  Leaves nothing on the host, changes nothing of the process, and checks both."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    root = workdir / "state"
    snapshot = HostSnapshot(root)
    before = attributes()
    runtime = Runtime(str(root))
    yield runtime
    try:
        with runtime:
            for state in runtime.list():
                runtime.delete(state.id, force=True)
        reap()
        snapshot.assert_clean()
        assert attributes() == before
    finally:
        remove_leftovers()


@pytest.fixture
def program(private_host: None, workdir: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program that uses the library; its standard input and output are pipes of text."""

    def start(name: str, *words: object, **keywords: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", str(HERE / name), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), **keywords.pop("env", {})},  # type: ignore[dict-item]
            **keywords,  # type: ignore[call-overload]
        )

    return start
