# SPDX-License-Identifier: Apache-2.0
"""What a user without a cgroup can limit, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.engine import Engine
from harness.leftovers import look

RUN = ("run", "--rm", "--network", "none")


def test_no_cgroup(podman: Engine) -> None:
    """The container is in its user's cgroups, also when none is asked for and when exec comes to it: none is made."""
    before = look()["cgroup"]
    for words in ((), ("--cgroupns", "private")):
        podman("run", "-d", "--name", "it", "--network", "none", *words, "busybox", "sleep", "1000").ok()
        pid = podman("inspect", "--format", "{{.State.Pid}}", "it").ok().text
        assert Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
        theirs = podman("exec", "it", "cat", "/proc/1/cgroup").ok().out
        assert podman("exec", "it", "cat", "/proc/self/cgroup").ok().out == theirs
        assert look()["cgroup"] == before
        podman("rm", "--force", "--time", "0", "it").ok()


def test_limits_refused(podman: Engine) -> None:
    """Limits are ignored with a warning by podman; a cgroup that the user may not make is an error, and nothing stays."""
    done = podman(*RUN, "--memory", "64m", "--pids-limit", "10", "busybox", "echo", "ran").ok()
    assert done.text == "ran"
    assert "ignored" in done.err
    podman(*RUN, "--cgroup-parent", "/nobodys", "busybox", "true").fails()
    podman("run", "-d", "--name", "it", "--network", "none", "busybox", "sleep", "1000").ok()
    podman("pause", "it").fails(words="cgroup")
    podman("update", "--memory", "64m", "it").fails()
    assert podman("exec", "it", "echo", "still").ok().text == "still"


@pytest.mark.core
def test_ulimit(podman: Engine) -> None:
    """Resource limits are those asked for; what exceeds the user's own is refused."""
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    words = ("--ulimit", "nofile=77:99", "--ulimit", "core=0:0")
    assert podman(*RUN, *words, "busybox", "sh", "-c", script).ok().lines == ["77", "99", "0"]
    podman(*RUN, "--ulimit", "nofile=2000000:2000000", "busybox", "true").fails()


def test_top(podman: Engine) -> None:
    """podman top lists the container's processes with the users of both sides."""
    podman("run", "-d", "--name", "it", "--network", "none", "-u", "user", "busybox", "sleep", "1000").ok()
    lines = podman("top", "it", "pid", "user", "huser", "args").ok().lines
    assert [line.split() for line in lines[1:]] == [["1", "user", "100999", "sleep", "1000"]]
    assert podman("ps", "--format", "{{.Names}} {{.State}}").ok().text.startswith("it Up")


def test_oom_score_adj(podman: Engine) -> None:
    """A process may be made a likelier victim; a user may not protect one."""
    assert podman(*RUN, "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj").ok().text == "500"
