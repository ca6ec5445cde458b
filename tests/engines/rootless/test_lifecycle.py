# SPDX-License-Identifier: Apache-2.0
"""Start, signals, stop, restart and removal of a user's containers."""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.user import RUNTIME_DIR

START = ("run", "-d", "--name", "it", "--network", "none")


def state(podman: Engine, what: str) -> str:
    return podman("inspect", "--format", f"{{{{.State.{what}}}}}", "it").ok().text


def test_create_start(podman: Engine) -> None:
    """create makes it, start runs it, twice, with its status and its log."""
    podman("create", "--name", "it", "--network", "none", "busybox", "sh", "-c", "echo ran; exit 4").ok()
    assert state(podman, "Status") == "created"
    for _ in range(2):
        assert podman("start", "--attach", "it").fails(4).text == "ran"
    assert podman("logs", "it").ok().lines == ["ran", "ran"]


def test_init_state(podman: Engine) -> None:
    """podman init makes the container without starting its program; start and rm take it from there."""
    podman("create", "--name", "it", "--network", "none", "busybox", "sh", "-c", "echo ran").ok()
    podman("init", "it").ok()
    assert state(podman, "Status") == "initialized"
    assert podman("start", "--attach", "it").ok().text == "ran"
    podman("init", "it").ok()
    podman("rm", "--force", "--time", "0", "it").ok()


@pytest.mark.core
def test_stop_kill(podman: Engine) -> None:
    """stop sends the stop signal and kills after the time; kill sends any; each is in the status."""
    trap = ("busybox", "sh", "-c", "trap 'echo bye; exit 0' TERM; trap 'echo usr' USR1; echo up; while :; do sleep 0.1; done")
    podman(*START, *trap).ok()
    eventually(lambda: "up" in podman("logs", "it").ok().lines)
    podman("kill", "--signal", "USR1", "it").ok()
    eventually(lambda: "usr" in podman("logs", "it").ok().lines)
    podman("stop", "--time", "60", "it").ok()
    assert (state(podman, "ExitCode"), podman("logs", "it").ok().lines) == ("0", ["up", "usr", "bye"])
    podman("start", "it").ok()
    podman("kill", "it").ok()
    assert podman("wait", "it").ok().text == "137"
    podman("start", "it").ok()
    podman("stop", "--time", "0", "it").ok()
    assert state(podman, "ExitCode") == "137"
    podman("kill", "it").fails(words="running")


@pytest.mark.core
def test_rm_force(podman: Engine) -> None:
    """rm --force of what runs, with all that it started; what is not there is said."""
    podman(*START, "busybox", "sh", "-c", "for i in 1 2 3 4 5; do sleep 1000 & done; trap '' TERM; wait").ok()
    podman("rm", "it").fails(words="running")
    podman("rm", "--force", "--time", "0", "it").ok()
    podman("inspect", "it").fails()
    podman("rm", "it").fails(1)


def test_restart(podman: Engine) -> None:
    """restart runs the program anew; a policy does it when the program fails."""
    podman(*START, "busybox", "sleep", "1000").ok()
    first = state(podman, "Pid")
    podman("restart", "--time", "0", "it").ok()
    assert (state(podman, "Pid") != first, state(podman, "Running")) == (True, "true")
    words = ("run", "-d", "--name", "again", "--network", "none", "--restart", "on-failure:2", "busybox", "sh", "-c")
    podman(*words, "echo one more; exit 1").ok()
    eventually(lambda: podman("logs", "again").ok().lines == ["one more"] * 3)


def test_conmon_killed(podman: Engine, runtime_name: str) -> None:
    """conmon is killed: the container can still be entered, and podman gets rid of it."""
    container = podman(*START, "busybox", "sleep", "1000").ok().text
    pid = int(state(podman, "Pid"))
    os.kill(int(state(podman, "ConmonPid")), signal.SIGKILL)
    assert podman("exec", "it", "echo", "there").ok().text == "there"
    podman("rm", "--force", "--time", "0", "it").ok()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    # podman 4.3 has no runtime delete what has lost its conmon.
    shutil.rmtree(RUNTIME_DIR / runtime_name / container, ignore_errors=True)


def test_parallel_short(podman: Engine) -> None:
    """Containers that end at once are started, executed in and removed beside each other."""

    def live(number: int) -> None:
        name = f"short{number}"
        podman("run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", "exec sleep 1000").ok()
        podman("exec", name, "true").ok()
        podman("kill", name).ok()
        podman("rm", "--force", "--time", "0", name).ok()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(8)))
