# SPDX-License-Identifier: Apache-2.0
"""podman exec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.dying import MILLISECONDS, DyingRuntime
from harness.engine import Engine, eventually
from harness.podman import background, fields, inside, processes, state


@pytest.mark.core
def test_exec(podman: Engine) -> None:
    """A second command in the same namespaces: streams, status, variables, user, directory, and what fails."""
    background(podman)
    done = podman("exec", "one", "sh", "-c", "echo out; echo err >&2; exit 7").fails(7)
    assert (done.out, done.err.splitlines()[0]) == ("out\n", "err")
    assert podman("exec", "-i", "one", "wc", "-c", stdin="x" * 1000).ok().text == "1000"
    script = 'echo "$A $(id -u):$(id -g) $PWD"'
    words = ("--env", "A=b", "--user", "1000:1001", "--workdir", "/tmp")
    assert podman("exec", *words, "one", "sh", "-c", script).ok().text == "b 1000:1001 /tmp"
    assert inside(podman, "cat", "/proc/1/cmdline") == "sleep\0001000\0"
    podman("exec", "one", "/nonexistent").fails(127, "no such file or directory")
    podman("exec", "one", "nonexistent").fails(127, "not found in $PATH")
    podman("exec", "one", "/etc").fails(126, "permission denied")


def test_exec_detach(podman: Engine) -> None:
    """A command in the background goes on after podman has ended."""
    background(podman)
    podman("exec", "--detach", "one", "sh", "-c", "echo done >/tmp/done; sleep 1000").ok()
    eventually(lambda: podman("exec", "one", "cat", "/tmp/done").out == "done\n")
    assert processes(podman).count("sleep 1000") == 2


@pytest.mark.core
def test_exec_parallel(podman: Engine) -> None:
    """Several at once, each with its own output and status."""
    background(podman)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: podman("exec", "one", "sh", "-c", f"echo {n}; exit {n}"), range(12)))
    assert [(one.text, one.rc) for one in done] == [(str(n), n) for n in range(12)]


def test_exec_privileged(podman: Engine) -> None:
    """--privileged has every capability, and the container not."""
    background(podman)
    plain = fields(inside(podman, "cat", "/proc/self/status"))
    full = fields(podman("exec", "--privileged", "one", "cat", "/proc/self/status").ok().out)
    assert full["CapEff"] == full["CapBnd"] == fields(Path("/proc/self/status").read_text())["CapBnd"]
    assert int(plain["CapEff"], 16) < int(full["CapEff"], 16)


def test_exec_preserve_fds(podman: Engine, scratch: Path) -> None:
    """--preserve-fds hands a descriptor to the command."""
    (scratch / "file").write_text("from outside\n")
    background(podman)
    under = podman.under("sh", "-c", 'exec 3<"$0"; exec "$@"', scratch / "file")
    assert under("exec", "--preserve-fds", "1", "one", "cat", "/proc/self/fd/3").ok().text == "from outside"


def test_runtime_killed_in_exec(podman: Engine, dying: DyingRuntime) -> None:
    """`kill -9` of the runtime at any time in exec: the container runs on, the next exec works, and nothing stays inside."""
    podman("--runtime", "dying", "run", "--detach", "--name", "one", "busybox", "sleep", "1000").ok()
    process = state(podman)["Pid"]
    outcomes = []
    for milliseconds in MILLISECONDS:
        dying.kill_after(milliseconds)
        outcomes.append(podman("exec", "one", "echo", "hello").rc)
        dying.spare()
        assert podman("exec", "one", "echo", "hello").ok().text == "hello"
    assert any(outcomes), outcomes
    assert state(podman)["Status"] == "running"
    assert state(podman)["Pid"] == process
    eventually(lambda: processes(podman) == ["sleep 1000"], "what exec began is still inside")
