# SPDX-License-Identifier: Apache-2.0
"""Namespaces: names, processes, IPC, users."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from harness.engine import Engine, eventually
from harness.podman import background, inside, state


def namespace(podman: Engine, kind: str, name: str = "one") -> str:
    """Return the namespace of a container, as the kernel names it."""
    return os.readlink(f"/proc/{state(podman, name)['Pid']}/ns/{kind}")


def test_hostname(podman: Engine) -> None:
    """The name that the user gives, and a short id without."""
    script = "hostname; echo $(cat /etc/hostname); echo $HOSTNAME"
    assert podman("run", "--rm", "--hostname", "box", "busybox", "sh", "-c", script).ok().lines == ["box"] * 3
    container = background(podman)
    assert inside(podman, "hostname") == container[:12]


def test_uts_host(podman: Engine) -> None:
    """--uts host has the host's name."""
    background(podman, "--uts", "host")
    assert namespace(podman, "uts") == os.readlink("/proc/self/ns/uts")
    assert inside(podman, "hostname") == socket.gethostname()


def test_sysctl(podman: Engine) -> None:
    """A parameter of the container's own namespaces."""
    words = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=79", "--sysctl", "kernel.msgmax=12345")
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"
    assert podman("run", "--rm", *words, "busybox", "sh", "-c", script).ok().lines == ["79", "12345"]
    podman("run", "--rm", "--sysctl", "kernel.pid_max=1000", "busybox", "true").fails(words="kernel.pid_max")


def test_init(podman: Engine) -> None:
    """--init: process 1 passes signals on and waits for who has no parent."""
    background(podman, "--init")
    assert "init" in inside(podman, "cat", "/proc/1/cmdline")
    podman("exec", "one", "sh", "-c", "(sleep 0.01 &)").ok()
    eventually(lambda: podman("top", "one", "stat").ok().out.count("Z") == 0)
    podman("stop", "--time", "60", "one").ok()
    assert state(podman)["ExitCode"] == 143


def test_pid_host(podman: Engine) -> None:
    """--pid host sees the host's processes."""
    background(podman, "--pid", "host")
    assert namespace(podman, "pid") == os.readlink("/proc/self/ns/pid")
    assert inside(podman, "sh", "-c", f"tr '\\0' ' ' </proc/{os.getpid()}/cmdline").startswith(
        Path("/proc/self/cmdline").read_text().replace("\0", " ")[:20].strip()
    )


def test_pid_container(podman: Engine) -> None:
    """One container sees the processes of another."""
    background(podman)
    background(podman, "--pid", "container:one", name="two")
    assert namespace(podman, "pid") == namespace(podman, "pid", "two")
    assert inside(podman, "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline", name="two") == "sleep 1000"
    podman("rm", "--force", "--time", "0", "two").ok()
    assert state(podman)["Status"] == "running"


def test_ipc(podman: Engine) -> None:
    """IPC of its own, of another container, and of the host; with its /dev/shm."""
    background(podman, "--ipc", "shareable")
    inside(podman, "sh", "-c", "echo shared >/dev/shm/file")
    words = ("run", "--rm", "--ipc", "container:one", "busybox", "cat", "/dev/shm/file")
    assert podman(*words).ok().text == "shared"
    background(podman, "--ipc", "private", name="two")
    assert len({namespace(podman, "ipc"), namespace(podman, "ipc", "two"), os.readlink("/proc/self/ns/ipc")}) == 3
    podman("exec", "two", "cat", "/dev/shm/file").fails()
    background(podman, "--ipc", "host", name="three")
    assert namespace(podman, "ipc", "three") == os.readlink("/proc/self/ns/ipc")
    size = podman("run", "--rm", "--shm-size", "3m", "busybox", "df", "-k", "/dev/shm").ok().lines[-1].split()[1]
    assert size == "3072"


def test_userns(podman: Engine) -> None:
    """Root of the container is nobody on the host; automatic and by hand."""
    background(podman, "--uidmap", "0:100000:65536")
    pid = state(podman)["Pid"]
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "100000", "65536"]
    assert os.stat(f"/proc/{pid}").st_uid == 100000
    assert inside(podman, "sh", "-c", "id -u; touch /new; stat -c %u:%g /new /bin/busybox").split() == ["0", "0:0", "0:0"]
    podman("exec", "one", "mknod", "/tmp/null", "c", "1", "3").fails(words="operation not permitted")
    first = podman("run", "--rm", "--userns", "auto", "busybox", "cat", "/proc/self/uid_map").ok().text.split()
    assert first[0] == "0"
    assert 200000 <= int(first[1]) < 855360


def test_userns_user_vol(podman: Engine, scratch: Path) -> None:
    """A user of a user namespace writes a volume that was given to him."""
    os.chown(scratch, 101000, 101000)
    words = ("run", "--rm", "--uidmap", "0:100000:65536", "--user", "1000:1000", "-v", f"{scratch}:/v")
    assert podman(*words, "busybox", "sh", "-c", "touch /v/file; stat -c %u:%g /v/file").ok().text == "1000:1000"
    assert (scratch / "file").stat().st_uid == 101000


def test_userns_container(podman: Engine) -> None:
    """Two containers in one user namespace."""
    background(podman, "--uidmap", "0:100000:65536")
    background(podman, "--userns", "container:one", name="two")
    assert namespace(podman, "user") == namespace(podman, "user", "two")
    assert namespace(podman, "user") != os.readlink("/proc/self/ns/user")
    podman("rm", "--force", "--time", "0", "two").ok()
