# SPDX-License-Identifier: Apache-2.0
"""`ocirun setup`: what it writes real engines read.  /etc is the sandbox's own, so it is written where users have it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.engine import TIMEOUT, Engine, Result, eventually

if os.environ.get("OCIRUN_ENGINES_RUNTIME") != "ocirun":
    collect_ignore_glob = ["*"]  # peers have no such command

Daemon = Callable[..., "contextmanager[subprocess.Popen[bytes]]"]


@pytest.fixture(scope="session")
def setup(runtime_path: str) -> Callable[..., Result]:
    """`ocirun setup ENGINE --write …`."""
    command = Engine([runtime_path])

    def write(engine: str, *options: str) -> Result:
        return command("setup", engine, "--write", *options).ok()

    return write


@contextmanager
def daemon(log: Path, *words: str | Path, until: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon until it answers, and as long as it is needed."""
    with log.open("wb") as file, subprocess.Popen(list(map(str, words)), stdout=file, stderr=file) as process:
        try:

            def answers() -> bool:
                assert process.poll() is None, log.read_text()[-3000:]
                return until()

            eventually(answers, f"{words[0]} does not answer: {log}")
            yield process
        finally:
            process.terminate()
            process.wait(TIMEOUT)
