# SPDX-License-Identifier: Apache-2.0
"""Several commands on one container at once, and commands whose caller dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence

import pytest
from support.bundle import Bundle
from support.command import ENVIRONMENT, RuntimeCommand
from support.oracle import HostSnapshot

pytestmark = pytest.mark.root


def together(runtime: RuntimeCommand, lines: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Start all commands at once; return status and message of each."""
    processes = [
        subprocess.Popen(
            runtime.command(*line), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=ENVIRONMENT, text=True,
        )
        for line in lines
    ]  # fmt: skip
    messages = [process.communicate(timeout=60)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, messages, strict=True)]


def test_start_twice(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """R-03: of several starts exactly one starts the container, the others say that it runs."""
    container = runtime.create(sleeper)
    results = together(runtime, [["start", sleeper.id]] * 4)
    assert sorted(status for status, _ in results) == [0, 1, 1, 1], results
    assert all("already running" in text for status, text in results if status), results
    container.line()
    assert container.status() == "running"


def test_delete_twice(runtime: RuntimeCommand, sleeper: Bundle, oracle: HostSnapshot) -> None:
    """R-03: several delete --force, as an engine and its clean-up call them, all succeed."""
    runtime.create(sleeper).start().line()
    results = together(runtime, [["delete", "--force", sleeper.id]] * 4)
    assert [status for status, _ in results] == [0] * 4, results
    oracle.assert_clean()


def test_start_kill_and_delete(runtime: RuntimeCommand, sleeper: Bundle, oracle: HostSnapshot) -> None:
    """R-03: whatever order they win in, no command shows a fault of ours, and delete --force leaves nothing."""
    for _ in range(3):
        runtime.create(sleeper.again())
        name = sleeper.id
        results = together(
            runtime,
            [["start", name], ["kill", name, "KILL"], ["state", name], ["list"], ["delete", "--force", name]],
        )
        assert all("internal error" not in text and "Traceback" not in text for _, text in results), results
        assert results[3][0] == results[4][0] == 0, results
        runtime.call("state", name).refused("does not exist")
        oracle.assert_clean()


def test_run_that_is_killed(runtime: RuntimeCommand, sleeper: Bundle, oracle: HostSnapshot) -> None:
    """R-26: a container whose foreground run is killed goes on, and can be looked at and deleted."""
    sleeper.write()
    runtime.remember(sleeper.id)
    process = subprocess.Popen(
        runtime.command("run", "--bundle", str(sleeper.path), sleeper.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as output:
        assert b"ready" in output.readline()
    process.kill()
    process.wait()
    state = json.loads(runtime.call("state", sleeper.id).ok().stdout)
    assert state["status"] == "running"
    os.kill(state["pid"], signal.SIGKILL)
    runtime.call("delete", "--force", sleeper.id).ok()
    oracle.assert_clean()
