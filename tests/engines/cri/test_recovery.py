# SPDX-License-Identifier: Apache-2.0
"""What happens when a part of the engine dies."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from cri.client import EXITED, READY, RUNNING, Cri, CriError
from cri.test_pods import host_pid
from harness.containerd import Daemon
from harness.dying import MILLISECONDS, DyingRuntime
from harness.engine import eventually
from harness.processes import running


def test_restart_containerd(cri: Cri, daemon: Daemon) -> None:
    """Pods outlive containerd, stopped or killed; what ended meanwhile is known."""
    pod = cri.pod()
    outlives = pod.run("sleep", "1000", name="outlives")
    pid = host_pid(outlives)
    for attempt, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
        ends = pod.run("sh", "-c", "until [ -e /end ]; do sleep 0.05; done; exit 5", name="ends", attempt=attempt)
        other = host_pid(ends)
        daemon.stop(how)
        try:
            assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\0"
            Path(f"/proc/{other}/root/end").touch()
            eventually(lambda gone=other: not Path(f"/proc/{gone}").exists())
        finally:
            daemon.start()
        eventually(lambda: answers(cri), "the service does not come back")
        assert pod.status()["state"] == READY
        assert outlives.status()["state"] == RUNNING
        assert outlives.exec("echo", "still here") == ("still here\n", "", 0)
        assert ends.ended()["exit_code"] == 5
    outlives.stop()
    assert outlives.status()["exit_code"] == 137


def answers(cri: Cri) -> bool:
    """Whether the service does, after a restart."""
    with contextlib.suppress(CriError):
        return bool(cri("Status")["status"]["conditions"])
    return False


def test_shim_killed(cri: Cri) -> None:
    """When a pod's shim is killed, all of the pod is ended and removed by the runtime, and a new one runs."""
    pod = cri.pod()
    container = pod.run("sh", "-c", "sleep 4246 & sleep 4246")
    bystander = cri.pod("bystander").run("sleep", "1000")
    (shim,) = running("-id", pod.id)
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not running("sleep", "4246"))
    eventually(lambda: container.status()["state"] == EXITED)
    pod.stop()
    pod.remove()
    assert bystander.exec("echo", "untouched") == ("untouched\n", "", 0)
    assert cri.pod().run("true").ended()["exit_code"] == 0


def test_runtime_killed_in_exec(cri: Cri, dying: DyingRuntime) -> None:
    """kill -9 of the runtime in the middle of exec: the exec may fail, the container, its next exec and its end do not."""
    container = cri.pod(handler="dying").run("sleep", "1000")
    processes = lambda: len(container.shell("ls -d /proc/[0-9]*").split())  # noqa: E731
    before = processes()
    try:
        for milliseconds in MILLISECONDS:
            dying.kill_after(milliseconds)
            with contextlib.suppress(CriError):
                container.exec("true", timeout=30)
            assert container.status()["state"] == RUNNING
    finally:
        dying.spare()
    assert container.exec("echo", "alive") == ("alive\n", "", 0)
    eventually(lambda: processes() == before, "what the killed runtime started stays")
    container.stop()
    assert container.status()["exit_code"] == 137
