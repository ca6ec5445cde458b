# SPDX-License-Identifier: Apache-2.0
"""Signals, stopping, pausing and removing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.podman import background, in_log, inside, state, trapping


@pytest.mark.core
def test_stop_trap(podman: Engine) -> None:
    """`stop` asks, and the container answers with its own status."""
    trapping(podman, "trap 'echo stopping; exit 5' TERM")
    podman("stop", "--time", "60", "one").ok()
    assert state(podman)["ExitCode"] == 5
    assert "stopping" in podman("logs", "one").ok().out


def test_stop_timeout(podman: Engine) -> None:
    """What does not listen is killed when the time is over."""
    background(podman)
    podman("stop", "--time", "1", "one").ok()
    assert state(podman)["ExitCode"] == 137


def test_stop_signal(podman: Engine) -> None:
    """The signal that stops can be another."""
    trapping(podman, "trap 'exit 8' USR1", "--stop-signal", "USR1")
    podman("stop", "--time", "60", "one").ok()
    assert state(podman)["ExitCode"] == 8


def test_kill_signals(podman: Engine) -> None:
    """Signals by name and by number arrive, real-time ones too."""
    trapping(podman, "for s in HUP USR1 USR2 WINCH; do trap \"echo got-$s\" $s; done; while :; do echo ready; sleep 0.1; done")
    for name in ("HUP", "SIGUSR1", str(int(signal.SIGUSR2)), "WINCH"):
        podman("kill", "--signal", name, "one").ok()
    for name in ("HUP", "USR1", "USR2", "WINCH"):
        in_log(podman, f"got-{name}")
    podman("run", "--detach", "--name", "two", "busybox", "/probe", "wait-signal").ok()
    in_log(podman, "ready", "two")
    podman("kill", "--signal", "37", "two").ok()
    in_log(podman, '"signal":37', "two")
    podman("kill", "--signal", "NONSENSE", "one").fails()


def test_signal_proxy(podman: Engine) -> None:
    """What podman in the foreground gets, the container gets."""
    script = "trap 'echo passed; exit 7' TERM; echo ready; sleep 1000 & wait $!"
    with podman.session("run", "--rm", "--name", "one", "busybox", "sh", "-c", script) as session:
        session.expect("ready")
        # It passes nothing on to what it has not seen running yet.
        eventually(lambda: state(podman)["Status"] == "running")
        session.process.terminate()
        session.expect("passed")
        assert session.wait() == 7


def test_pause(podman: Engine) -> None:
    """A paused container stands still, refuses exec, and goes on."""
    trapping(podman, "n=0; (while :; do n=$((n+1)); echo $n >/dev/shm/n; done) &")
    podman("pause", "one").ok()
    assert state(podman)["Status"] == "paused"
    counter = Path(f"/proc/{state(podman)['Pid']}/root/dev/shm/n")
    before = counter.read_text()
    podman("exec", "one", "true").fails()
    time.sleep(0.2)  # if it were not paused, it would count thousands
    assert counter.read_text() == before
    podman("unpause", "one").ok()
    eventually(lambda: counter.read_text() not in ("", before))
    assert inside(podman, "echo", "again") == "again"


def test_rm_paused(podman: Engine) -> None:
    """A paused container can be removed."""
    background(podman)
    podman("pause", "one").ok()
    podman("rm", "--force", "--time", "0", "one").ok()
    podman("inspect", "one").fails()


def test_rm_force(podman: Engine) -> None:
    """A running container can be removed, and its name be used anew."""
    background(podman)
    podman("rm", "one").fails(words="running")
    podman("rm", "--force", "--time", "0", "one").ok()
    background(podman)


def test_many_children_kill(podman: Engine) -> None:
    """All of a hundred processes go with the first."""
    background(podman)
    podman("exec", "--detach", "one", "/probe", "seq", "fork", "100", "--", "sleep").ok()
    eventually(lambda: len(podman("top", "one", "pid").ok().lines) >= 102)
    podman("kill", "one").ok()
    assert podman("wait", "one").ok().text == "137"


def test_pid_host_kill(podman: Engine) -> None:
    """Without a process namespace of its own, too."""
    background(podman, "--pid", "host")
    podman("exec", "--detach", "one", "/probe", "seq", "fork", "20", "--", "sleep").ok()
    eventually(lambda: len(_named("probe")) == 21)
    podman("rm", "--force", "--time", "0", "one").ok()
    eventually(lambda: not _named("probe"), "processes without a namespace outlived their container")


def _named(name: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text() == f"{name}\n":
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_restart(podman: Engine) -> None:
    """`restart` gives another process and keeps the log."""
    trapping(podman, "trap 'exit 0' TERM")
    before = state(podman)
    podman("restart", "one").ok()
    eventually(lambda: podman("logs", "one").out.count("ready") == 2)
    assert state(podman)["Pid"] != before["Pid"]


def test_stop_all_no_left(podman: Engine) -> None:
    """Everything stops and goes at once; the fixture sees that nothing is left."""
    for name in ("one", "two", "three"):
        background(podman, name=name)
    podman("stop", "--all", "--time", "0").ok()
    assert podman("ps", "--quiet").ok().text == ""
    podman("rm", "--all").ok()
    assert podman("ps", "--all", "--quiet").ok().text == ""
