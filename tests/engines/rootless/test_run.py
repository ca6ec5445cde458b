# SPDX-License-Identifier: Apache-2.0
"""podman run of an ordinary user: what is printed, read, returned and kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.engine import Engine, eventually
from harness.user import User

RUN = ("run", "--rm", "--network", "none", "busybox")


def test_info(podman: Engine, runtime_name: str, runtime_path: str) -> None:
    """podman knows the runtime that it calls, its version, and that it is nobody's root."""
    host = podman("info", "--format", "json").ok().json["host"]
    assert host["security"]["rootless"] is True
    assert (host["ociRuntime"]["name"], host["ociRuntime"]["path"]) == (runtime_name, runtime_path)
    assert f"{runtime_name} version" in host["ociRuntime"]["version"]


@pytest.mark.core
def test_hello(podman: Engine) -> None:
    """A container prints, on both streams, and nothing else is said."""
    done = podman("run", "--rm", "busybox", "sh", "-c", "echo hello; echo trouble >&2").ok()
    assert (done.text, done.err) == ("hello", "trouble\n")


@pytest.mark.core
def test_exit_codes(podman: Engine) -> None:
    """The status is the program's; 127 where there is none, 126 where it cannot be executed, 128 + n after a signal."""
    podman(*RUN, "sh", "-c", "exit 42").fails(42)
    podman(*RUN, "nosuch").fails(127, "nosuch")
    podman(*RUN, "/etc/passwd").fails(126, "permission denied")
    podman("run", "--rm", "--network", "none", "--init", "busybox", "sh", "-c", "kill -9 $$").fails(137)


def test_stdin(podman: Engine) -> None:
    """What is written to podman is read in the container, to its end and in full."""
    text = "line\n" * 100_000
    assert podman("run", "--rm", "-i", "--network", "none", "busybox", "wc", "-l", stdin=text).ok().text == "100000"


@pytest.mark.core
def test_detach_logs(podman: Engine) -> None:
    """A container runs on without podman; its output is in the log and its status is kept."""
    podman("run", "-d", "--name", "it", "--network", "none", "busybox", "sh", "-c", "echo one; echo two >&2; exit 3").ok()
    assert podman("wait", "it").ok().text == "3"
    logs = podman("logs", "it").ok()
    assert (logs.text, logs.err.strip()) == ("one", "two")


def test_init(podman: Engine) -> None:
    """--init puts a small init before the program, and it reaps what nobody waits for."""
    words = ("run", "-d", "--init", "--name", "it", "--network", "none", "busybox")
    podman(*words, "sh", "-c", "(sleep 0 &); exec sleep 1000").ok()
    assert "init" in podman("exec", "it", "cat", "/proc/1/cmdline").ok().text
    states = "for each in /proc/[0-9]*; do cut -d' ' -f3 $each/stat; done"
    eventually(lambda: "Z" not in podman("exec", "it", "sh", "-c", states).ok().lines, "a zombie stays")


def test_words_come_through(podman: Engine) -> None:
    """A long command line, an environment and a working directory come through unchanged."""
    words = ("run", "--rm", "--network", "none", "-w", "/tmp", "-e", "A=b c\n", "-e", "EMPTY=", "busybox")
    done = podman(*words, "sh", "-c", 'pwd; printf "<%s>" "$A" "$EMPTY" "$@"', "sh", "", " x ", "ö" * 3000).ok()
    assert done.out == "/tmp\n<b c\n><>" + "<>< x ><" + "ö" * 3000 + ">"


@pytest.mark.core
def test_parallel_10(podman: Engine, user: User) -> None:
    """Ten containers at once: each prints its own, and all are gone."""

    def run(number: int) -> str:
        return podman(*RUN, "sh", "-c", f"echo {number}; exit {number}").fails(number).text

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(run, range(1, 11))) == [str(number) for number in range(1, 11)]
    assert podman("ps", "--all", "--quiet").ok().out == ""
