# SPDX-License-Identifier: Apache-2.0
"""The daemon, the shim and the runtime: how they are set up, and what becomes of containers when one of them dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.docker import INTERRUPT, RUNTIME, Daemon, Docker, load
from harness.engine import eventually
from harness.leftovers import assert_none_since, look

Another = Callable[..., Daemon]


@pytest.fixture
def another(docker: Docker, runtime_path: str, images: Path, data: Path) -> Iterator[Another]:
    """Make a second daemon, with settings of its own, without a bridge; all that it made is gone afterwards."""
    made: list[Daemon] = []

    def make(**settings: Any) -> Daemon:
        daemon = Daemon(data / "another", Path("/run/another"), runtime_path, ("unshare", "--net"), bridge="none", iptables=False, **settings)
        made.append(daemon)
        daemon.start()
        load(daemon.docker, images, ["busybox"])
        return daemon

    before = look()
    yield make
    for daemon in made:
        if not daemon.process:
            daemon.start()
        daemon.docker.clear()
        daemon.end()
    assert_none_since(before, "/run/another/netns/default")


def shim_of(container: str) -> int:
    """Return the process that looks after a container."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"containerd-shim" in words and container.encode() in words:
                return int(entry.name)
    raise AssertionError(f"no shim of {container}")


def test_runtime_args(docker: Docker) -> None:
    """A runtime can be set up with arguments of its own."""
    done = docker("run", "--rm", "--runtime", "withargs", "busybox", "sh", "-c", "echo out; exit 3")
    assert (done.text, done.rc) == ("out", 3)


def test_userns_remap(another: Another) -> None:
    """userns-remap: root in the container is nobody outside, and all the rest works."""
    for name in ("subuid", "subgid"):
        Path("/etc", name).write_text("remapped:200000:65536\n")
    for name in ("passwd", "group"):
        with open(f"/etc/{name}", "a") as lines:
            lines.write("remapped:x:4999:4999::/:/bin/false\n" if name == "passwd" else "remapped:x:4999:\n")
    docker = another(**{"userns-remap": "remapped"}).docker
    report = docker.probe("--network", "none")
    assert report["uid_map"].split() == ["0", "200000", "65536"] and report["uids"] == [0] * 4
    docker.up("--name", "one", "--network", "none", "--memory", "64m", "busybox", "/probe", "sleep")
    assert os.stat(f"/proc/{docker.pid('one')}").st_uid == 200000
    assert docker("exec", "one", "sh", "-c", "echo x >/f; stat -c %u /f").ok().text == "0"
    assert docker.probe("--network", "none", "--userns", "host")["uid_map"].split() != report["uid_map"].split()
    docker("stop", "--time", "0", "one").ok()


def test_dockerd_killed_live_restore(another: Another) -> None:
    """The daemon is killed, the containers go on, and the next daemon has them."""
    daemon = another(**{"live-restore": True})
    docker = daemon.docker
    docker.up("--name", "one", "--network", "none", "busybox", "/probe", "sleep")
    docker.up("--name", "ends", "--network", "none", "busybox", "sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.05; done")
    pid, ends = docker.pid("one"), docker.pid("ends")
    daemon.end(signal.SIGKILL)
    os.kill(pid, 0)
    os.kill(ends, signal.SIGUSR1)
    daemon.start()
    assert docker.pid("one") == pid
    assert docker("exec", "one", "echo", "words").ok().text == "words"
    eventually(lambda: docker.look("ends", "{{.State.Status}} {{.State.ExitCode}}") == "exited 5")
    docker("stop", "--time", "0", "one").ok()
    docker("start", "one").ok()
    assert docker.pid("one") != pid


def test_dockerd_stop_stops(another: Another) -> None:
    """A daemon that is told to end stops its containers; the next one starts those that are to be always there."""
    daemon = another()
    docker = daemon.docker
    script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    docker.up("--name", "one", "--network", "none", "busybox", "sh", "-c", script)
    docker.up("--name", "always", "--network", "none", "--restart", "always", "busybox", "sh", "-c", script)
    for name in ("one", "always"):
        eventually(lambda name=name: "ready" in docker("logs", name).out)
    pids = docker.pid("one"), docker.pid("always")
    daemon.end()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    daemon.start()
    assert docker.look("one", "{{.State.Status}} {{.State.ExitCode}}") == "exited 6"
    eventually(lambda: docker.look("always", "{{.State.Running}}") == "true")


def test_shim_killed(docker: Docker) -> None:
    """The shim is killed: the container is killed with it, docker knows, and it can be started and removed."""
    one = docker.up("--name", "one", "busybox", "sh", "-c", "sleep 998877 & exec /probe sleep")
    pid = docker.pid("one")
    os.kill(shim_of(one), signal.SIGKILL)
    eventually(lambda: docker.look("one", "{{.State.Running}}") == "false", "docker does not know")
    assert docker.look("one", "{{.State.ExitCode}}") == "137"
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the container goes on")
    docker("start", "one").ok()
    assert docker("exec", "one", "echo", "words").ok().text == "words"


def test_runtime_killed_in_exec(docker: Docker) -> None:
    """The runtime is killed while it makes an exec, sooner or later: the container and its daemon do not mind."""
    docker.up("--name", "one", "--runtime", "interrupted", "busybox", "/probe", "sleep")
    try:
        for milliseconds in (0, 5, 10, 20, 30, 40, 60, 80, 120, 200):
            INTERRUPT.write_text(f"{milliseconds / 1000}")
            done = docker("exec", "one", "echo", "words")
            assert done.text == "words" if done.rc == 0 else done.rc in (126, 137), done
    finally:
        INTERRUPT.unlink()
    assert docker("exec", "one", "echo", "words").ok().text == "words"
    assert docker.look("one", "{{.State.Running}}") == "true"
    eventually(lambda: "echo words" not in docker("top", "one").ok().out)
    docker("pause", "one").ok()
    docker("unpause", "one").ok()
    docker("stop", "--time", "0", "one").ok()
    docker("start", "one").ok()
    assert RUNTIME in docker("info").ok().out
