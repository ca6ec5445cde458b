# SPDX-License-Identifier: Apache-2.0
"""`wait`: the exit status of a container's process, to whoever asks for it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import ENVIRONMENT, RuntimeCommand
from support.waits import Race, is_asleep

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("no peer has the command")]
MkBundle = Callable[..., Bundle]


def waiting(runtime: RuntimeCommand, bundle: Bundle) -> subprocess.Popen[str]:
    """Start `wait`; returns when it is about to wait."""
    process = subprocess.Popen(
        runtime.command("wait", bundle.id), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    while "pidfd" not in descriptors(process.pid):
        assert process.poll() is None
    return process


def descriptors(pid: int) -> str:
    """Return what descriptors a process has, in words."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass  # closed by now
    return " ".join(found)


@pytest.mark.kernel("6.15")
@pytest.mark.parametrize(("number", "status"), [(15, 7), (9, 137)])
def test_exit_status(runtime: RuntimeCommand, bundle: Bundle, number: int, status: int) -> None:
    """The code of a process that is somebody else's child, or 128 and the signal that ended it, for all who wait."""
    container = runtime.create(bundle.seq(["on-signal", "15", str(status)], "ready", "sleep")).start()
    container.line()
    both = [waiting(runtime, bundle) for _ in range(2)]
    until(lambda: all(is_asleep(process.pid) for process in both), "both wait")
    with ThreadPoolExecutor(1) as pool:
        parent = pool.submit(container.wait)  # as engines do: it reaps at once
        container.kill(number).ok()
        assert parent.result() == status
    for process in both:
        assert process.communicate(timeout=60) == (f"{status}\n", "")
        assert process.returncode == 0


def test_what_cannot_be_known(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Of a process that is gone nobody can tell; a container that is not there is another matter."""
    container = runtime.create(bundle.args("exit", "3")).start()
    container.wait()
    runtime.call("wait", bundle.id).refused("container not running")
    container.delete().ok()
    runtime.call("wait", bundle.id).refused("container does not exist")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, number: int) -> None:
    """A signal ends the wait, also one that comes just before it, and nothing else."""
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    process = waiting(runtime, bundle)
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -number
    result = Race(runtime, workdir / "calls", "wait", container.id).run(number, lambda: True)
    assert (result.rc, result.stdout, result.stderr) == (128 + number, b"", "")
    assert container.status() == "running"
