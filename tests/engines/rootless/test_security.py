# SPDX-License-Identifier: Apache-2.0
"""What confines a user's containers, and what they may within their user namespace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness.engine import Engine

RUN = ("run", "--rm", "--network", "none")
CHOWN, NET_RAW, SYS_ADMIN = 1 << 0, 1 << 13, 1 << 21


def capabilities(podman: Engine, *words: str) -> int:
    """The effective capabilities of a container's program."""
    return int(podman(*RUN, *words, "busybox", "grep", "CapEff", "/proc/self/status").ok().text.split()[1], 16)


@pytest.mark.core
def test_caps(podman: Engine) -> None:
    """podman's default set, all dropped, one added; and they act: one may not chown without it."""
    assert capabilities(podman) & (CHOWN | SYS_ADMIN) == CHOWN
    assert capabilities(podman, "--cap-drop", "all", "--cap-add", "net_raw") == NET_RAW
    script = "touch /tmp/a; chown 5 /tmp/a"
    podman(*RUN, "busybox", "sh", "-c", script).ok()
    podman(*RUN, "--cap-drop", "chown", "busybox", "sh", "-c", script).fails(words="not permitted")
    again = podman("run", "--rm", "--network", "none", "-u", "user", "--cap-add", "chown", "busybox", "grep", "^Cap[EA]", "/proc/self/status")
    assert "CapEff:\t0000000000000001" in again.ok().lines


def test_privileged(podman: Engine) -> None:
    """Everything within the user namespace, nothing outside: mounts are made, device nodes are not."""
    script = "mount -t tmpfs none /tmp && mount -o remount,ro /tmp && grep ' /tmp ' /proc/mounts; mknod /dev/x b 7 0 || echo refused"
    done = podman(*RUN, "--privileged", "busybox", "sh", "-c", script).ok()
    assert done.lines[0].split()[:3] == ["none", "/tmp", "tmpfs"] and done.lines[1] == "refused"
    assert capabilities(podman, "--privileged") & SYS_ADMIN
    podman(*RUN, "--privileged", "busybox", "sh", "-c", "echo 1 >/proc/sys/kernel/panic").fails()


def test_read_only_tmpfs(podman: Engine) -> None:
    """The root cannot be written; a tmpfs can, with the size and the options asked for."""
    words = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/scratch:size=1m,mode=1777,noexec")
    script = "touch /x || echo refused; touch /scratch/x && stat -c %a /scratch; df -k /scratch | tail -n 1; grep ' /scratch ' /proc/mounts"
    done = podman(*RUN, *words, "busybox", "sh", "-c", script).ok().lines
    assert done[:2] == ["refused", "1777"], done
    assert done[2].split()[1] == "1024"
    assert "noexec" in done[3]
    podman(*RUN, "--read-only", "busybox", "touch", "/tmp/x").ok()  # podman puts a tmpfs there


def test_device(podman: Engine) -> None:
    """A device of the host that its user may open, by another name; one that is not there is refused."""
    words = ("--device", "/dev/zero:/dev/nought")
    assert podman(*RUN, *words, "busybox", "sh", "-c", "head -c 3 /dev/nought | od -An -tx1").ok().text == "00 00 00"
    podman(*RUN, "--device", "/dev/nosuch", "busybox", "true").fails(words="nosuch")
    names = podman(*RUN, "busybox", "sh", "-c", "for each in null zero full random urandom tty; do [ -c /dev/$each ] && echo $each; done").ok()
    assert names.lines == ["null", "zero", "full", "random", "urandom", "tty"]
    podman(*RUN, "busybox", "sh", "-c", "echo x >/dev/null; ! echo x >/dev/full; [ -w /dev/ptmx ]").ok()


def test_sysctl_hostname(podman: Engine) -> None:
    """Parameters of the container's own namespaces, and its host name; none of the host's."""
    words = ("--hostname", "box", "--sysctl", "net.ipv4.ip_default_ttl=77")
    script = "hostname; cat /proc/sys/net/ipv4/ip_default_ttl"
    assert podman(*RUN, *words, "busybox", "sh", "-c", script).ok().lines == ["box", "77"]
    podman(*RUN, "--sysctl", "kernel.panic=1", "busybox", "true").fails()
    podman(*RUN, "--sysctl", "net.ipv4.nosuch=1", "busybox", "true").fails(words="nosuch")


@pytest.mark.core
def test_seccomp(podman: Engine, scratch: Path) -> None:
    """podman's profile by default, one of the user's, and none."""

    def mode(*words: str) -> str:
        return podman(*RUN, *words, "busybox", "grep", "^Seccomp:", "/proc/self/status").ok().text.split()[1]

    assert mode() == "2"
    assert mode("--security-opt", "seccomp=unconfined") == "0"
    profile = scratch / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    words = ("--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/tmp/x")
    podman(*RUN, *words).fails(1, "assign")  # EADDRNOTAVAIL
    assert mode("--security-opt", f"seccomp={profile}") == "2"


def test_no_new_privs(podman: Engine) -> None:
    """no_new_privs is off unless it is asked for."""
    script = ("busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert podman(*RUN, *script).ok().text.split()[1] == "0"
    assert podman(*RUN, "--security-opt", "no-new-privileges", *script).ok().text.split()[1] == "1"


def test_masked_paths(podman: Engine) -> None:
    """What tells of the host is empty, and what would change it cannot be written."""
    script = "wc -c </proc/timer_list; ls /proc/acpi /sys/firmware | grep -c '^[^/]'; echo 1 >/proc/sys/net/ipv4/ip_forward || echo refused"
    assert podman(*RUN, "busybox", "sh", "-c", script).ok().lines == ["0", "0", "refused"]
