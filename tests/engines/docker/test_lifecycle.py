# SPDX-License-Identifier: Apache-2.0
"""What the daemon does on its own: health, restarts; and checkpoints."""

from __future__ import annotations

import os
import signal

from harness.docker import Docker
from harness.engine import eventually


def test_health(docker: Docker) -> None:
    """The health command is run again and again, and its answer is the container's health."""
    check = ("--health-cmd", "cat /well", "--health-interval", "500ms", "--health-retries", "1", "--health-timeout", "20s")
    docker.up("--name", "one", *check, "busybox", "sh", "-c", "touch /well; exec /probe sleep")
    for command, health in ((None, "healthy"), (("rm", "/well"), "unhealthy"), (("touch", "/well"), "healthy")):
        if command:
            docker("exec", "one", *command).ok()
        eventually(lambda health=health: docker.look("one", "{{.State.Health.Status}}") == health, f"never {health}")


def test_restart_policy(docker: Docker) -> None:
    """on-failure:2 is twice more; unless-stopped comes back when it is killed, and not when it is stopped."""
    docker.up("--name", "one", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo x; exit 3")
    eventually(lambda: docker.look("one", "{{.RestartCount}} {{.State.Status}}") == "2 exited", "it was not tried again")
    assert docker("logs", "one").ok().out == "x\n" * 3
    docker.up("--name", "two", "--restart", "unless-stopped", "busybox", "/probe", "sleep")
    first = docker.pid("two")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: docker.look("two", "{{.State.Running}}") == "true" and docker.pid("two") not in (0, first), "it did not come back")
    docker("stop", "--time", "0", "two").ok()
    assert docker.look("two", "{{.State.Running}}") == "false"


def test_restart(docker: Docker) -> None:
    """restart: another process, the same files, the same address of the log."""
    docker.up("--name", "one", "busybox", "sh", "-c", "echo x >>/count; wc -l </count; exec /probe sleep")
    first = docker.pid("one")
    docker("restart", "--time", "0", "one").ok()
    assert docker.pid("one") not in (0, first)
    eventually(lambda: docker("logs", "one").ok().out.split() == ["1", "2"])


def test_checkpoint_restore(docker: Docker) -> None:
    """A checkpoint ends the container; started from it, it goes on where it was."""
    docker.up("--name", "one", "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.05; done")
    eventually(lambda: "5\n" in docker("logs", "one").out)
    docker("checkpoint", "create", "one", "saved").ok()
    eventually(lambda: docker.look("one", "{{.State.Running}}") == "false")
    assert docker("checkpoint", "ls", "one").ok().lines[1:] == ["saved"]
    counted = docker("logs", "one").ok().lines[-1]
    docker("start", "--checkpoint", "saved", "one").ok()
    eventually(lambda: docker("logs", "--tail", "1", "one").ok().text > counted)
    assert docker("logs", "one").ok().lines.count("1") == 1


def test_checkpoint_leave_running(docker: Docker) -> None:
    """--leave-running: the checkpoint is there and the container too."""
    docker.up("--name", "one", "--security-opt", "seccomp=unconfined", "busybox", "/probe", "sleep")
    docker("checkpoint", "create", "--leave-running", "one", "saved").ok()
    assert docker.look("one", "{{.State.Running}}") == "true"
    assert docker("checkpoint", "ls", "one").ok().lines[1:] == ["saved"]
    docker("exec", "one", "true").ok()
