# SPDX-License-Identifier: Apache-2.0
"""The life of a task: start, signals, pause, removal, checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.containerd import IMAGE, RUNC_V2, Ctr
from harness.engine import eventually
from harness.processes import running


def test_detach(ctr: Ctr) -> None:
    """A detached container runs on, and ends by itself."""
    ctr.start(IMAGE, "detached", "sh", "-c", "until [ -e /end ]; do sleep 0.05; done; exit 3")
    assert ctr.status("detached") == "RUNNING"
    ctr.exec("detached", "touch", "/end").ok()
    ctr.ends("detached", 3)
    assert ctr("container", "ls", "--quiet").ok().text == "detached"


def test_create_start(ctr: Ctr) -> None:
    """A container is made first and its task is started later, twice."""
    ctr("container", "create", "--runtime", RUNC_V2, IMAGE, "later", "ls", "/probe", "/missing").ok()
    assert ctr.status("later") == ""
    for _ in range(2):
        assert ctr("task", "start", "later").fails(1).text == "/probe"
    assert ctr.status("later") == ""


@pytest.mark.core
def test_kill_codes(ctr: Ctr) -> None:
    """A signal ends a task with 128 and its number; one that is caught, with what the process says."""
    script = "sleep 1000 & trap 'exit 21' TERM; trap 'exit 22' USR1; echo ready; wait"
    for signal, status in (("SIGKILL", 137), ("SIGUSR1", 22), ("15", 21)):
        name = f"kill-{signal}"
        with ctr.talk("--rm", IMAGE, name, "sh", "-c", script) as task:
            task.expect("ready\n")
            ctr("task", "kill", "--signal", signal, name).ok()
            assert task.wait() == status
    ctr("task", "kill", "no-such-task").fails(words="not found")


def test_kill_all(ctr: Ctr) -> None:
    """`kill --all` ends every process, also where the container has the host's PID namespace."""
    words = ("--with-ns", "pid:/proc/1/ns/pid")
    ctr.start(*words, IMAGE, "all", "sh", "-c", "for i in 1 2 3 4; do setsid sleep 4242 & done; wait")
    eventually(lambda: len(running("sleep", "4242")) == 4)
    ctr("task", "kill", "--all", "--signal", "SIGKILL", "all").ok()
    eventually(lambda: not running("sleep", "4242"))
    ctr.ends("all", 137)


def test_rm_force_running(ctr: Ctr) -> None:
    """A running task is not removed unless it is forced, and then nothing of it runs on."""
    ctr.start(IMAGE, "running", "sh", "-c", "sleep 4243 & sleep 4243")
    ctr("task", "rm", "running").fails(words="must be stopped before deletion")
    ctr("container", "rm", "running").fails()
    ctr("task", "rm", "--force", "running").ok()
    assert not running("sleep", "4243")
    ctr("container", "rm", "running").ok()


def test_pause(ctr: Ctr) -> None:
    """A paused task stands still and goes on; it can be removed while it is paused."""
    ctr.start(IMAGE, "paused", "sh", "-c", "while :; do echo >>/ticks; sleep 0.01; done")
    pid = ctr.pid("paused")
    size = lambda: os.stat(f"/proc/{pid}/root/ticks").st_size  # noqa: E731
    eventually(lambda: os.path.exists(f"/proc/{pid}/root/ticks"))
    ctr("task", "pause", "paused").ok()
    assert ctr.status("paused") == "PAUSED"
    before = size()
    assert size() == before
    ctr("task", "exec", "--exec-id", "no", "paused", "true").fails()
    ctr("task", "resume", "paused").ok()
    assert ctr.status("paused") == "RUNNING"
    eventually(lambda: size() > before)
    ctr("task", "pause", "paused").ok()
    ctr("task", "rm", "--force", "paused")
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_pid_file(ctr: Ctr, scratch: Path) -> None:
    """The file has the number that the list has, and it is the container's first process."""
    ctr.start("--pid-file", scratch / "pid", IMAGE, "pidfile", "sleep", "4244")
    pid = int((scratch / "pid").read_text())
    assert pid == ctr.pid("pidfile")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x004244\0"
    status = Path(f"/proc/{pid}/status").read_text()
    assert next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == "1"


def test_annotation(ctr: Ctr, runtime_path: str) -> None:
    """An annotation reaches the runtime, which tells it with the state."""
    ctr.start("--annotation", "org.example.key=some value", IMAGE, "noted", "sleep", "1000")
    state = ctr.state(runtime_path, "noted")
    assert state["annotations"]["org.example.key"] == "some value"
    assert state["status"] == "running"
    assert state["pid"] == ctr.pid("noted")


def test_runc_root(ctr: Ctr, runtime_path: str) -> None:
    """The runtime keeps its state where it is told to, and leaves nothing there."""
    root = Path("/run/other-root")
    ctr.start("--runc-root", root, IMAGE, "elsewhere", "sleep", "1000")
    assert (root / "default/elsewhere").is_dir()
    assert ctr.state(runtime_path, "elsewhere", root)["status"] == "running"
    ctr("task", "rm", "--force", "elsewhere")
    ctr("container", "rm", "elsewhere").ok()
    assert not (root / "default/elsewhere").exists()


def test_shim_v1(ctr: Ctr) -> None:
    """The older shim calls the runtime as well."""
    words = ("run", "--runtime", "io.containerd.runc.v1")
    assert ctr(*words, "--rm", IMAGE, "v1", "sh", "-c", "echo old; exit 2").fails(2).text == "old"
    ctr(*words, "--detach", IMAGE, "v1-runs", "sleep", "1000").ok()
    assert ctr.exec("v1-runs", "echo", "inside").ok().text == "inside"
    ctr("task", "kill", "--signal", "SIGKILL", "v1-runs").ok()
    ctr.ends("v1-runs", 137)


TICKS = "i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.05; done"


def test_checkpoint_leave_running(ctr: Ctr, scratch: Path) -> None:
    """A checkpoint is written and the task runs on."""
    ctr.start("--null-io", IMAGE, "checkpointed", "sh", "-c", TICKS)
    ctr("task", "checkpoint", "--image-path", scratch / "image", "--work-path", scratch, "checkpointed").ok()
    assert list((scratch / "image").glob("core-*.img"))
    assert ctr.status("checkpointed") == "RUNNING"


def test_checkpoint_restore(ctr: Ctr) -> None:
    """A task goes on from its checkpoint in a new container."""
    ctr.start("--null-io", IMAGE, "before", "sh", "-c", TICKS)
    count = lambda name: int(ctr.exec(name, "cat", "/count").out or 0)  # noqa: E731
    eventually(lambda: count("before") > 5)
    ctr("container", "checkpoint", "--task", "--rw", "--image", "before", "tests/checkpoint").ok()
    at = count("before")
    ctr("task", "rm", "--force", "before")
    ctr("container", "rm", "before").ok()
    try:
        ctr("container", "restore", "--live", "--rw", "after", "tests/checkpoint").ok()
        assert count("after") >= at - 5
        now = count("after")
        eventually(lambda: count("after") > now)
    finally:
        ctr("image", "rm", "tests/checkpoint")
