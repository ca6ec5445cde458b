# SPDX-License-Identifier: Apache-2.0
"""Many containers at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.docker import Docker
from harness.engine import TIMEOUT, Result


def together(docker: Docker, count: int, *options: str, command: str) -> list[Result]:
    """Run *count* containers at once; N in *command* is the number of each."""
    with ThreadPoolExecutor(count) as pool:
        words = ("run", *options, "busybox", "sh", "-c")
        return list(pool.map(lambda n: docker(*words, command.replace("N", str(n)), timeout=5 * TIMEOUT), range(count)))


def test_parallel_20(docker: Docker) -> None:
    """Twenty at once: each has its own output and status, and all can be killed at once."""
    done = together(docker, 20, "--rm", "--network", "none", command="echo N; exit N")
    assert [(each.text, each.rc) for each in done] == [(str(n), n) for n in range(20)]
    done = together(docker, 20, "--detach", "--network", "none", command="exec /probe sleep")
    names = [each.ok().text for each in done]
    assert len(docker("ps", "-q").ok().lines) == 20
    docker("kill", *names).ok()
    assert docker("wait", *names).ok().lines == ["137"] * 20


def test_parallel_bridge(docker: Docker) -> None:
    """Twelve at once on the bridge: each has an address of its own."""
    done = together(docker, 12, "--rm", command="ip -o -4 address show eth0 | sed 's/.*inet //; s/ .*//'")
    assert len({each.ok().text for each in done}) == 12


def test_parallel_short(docker: Docker) -> None:
    """Sixty that end at once, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: docker("run", "--rm", "--network", "none", "busybox", "true"), range(60)))
    assert [each.rc for each in done] == [0] * 60, [each for each in done if each.rc]


def test_parallel_50(docker: Docker) -> None:
    """Fifty at once, all there at the same time, on the bridge: all run, all are removed, nothing is left."""
    done = together(docker, 50, "--detach", command="echo N >/n; exec /probe sleep")
    names = [each.ok().text for each in done]
    assert sorted(docker("ps", "--quiet", "--no-trunc").ok().lines) == sorted(names)
    running = docker("inspect", "--format", "{{.State.Running}}", *names).ok().lines
    assert running == ["true"] * 50
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda name: docker("exec", name, "cat", "/n").ok().text, names))
    assert said == [str(n) for n in range(50)]
    docker("rm", "--force", *names, timeout=5 * TIMEOUT).ok()
    assert docker("ps", "--all", "--quiet").ok().text == ""


@pytest.mark.core
def test_parallel_few(docker: Docker) -> None:
    """Four at once."""
    assert [each.ok().text for each in together(docker, 4, "--rm", command="echo N")] == ["0", "1", "2", "3"]
