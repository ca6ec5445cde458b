# SPDX-License-Identifier: Apache-2.0
"""Many at once, and what happens when a part of the engine dies."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.containerd import IMAGE, RUNC_V2, Ctr
from harness.dying import MILLISECONDS, DyingRuntime
from harness.engine import eventually
from harness.processes import running


@pytest.mark.core
def test_parallel_20(ctr: Ctr) -> None:
    """Twenty at once: each prints what is its own and ends as it should."""
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda number: ctr.run("--rm", IMAGE, f"many{number}", "sh", "-c", f"echo {number}; exit {number}"), range(20)))
    assert [(one.text, one.rc) for one in done] == [(str(number), number) for number in range(20)], done


def test_daemon_restart(ctr: Ctr) -> None:
    """Containers outlive containerd, stopped or killed, and the next one has them."""
    ctr.start(IMAGE, "outlives", "sleep", "1000")
    pid = ctr.pid("outlives")
    for how in (signal.SIGTERM, signal.SIGKILL):
        ended = f"ended-{how.name}"
        ctr.start(IMAGE, ended, "sh", "-c", "until [ -e /end ]; do sleep 0.05; done; exit 5")
        other = ctr.pid(ended)
        ctr.daemon.stop(how)
        try:
            assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\0"
            Path(f"/proc/{other}/root/end").touch()  # ends while nobody looks
            eventually(lambda gone=other: not Path(f"/proc/{gone}").exists())
        finally:
            ctr.daemon.start()
        assert ctr.pid("outlives") == pid
        assert ctr.exec("outlives", "echo", "still here").ok().text == "still here"
        ctr.ends(ended, 5)
    ctr("task", "kill", "--signal", "SIGKILL", "outlives").ok()
    ctr.ends("outlives", 137)


def test_shim_killed(ctr: Ctr) -> None:
    """When a shim is killed, containerd has the runtime remove what it left: the container's processes, state and cgroup."""
    ctr.start(IMAGE, "orphan", "sh", "-c", "sleep 4245 & sleep 4245")
    ctr.start(IMAGE, "bystander", "sleep", "1000")
    pid = ctr.pid("orphan")
    (shim,) = running("-id", "orphan")
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    eventually(lambda: not running("sleep", "4245"))
    eventually(lambda: ctr.status("orphan") in ("", "STOPPED"))
    eventually(lambda: not Path("/run/containerd/runc/default/orphan").exists())
    ctr("task", "rm", "--force", "orphan")
    ctr("container", "rm", "orphan").ok()
    assert ctr.exec("bystander", "echo", "untouched").ok().text == "untouched"
    assert ctr.run("--rm", IMAGE, "orphan", "echo", "again").ok().text == "again"


def test_runtime_killed_in_exec(ctr: Ctr, runtime_path: str, scratch: Path) -> None:
    """kill -9 of the runtime in the middle of exec: the exec may fail, the container, its next exec and its end do not."""
    dying = DyingRuntime(scratch, runtime_path)
    ctr("run", "--detach", "--runtime", RUNC_V2, "--runc-binary", dying.path, IMAGE, "victim", "sleep", "1000").ok()
    for milliseconds in MILLISECONDS:
        dying.kill_after(milliseconds)
        ctr.exec("victim", "true")
        assert ctr.status("victim") == "RUNNING"
    dying.spare()
    assert ctr.exec("victim", "echo", "alive").ok().text == "alive"
    eventually(lambda: len(ctr("task", "ps", "victim").ok().lines) == 2, "what the killed runtime started stays in the container")
    ctr("task", "kill", "--signal", "SIGKILL", "victim").ok()
    ctr.ends("victim", 137)
