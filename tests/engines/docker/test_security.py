# SPDX-License-Identifier: Apache-2.0
"""Users, capabilities, system calls, devices and what of the kernel is hidden."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.docker import Docker

CHOWN, KILL, NET_RAW, SYS_ADMIN, SYS_RESOURCE = 0, 5, 13, 21, 24
DEFAULT = 0xA80425FB  # the fourteen that docker leaves
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys")
FUSE = ("10", "229")


def call(docker: Docker, *words: str, options: tuple[str, ...] = ()) -> dict[str, object]:
    """Make a system call in a container; returns its result and errno."""
    answer: dict[str, object] = docker.probe(*options, verb=("syscall", *words))
    return answer


def test_user(docker: Docker) -> None:
    """--user by name, by number, with groups from the image and from --group-add."""
    report = docker.probe("--user", "user")
    assert report["uids"] == [1000] * 4 and report["gids"] == [1000] * 4 and 1001 in report["groups"]
    report = docker.probe("--user", "4000:4001", "--group-add", "7")
    assert report["uids"] == [4000] * 4 and report["gids"] == [4001] * 4 and set(report["groups"]) - {4001} == {7}
    assert report["caps"]["effective"] == report["caps"]["permitted"] == 0
    docker("run", "--rm", "--user", "nobody-there", "busybox", "true").fails(words="nobody-there")


def test_caps(docker: Docker) -> None:
    """The capabilities are the default's, less what is dropped, more what is added."""
    caps = docker.probe()["caps"]
    assert caps["effective"] == caps["permitted"] == caps["bounding"] == DEFAULT and caps["ambient"] == 0
    caps = docker.probe("--cap-drop", "ALL", "--cap-add", "KILL", "--cap-add", "SYS_ADMIN")["caps"]
    assert caps["effective"] == caps["bounding"] == 1 << KILL | 1 << SYS_ADMIN
    docker("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1000", "/tmp").fails(1, "not permitted")


def test_almost_privileged(docker: Docker) -> None:
    """Everything but the one capability that a machine may lack: all calls, all of /proc, a device, mounts."""
    options = ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device", "/dev/fuse")
    options += ("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined")
    report = docker.probe(*options)
    assert report["seccomp"]["mode"] == 0 and report["caps"]["effective"] & 1 << SYS_ADMIN
    assert not report["caps"]["bounding"] & 1 << SYS_RESOURCE
    script = "mount -t tmpfs x /mnt && echo words >/mnt/f && umount /mnt && test -w /proc/sys/kernel/hostname && wc -c </proc/kallsyms && echo >/dev/fuse; echo done"
    assert docker("run", "--rm", *options, "-v", "/mnt", "busybox", "sh", "-c", script).ok().lines[-1] == "done"


def test_privileged(docker: Docker) -> None:
    """--privileged: all that the machine has, and no error for what it lacks."""
    report = docker.probe("--privileged")
    with open("/proc/self/status") as lines:
        (ours,) = (int(line.split()[1], 16) for line in lines if line.startswith("CapBnd"))
    known = (1 << 38) - 1  # to CAP_AUDIT_READ; of what came later docker 20.10 does not know
    assert report["caps"]["effective"] & known == ours & known and report["seccomp"]["mode"] == 0
    docker("run", "--rm", "--privileged", "busybox", "sh", "-c", "mount -t tmpfs x /tmp && test -e /dev/kmsg").ok()


def test_read_only(docker: Docker) -> None:
    """--read-only: nothing can be written but where something is mounted for it."""
    docker("run", "--rm", "--read-only", "busybox", "touch", "/here").fails(1, "read-only")
    docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", "-v", "/data", "busybox", "touch", "/tmp/a", "/data/b", "/dev/shm/c").ok()


def test_no_new_privs(docker: Docker) -> None:
    """no-new-privileges is set on the container and on exec."""
    assert docker.probe()["no_new_privs"] == 0
    docker.up("--name", "one", "--security-opt", "no-new-privileges", "--user", "1000", "busybox", "/probe", "sleep")
    assert docker("exec", "one", "/probe", "report").ok().json["no_new_privs"] == 1
    assert "NoNewPrivs:\t1" in docker("exec", "one", "cat", "/proc/1/status").ok().out


def test_seccomp_default(docker: Docker) -> None:
    """docker's filter is on: what it forbids fails, though a capability would allow it."""
    assert docker.probe()["seccomp"]["mode"] == 2
    answer = call(docker, "keyctl", "0", "0", "0")
    assert (answer["ret"], answer["errno"]) == (-1, "EPERM")
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    assert docker("exec", "one", "/probe", "syscall", "keyctl", "0", "0", "0").ok().json["errno"] == "EPERM"
    assert call(docker, "getpid")["ret"] == 1


def test_seccomp_profile(docker: Docker, scratch: Path) -> None:
    """A profile of one's own: another errno, by the arguments of the call."""
    rule = {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [{"index": 0, "value": 63, "op": "SCMP_CMP_EQ"}]}
    profile = scratch / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}))
    options = ("--security-opt", f"seccomp={profile}")
    assert call(docker, "umask", "63", options=options)["errno"] == "EADDRNOTAVAIL"
    assert call(docker, "umask", "62", options=options)["ret"] == 0o022


def test_seccomp_unconfined(docker: Docker) -> None:
    """No filter when none is wanted."""
    options = ("--security-opt", "seccomp=unconfined")
    assert docker.probe(*options)["seccomp"]["mode"] == 0
    assert call(docker, "keyctl", "0", "-3", "1", options=options)["ret"] != -1


def test_masked_paths(docker: Docker) -> None:
    """What tells of the host is empty, what changes it is read-only."""
    there = [path for path in MASKED if Path(path).exists()]
    assert len(there) > 2
    script = f'for path in {" ".join(there)}; do [ -d $path ] && ls -A $path || cat $path; done'
    assert docker("run", "--rm", "busybox", "sh", "-c", script).ok().out == ""
    fixed = [path for path in READ_ONLY if Path(path).exists()]
    for path in fixed:
        assert docker.probe(verb=("mount-flags", path))["flags"] & os.ST_RDONLY, path
    docker("run", "--rm", "busybox", "sh", "-c", "echo x >/proc/sys/kernel/hostname").fails(words="read-only")


def test_device(docker: Docker) -> None:
    """--device: there with its name and its rights; what is not given cannot be opened."""
    rights = docker("run", "--rm", "--device", "/dev/fuse:/dev/given:r", "busybox", "/probe", "seq", "open", "/dev/given", "rdonly", "--", "open", "/dev/given", "rdwr").ok()
    assert [json.loads(line).get("errno") for line in rights.lines] == [None, "EPERM"]
    script = f"mknod /tmp/made c {' '.join(FUSE)} && exec /probe open /tmp/made rdonly"
    assert docker("run", "--rm", "busybox", "sh", "-c", script).ok().json["errno"] == "EPERM"
    docker("run", "--rm", "--device", "/dev/no-such", "busybox", "true").fails(words="/dev/no-such")


def test_device_cgroup_rule(docker: Docker) -> None:
    """--device-cgroup-rule opens what is made inside."""
    script = f"mknod /tmp/made c {' '.join(FUSE)} && exec /probe open /tmp/made rdonly"
    done = docker("run", "--rm", "--device-cgroup-rule", f"c {FUSE[0]}:{FUSE[1]} rwm", "busybox", "sh", "-c", script).ok()
    assert done.json["ret"] == 0


def test_default_devices(docker: Docker) -> None:
    """The devices and links that every container has, and they work."""
    names = docker("run", "--rm", "busybox", "ls", "/dev").ok().out.split()
    wanted = {"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
    assert set(names) - {"core"} == wanted  # where the kernel has /proc/kcore
    script = "echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x >/dev/full || echo full; readlink /dev/fd"
    assert docker("run", "--rm", "busybox", "sh", "-c", script).ok().out.split() == ["4", "4", "full", "/proc/self/fd"]
    assert docker("run", "--rm", "busybox", "stat", "-c", "%a %t:%T", "/dev/null", "/dev/tty").ok().lines == ["666 1:3", "666 5:0"]


def test_sysctl(docker: Docker) -> None:
    """--sysctl sets what belongs to the container, and only that."""
    options = ("--sysctl", "net.ipv4.ip_default_ttl=42", "--sysctl", "kernel.msgmax=12345")
    done = docker("run", "--rm", *options, "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/msgmax").ok()
    assert done.out.split() == ["42", "12345"]
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text().strip() != "42"
    docker("run", "--rm", "--sysctl", "vm.swappiness=1", "busybox", "true").fails()
