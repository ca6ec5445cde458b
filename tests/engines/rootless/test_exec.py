# SPDX-License-Identifier: Apache-2.0
"""podman exec of an ordinary user."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.engine import TIMEOUT, Engine, eventually

START = ("run", "-d", "--name", "it", "--network", "none")


def start(podman: Engine, *words: str) -> int:
    """Start a container that sleeps; returns its process."""
    podman(*START, *words, "busybox", "sleep", "1000").ok()
    return int(podman("inspect", "--format", "{{.State.Pid}}", "it").ok().text)


@pytest.mark.core
def test_exec(podman: Engine) -> None:
    """A process in the container: its namespaces, files, streams and status; 127 and 126 as for run."""
    start(podman, "-e", "FROM=run")
    names = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    links = "; ".join(f"readlink /proc/%s/ns/{name}" for name in names)
    assert podman("exec", "it", "sh", "-c", links.replace("%s", "self")).ok().out == (
        podman("exec", "it", "sh", "-c", links.replace("%s", "1")).ok().out
    )
    words = ("exec", "-i", "-e", "ALSO=exec", "-w", "/tmp", "it", "sh", "-c")
    assert podman(*words, "echo $FROM $ALSO; pwd; cat; exit 9", stdin="typed").fails(9).lines == ["run exec", "/tmp", "typed"]
    podman("exec", "it", "nosuch").fails(127, "nosuch")
    podman("exec", "it", "/etc/passwd").fails(126, "permission denied")
    podman("exec", "-w", "/nosuch", "it", "true").fails(words="nosuch")
    assert podman("exec", "it", "sh", "-c", "kill -9 $$").rc == 137


def test_exec_is_as_confined_as_the_container(podman: Engine) -> None:
    """Ids, maps, groups, capabilities, filter, no_new_privs, limits and masked files are those of the container."""
    start(podman, "--cap-drop", "all", "--cap-add", "chown", "--security-opt", "no-new-privileges", "--ulimit", "nofile=77:99")
    lines = "^Uid|^Gid|^Groups|^Cap|^NoNewPrivs|^Seccomp"
    script = f"grep -E '{lines}' /proc/%s/status; cat /proc/%s/uid_map /proc/%s/oom_score_adj; grep files /proc/%s/limits"
    inside = podman("exec", "it", "sh", "-c", script.replace("%s", "self")).ok()
    assert inside.out == podman("exec", "it", "sh", "-c", script.replace("%s", "1")).ok().out
    assert "CapEff:\t0000000000000001" in inside.lines
    assert "NoNewPrivs:\t1" in inside.lines
    assert podman("exec", "it", "cat", "/proc/timer_list").ok().out == ""
    assert podman("exec", "it", "ls", "/proc/acpi").ok().out == ""
    podman("exec", "it", "mount", "-t", "tmpfs", "none", "/mnt").fails()
    full = podman("exec", "--privileged", "it", "grep", "^Cap[PEB]", "/proc/self/status").ok().lines
    assert len(full) == 3 and all(int(line.split()[1], 16) & 1 << 21 for line in full), full


def test_exec_user(podman: Engine) -> None:
    """Another user of the container, with his groups and without capabilities; none that is not mapped."""
    start(podman)
    script = "id -u; id -G; grep CapEff /proc/self/status"
    assert podman("exec", "-u", "user", "it", "sh", "-c", script).ok().lines == ["1000", "1000 1001", "CapEff:\t0000000000000000"]
    podman("exec", "-u", "70000", "it", "true").fails()
    assert podman("exec", "it", "id", "-u").ok().text == "0"


def test_exec_detach(podman: Engine) -> None:
    """podman does not wait, and the process goes on in the container."""
    start(podman)
    podman("exec", "-d", "it", "sh", "-c", "echo done >/tmp/said; exec sleep 1001").ok()
    eventually(lambda: "done" in podman("exec", "it", "sh", "-c", "cat /tmp/said").out)
    assert "sleep 1001" in podman("top", "it", "args").ok().out


def test_exec_parallel(podman: Engine) -> None:
    """Eight at once: each has its own streams and status."""
    start(podman)

    def run(number: int) -> str:
        return podman("exec", "-i", "it", "sh", "-c", f"cat; exit {number}", stdin=f"in {number}").fails(number).out

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(1, 9))) == [f"in {number}" for number in range(1, 9)]


def test_exec_ends_with_the_container(podman: Engine) -> None:
    """What was executed ends when the container is killed, and podman says so."""
    start(podman)
    with podman.session("exec", "it", "sh", "-c", "echo up; exec sleep 1000") as going:
        going.expect("up")
        podman("kill", "it").ok()
        assert going.wait() == 137
    podman("exec", "it", "true").fails(words="running")


def test_runtime_killed_in_exec(podman: Engine) -> None:
    """The runtime is killed while it executes: podman says that it failed, and goes on with the container."""
    pid = start(podman)
    for _ in range(4):
        with podman.session("exec", "it", "true") as going:
            killed = kill_runtime(going.process)
            assert going.wait() != 0 or not killed
    assert podman("exec", "it", "echo", "again").ok().text == "again"
    assert int(podman("inspect", "--format", "{{.State.Pid}}", "it").ok().text) == pid
    eventually(lambda: len(podman("top", "it", "pid").ok().lines) == 2, "what was executed stays")


def kill_runtime(podman: subprocess.Popen[bytes]) -> bool:
    """Kill the runtime in its exec; False where podman was done before it was seen."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if b"exec" in words and b"--process" in words:
                    os.kill(int(entry.name), signal.SIGKILL)
                    return True
            except (FileNotFoundError, ProcessLookupError):
                continue
        if podman.poll() is not None:
            return False
    raise AssertionError("podman exec neither called the runtime nor ended")


def test_health(podman: Engine) -> None:
    """A health check runs in the container, and its status is the container's health."""
    words = ("--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1")
    start(podman, *words)
    podman("healthcheck", "run", "it").fails(1)
    podman("exec", "it", "touch", "/tmp/well").ok()
    podman("healthcheck", "run", "it").ok()
    assert podman("inspect", "--format", "{{.State.Health.Status}}", "it").ok().text == "healthy"
