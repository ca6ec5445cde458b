# SPDX-License-Identifier: Apache-2.0
"""docker exec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.docker import Docker
from harness.engine import eventually


@pytest.fixture
def one(docker: Docker) -> str:
    """A container that does nothing until it is told to end."""
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    return "one"


@pytest.mark.core
def test_exec(docker: Docker, one: str) -> None:
    """A second process in the container: its streams, its status, its user, its directory and its variables."""
    done = docker("exec", one, "sh", "-c", "echo out; echo err >&2; exit 7").fails(7)
    assert (done.out, done.err) == ("out\n", "err\n")
    assert docker("exec", "-i", one, "cat", stdin="given").ok().out == "given"
    words = ("--user", "1000:1001", "--workdir", "/tmp", "--env", "A=b", "--env", "B=c d")
    assert docker("exec", *words, one, "sh", "-c", "echo $(id -u):$(id -g):$PWD:$A:$B").ok().text == "1000:1001:/tmp:b:c d"
    assert docker("exec", one, "no-such-command").fails(words="not found").rc in (126, 127)
    docker("exec", one, "/etc/passwd").fails(126, "permission denied")
    first, second = (docker("exec", one, "readlink", f"/proc/{pid}/ns/{{pid,mnt,net,ipc,uts}}") for pid in ("1", "self"))
    assert first.out == second.out


def test_exec_detach(docker: Docker, one: str) -> None:
    """-d comes back at once, and the process goes on."""
    assert docker("exec", "-d", one, "sh", "-c", "echo done >/said; exec sleep 1000").ok().out == ""
    eventually(lambda: docker("exec", one, "cat", "/said").text == "done")
    assert "sleep 1000" in docker("top", one).ok().out


def test_exec_parallel(docker: Docker, one: str) -> None:
    """Twenty at the same time: each has its own output and status."""
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: docker("exec", one, "sh", "-c", f"echo {n}; exit {n}"), range(20)))
    assert [(each.text, each.rc) for each in done] == [(str(n), n) for n in range(20)]
    assert docker("top", one).ok().out.count("/probe") == 1


def test_exec_privileged(docker: Docker, one: str) -> None:
    """--privileged gives the process what the container has not got, as far as the machine has it."""
    assert docker("exec", one, "/probe", "report").ok().json["caps"]["effective"] & 1 << 21 == 0
    caps = docker("exec", "--privileged", one, "/probe", "report").ok().json["caps"]
    assert caps["effective"] & 1 << 21, "no CAP_SYS_ADMIN"


def test_exec_after_the_end(docker: Docker, one: str) -> None:
    """There is no exec where nothing runs, nor where all is paused."""
    docker("pause", one).ok()
    docker("exec", one, "true").fails(words="is paused")
    docker("unpause", one).ok()
    docker("kill", one).ok()
    docker("exec", one, "true").fails(words="is not running")
