# SPDX-License-Identifier: Apache-2.0
"""Signals to containers: stop, kill, pause, what comes through docker, and the end of many processes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from harness.docker import Docker
from harness.engine import eventually

TRAP = "trap 'echo got {0}; exit {1}' {0}; echo ready; while :; do sleep 0.05; done"


def ready(docker: Docker, name: str, words: str = "ready") -> None:
    """Wait until the container has said so."""
    eventually(lambda: words in docker("logs", name).out, f"{name} never said {words}")


@pytest.mark.core
def test_stop_trap(docker: Docker) -> None:
    """stop sends SIGTERM, and who handles it ends with its own status."""
    docker.up("--name", "one", "busybox", "sh", "-c", TRAP.format("TERM", 8))
    ready(docker, "one")
    docker("stop", "--time", "60", "one").ok()
    assert docker.look("one", "{{.State.ExitCode}}") == "8"
    ready(docker, "one", "got TERM")


def test_stop_timeout(docker: Docker) -> None:
    """Who does not listen is killed when the time is over."""
    docker.up("--name", "one", "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    ready(docker, "one")
    before = time.monotonic()
    docker("stop", "--time", "1", "one").ok()
    assert time.monotonic() - before >= 1
    assert docker.look("one", "{{.State.ExitCode}}") == "137"


def test_stop_signal(docker: Docker) -> None:
    """--stop-signal says which signal stop sends."""
    docker.up("--name", "one", "--stop-signal", "USR1", "busybox", "sh", "-c", TRAP.format("USR1", 6))
    ready(docker, "one")
    docker("stop", "--time", "60", "one").ok()
    assert docker.look("one", "{{.State.ExitCode}}") == "6"


def test_kill_signals(docker: Docker) -> None:
    """kill sends any signal, by name or by number."""
    script = "".join(f"trap 'echo got {name}' {name};" for name in ("HUP", "USR1", "WINCH", "CONT", "34"))
    docker.up("--name", "one", "busybox", "sh", "-c", f"{script} echo ready; while :; do sleep 0.05; done")
    ready(docker, "one")
    for word, name in (("HUP", "HUP"), ("SIGUSR1", "USR1"), ("28", "WINCH"), ("CONT", "CONT"), ("RTMIN", "34")):
        docker("kill", "--signal", word, "one").ok()
        ready(docker, "one", f"got {name}")
    docker("kill", "--signal", "NOTHING", "one").fails(words="signal")
    docker("kill", "one").ok()
    assert docker("wait", "one").ok().text == "137"
    docker("kill", "one").fails(words="is not running")


def test_signal_proxy(docker: Docker) -> None:
    """A signal to docker is one to the container."""
    with docker.session("run", "--name", "one", "busybox", "sh", "-c", TRAP.format("TERM", 12)) as session:
        session.expect("ready")
        eventually(lambda: docker.look("one", "{{.State.Status}}") == "running")
        session.process.send_signal(signal.SIGTERM)
        session.expect("got TERM")
        assert session.wait() == 12


def test_pause(docker: Docker, scratch: Path) -> None:
    """Paused: nothing moves; unpaused: it goes on."""
    count = scratch / "count"
    count.touch()
    docker.up("--name", "one", "-v", f"{scratch}:/v", "busybox", "sh", "-c", "while :; do echo x >>/v/count; sleep 0.02; done")
    eventually(lambda: count.stat().st_size > 4)
    docker("pause", "one").ok()
    counted = count.stat().st_size
    assert docker.look("one", "{{.State.Status}}") == "paused"
    docker("pause", "one").fails(words="already paused")
    time.sleep(0.3)
    assert count.stat().st_size == counted
    docker("unpause", "one").ok()
    eventually(lambda: count.stat().st_size > counted)
    docker("unpause", "one").fails(words="not paused")


def test_rm_paused(docker: Docker) -> None:
    """What is paused can be removed by force, and be killed."""
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    docker("pause", "one").ok()
    docker("rm", "one").fails()
    docker("rm", "--force", "one").ok()
    assert docker.gone("one")


def test_rm_force(docker: Docker) -> None:
    """What runs is removed by force alone, in whichever state it is."""
    for make in ("run -d", "create"):
        docker(*make.split(), "--name", "one", "busybox", "/probe", "sleep").ok()
        if make != "create":
            docker("rm", "one").fails(words="stop the container before")
        docker("rm", "--force", "one").ok()
        assert docker.gone("one")


def test_many_children_kill(docker: Docker) -> None:
    """All the hundred processes of a container end with its first one."""
    docker.up("--name", "one", "busybox", "sh", "-c", "for i in $(seq 100); do (trap '' TERM HUP; sleep 1000)& done; echo ready; wait")
    ready(docker, "one")
    assert len(docker("top", "one").ok().lines) > 100
    docker("kill", "one").ok()
    assert docker("wait", "one").ok().text == "137"


def test_pid_host_kill(docker: Docker) -> None:
    """In the host's process namespace no first process takes the others along: the runtime kills them all."""
    docker.up("--name", "one", "--pid", "host", "busybox", "sh", "-c", "for i in 1 2 3; do sleep 998877& done; echo ready; wait")
    ready(docker, "one")
    assert len(docker("top", "one").ok().lines) == 5
    docker("kill", "one").ok()
    assert docker("wait", "one").ok().text == "137"  # and the fixture sees that no process is left


def test_init(docker: Docker) -> None:
    """--init puts a process before the command, which reaps what is left to it and passes signals on."""
    docker.up("--name", "one", "--init", "busybox", "sh", "-c", "(sleep 0.1 &); trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    ready(docker, "one")
    assert "init" in docker("exec", "one", "cat", "/proc/1/cmdline").ok().out
    eventually(lambda: docker("exec", "one", "sh", "-c", "grep -l 'State.*Z' /proc/[0-9]*/status").text == "", "a zombie stays")
    docker("stop", "--time", "60", "one").ok()
    assert docker.look("one", "{{.State.ExitCode}}") == "4"


def test_top_stats(docker: Docker) -> None:
    """top lists the processes as the host numbers them, stats says what they use."""
    docker.up("--name", "one", "--memory", "64m", "busybox", "sh", "-c", "sleep 1000 & exec sleep 2000")
    eventually(lambda: len(docker("top", "one").ok().lines) == 3)
    listed = docker("top", "one", "-o", "pid,args").ok().out
    assert "sleep 1000" in listed and "sleep 2000" in listed and str(docker.pid("one")) in listed
    stats = docker("stats", "--no-stream", "--format", "{{json .}}", "one").ok().json
    assert stats["PIDs"] == "2" and stats["MemUsage"].endswith("/ 64MiB") and not stats["MemUsage"].startswith("0B"), stats
