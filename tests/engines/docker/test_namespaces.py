# SPDX-License-Identifier: Apache-2.0
"""Names of hosts, processes of others, IPC: which namespaces are one's own and which are shared."""

from __future__ import annotations

import os

from harness.docker import Docker


def namespace(docker: Docker, kind: str, *options: str) -> str:
    return docker("run", "--rm", *options, "busybox", "readlink", f"/proc/self/ns/{kind}").ok().text


def test_hostname(docker: Docker) -> None:
    """--hostname and --domainname; without, the beginning of the id; /etc/hosts has it and --add-host."""
    script = "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; cat /etc/hosts"
    done = docker("run", "--rm", "--hostname", "web1", "--domainname", "example.test", "--add-host", "db:10.9.8.7", "busybox", "sh", "-c", script).ok()
    assert done.lines[0].startswith("web1") and done.lines[1].startswith("web1") and done.lines[2] == "example.test"
    assert any(line.split() == ["10.9.8.7", "db"] for line in done.lines[3:]) and "web1" in "\n".join(done.lines[3:])
    one = docker("create", "--name", "one", "busybox", "hostname").ok().text
    assert docker("start", "--attach", "one").ok().text == one[:12]


def test_uts_host(docker: Docker) -> None:
    """--uts host: the host's name, which the container may not change."""
    assert docker("run", "--rm", "--uts", "host", "busybox", "hostname").ok().text == os.uname().nodename
    assert namespace(docker, "uts", "--uts", "host") == os.readlink("/proc/self/ns/uts") != namespace(docker, "uts")
    docker("run", "--rm", "--uts", "host", "busybox", "hostname", "other").fails(1)


def test_cgroupns(docker: Docker) -> None:
    """--cgroupns private hides where the cgroup lies, host does not."""
    script = "cat /proc/self/cgroup; readlink /proc/self/ns/cgroup"
    private = docker("run", "--rm", "--cgroupns", "private", "busybox", "sh", "-c", script).ok().lines
    assert {line.split(":", 2)[2] for line in private[:-1]} == {"/"} and private[-1] != os.readlink("/proc/self/ns/cgroup")
    shared = docker("run", "--rm", "--cgroupns", "host", "busybox", "sh", "-c", script).ok().lines
    assert any("/docker/" in line for line in shared[:-1]) and shared[-1] == os.readlink("/proc/self/ns/cgroup")


def test_pid_host(docker: Docker) -> None:
    """--pid host: all processes are seen, this one among them."""
    assert namespace(docker, "pid", "--pid", "host") == os.readlink("/proc/self/ns/pid") != namespace(docker, "pid")
    assert docker("run", "--rm", "--pid", "host", "busybox", "ls", f"/proc/{os.getpid()}/status").ok()


def test_pid_container(docker: Docker) -> None:
    """--pid container: sees the processes of another container, and can signal them."""
    docker.up("--name", "one", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    assert "trap" in docker("run", "--rm", "--pid", "container:one", "busybox", "cat", "/proc/1/cmdline").ok().out
    docker("run", "--rm", "--pid", "container:one", "busybox", "kill", "-TERM", "1").ok()
    assert docker("wait", "one").ok().text == "3"


def test_ipc(docker: Docker) -> None:
    """--ipc: one's own, that of another container, that of the host; --shm-size."""
    docker.up("--name", "one", "--ipc", "shareable", "--shm-size", "8m", "busybox", "sh", "-c", "echo words >/dev/shm/f; exec /probe sleep")
    assert docker("run", "--rm", "--ipc", "container:one", "busybox", "sh", "-c", "until cat /dev/shm/f 2>/dev/null | grep w; do sleep 0.05; done").ok().text == "words"
    assert docker("exec", "one", "sh", "-c", "df -k /dev/shm | tail -n 1").ok().text.split()[1] == "8192"
    inside = docker("exec", "one", "readlink", "/proc/self/ns/ipc").ok().text
    assert namespace(docker, "ipc", "--ipc", "container:one") == inside != namespace(docker, "ipc")
    assert namespace(docker, "ipc", "--ipc", "host") == os.readlink("/proc/self/ns/ipc")
    mounts = docker("run", "--rm", "--ipc", "none", "busybox", "cat", "/proc/self/mounts").ok().out
    assert "/dev/shm" not in mounts
