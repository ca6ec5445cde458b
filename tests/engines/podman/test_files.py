# SPDX-License-Identifier: Apache-2.0
"""Volumes, mounts and devices."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from harness.engine import Engine, eventually
from harness.podman import background, inside, state


def mount_options(podman: Engine, where: str, *words: str | Path) -> set[str]:
    """Return the options of the mount at *where* in a container with these options."""
    done = podman("run", "--rm", *words, "busybox", "cat", "/proc/self/mountinfo").ok()
    found = [line.split() for line in done.lines]
    return {option for line in found if line[4] == where for option in (*line[5].split(","), *line[-1].split(","))}


def test_tmpfs(podman: Engine) -> None:
    """A file system in memory, with its options; what the image has there is copied into it."""
    options = mount_options(podman, "/mem", "--tmpfs", "/mem:size=8m,mode=1700,noexec")
    assert {"size=8192k", "mode=1700", "noexec", "nosuid", "nodev"} <= options
    podman("run", "--rm", "--tmpfs", "/mem:size=1m", "busybox", "dd", "if=/dev/zero", "of=/mem/x", "bs=1M", "count=2").fails(
        words="no space left"
    )
    assert "passwd" in podman("run", "--rm", "--tmpfs", "/etc", "busybox", "ls", "/etc").ok().out.split()


def test_volume_rw_ro(podman: Engine, scratch: Path) -> None:
    """A directory and a file of the host, writable and not."""
    (scratch / "file").write_text("one\n")
    podman("run", "--rm", "-v", f"{scratch}:/v", "busybox", "sh", "-c", "cat /v/file; echo two >/v/new").ok()
    assert (scratch / "new").read_text() == "two\n"
    podman("run", "--rm", "-v", f"{scratch}:/v:ro", "busybox", "touch", "/v/more").fails(words="read-only file system")
    done = podman("run", "--rm", "-v", f"{scratch}/file:/etc/one:ro", "busybox", "sh", "-c", "cat /etc/one; echo x >/etc/one")
    assert done.fails(words="read-only file system").out == "one\n"


def test_volume_submount(podman: Engine, scratch: Path) -> None:
    """What is mounted below a volume is there, and read-only with it."""
    below = scratch / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", below], check=True)
    try:
        (below / "file").write_text("deep\n")
        assert podman("run", "--rm", "-v", f"{scratch}:/v", "busybox", "cat", "/v/below/file").ok().text == "deep"
        assert mount_options(podman, "/v/below", "-v", f"{scratch}:/v") >= {"rw"}
        only = podman("run", "--rm", "-v", f"{scratch}:/v:bind", "busybox", "ls", "/v/below").ok()
        assert only.out == ""
    finally:
        subprocess.run(["umount", below], check=True)


def test_volume_propagation(podman: Engine, scratch: Path) -> None:
    """What the host mounts later is seen with rslave, and what the container mounts with rshared; neither with rprivate."""
    subprocess.run(["mount", "-t", "tmpfs", "top", scratch], check=True)
    subprocess.run(["mount", "--make-rshared", scratch], check=True)
    try:
        for name in ("slave", "private"):
            (scratch / name).mkdir()
        background(podman, "-v", f"{scratch}:/v:rslave", name="slave")
        background(podman, "-v", f"{scratch}:/v:rprivate", name="private")
        background(podman, "-v", f"{scratch}:/v:rshared", "--privileged", name="shared")
        subprocess.run(["mount", "-t", "tmpfs", "later", scratch / "slave"], check=True)
        (scratch / "slave/file").touch()
        assert inside(podman, "ls", "/v/slave", name="slave") == "file"
        assert inside(podman, "ls", "/v/slave", name="private") == ""
        podman("exec", "shared", "mount", "-t", "tmpfs", "inside", "/v/private").ok()
        assert os.path.ismount(scratch / "private")
    finally:
        podman("rm", "--all", "--force", "--time", "0")
        subprocess.run(["umount", "--recursive", "--lazy", scratch], check=True)


def test_volume_named(podman: Engine) -> None:
    """A named volume has what the image has at its place, and outlives its container."""
    podman("volume", "create", "data").ok()
    podman("run", "--rm", "-v", "data:/etc", "busybox", "sh", "-c", "grep -q user /etc/passwd && echo kept >/etc/new").ok()
    assert podman("run", "--rm", "-v", "data:/v", "busybox", "cat", "/v/new").ok().text == "kept"
    podman("volume", "rm", "data").ok()


def test_volume_opts(podman: Engine, scratch: Path) -> None:
    """Options of a volume reach its mount."""
    options = mount_options(podman, "/v", "-v", f"{scratch}:/v:ro,noexec,nosuid,nodev")
    assert {"ro", "noexec", "nosuid", "nodev"} <= options
    plain = mount_options(podman, "/v", "-v", f"{scratch}:/v:exec,suid,dev")
    assert plain & {"ro", "noexec", "nosuid", "nodev"} == set()
    podman("run", "--rm", "-v", f"{scratch}:/v:U", "--user", "1000", "busybox", "touch", "/v/mine").ok()
    assert (scratch / "mine").stat().st_uid == 1000


def test_volume_overlay(podman: Engine, scratch: Path) -> None:
    """With :O the container writes, and the host's directory stays as it was."""
    (scratch / "file").write_text("below\n")
    script = "cat /v/file; echo above >/v/file; cat /v/file"
    assert podman("run", "--rm", "-v", f"{scratch}:/v:O", "busybox", "sh", "-c", script).ok().lines == ["below", "above"]
    assert (scratch / "file").read_text() == "below\n"


def test_idmapped_mount(podman: Engine, scratch: Path) -> None:
    """With :idmap the owners of a volume are what they are on the host, in a container with other numbers."""
    (scratch / "file").touch()
    os.chown(scratch / "file", 5, 6)
    os.chown(scratch, 0, 0)
    words = ("run", "--rm", "--uidmap", "0:100000:65536", "-v", f"{scratch}:/v:idmap")
    assert podman(*words, "busybox", "sh", "-c", "stat -c %u:%g /v/file; touch /v/new").ok().text == "5:6"
    assert (scratch / "new").stat().st_uid == 0


def test_mount_image_secret(podman: Engine, scratch: Path) -> None:
    """An image as a volume, and a secret."""
    mount = "type=image,source=busybox,destination=/image"
    assert podman("run", "--rm", "--mount", mount, "busybox", "ls", "/image/probe").ok().text == "/image/probe"
    (scratch / "secret").write_text("hush\n")
    podman("secret", "create", "password", scratch / "secret").ok()
    try:
        script = "cat /run/secrets/password; stat -c %a /run/secrets/password"
        assert podman("run", "--rm", "--secret", "password", "busybox", "sh", "-c", script).ok().lines == ["hush", "444"]
        podman("run", "--detach", "--name", "one", "--secret", "password,type=env,target=PW", "busybox", "sleep", "1000").ok()
        assert inside(podman, "sh", "-c", "echo $PW") == "hush"
    finally:
        podman("secret", "rm", "password").ok()


def test_device(podman: Engine) -> None:
    """A device of the host under another name, usable as it was given, and no other."""
    open_it = "exec 3<>/dev/mine && echo opened"
    done = podman("run", "--rm", "--device", "/dev/fuse:/dev/mine", "busybox", "sh", "-c", f"stat -c %t:%T /dev/mine; {open_it}").ok()
    assert done.lines == ["a:e5", "opened"]
    only = podman("run", "--rm", "--device", "/dev/fuse:/dev/mine:r", "busybox", "sh", "-c", open_it)
    only.fails(words="operation not permitted")
    make = "mknod /dev/other c 10 229 && exec 3<>/dev/other"
    podman("run", "--rm", "--cap-add", "MKNOD", "busybox", "sh", "-c", make).fails(words="operation not permitted")


def test_device_cgroup_rule(podman: Engine) -> None:
    """A device that the container makes itself can be opened when a rule says so."""
    make = "mknod /dev/other c 10 229 && exec 3<>/dev/other && echo opened"
    words = ("run", "--rm", "--cap-add", "MKNOD", "--device-cgroup-rule", "c 10:229 rwm")
    assert podman(*words, "busybox", "sh", "-c", make).ok().text == "opened"


def test_default_devices(podman: Engine) -> None:
    """The devices that every container has work."""
    script = """
        for name in null zero full random urandom tty; do test -c /dev/$name || echo no $name; done
        for name in ptmx fd stdin stdout stderr; do test -e /dev/$name || echo no $name; done
        echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
        (echo x >/dev/full) 2>&1 | grep -o 'No space left'
        test -d /dev/shm && test -d /dev/pts && test -d /dev/mqueue && echo directories"""
    assert podman("run", "--rm", "busybox", "sh", "-c", script).ok().lines == ["3", "3", "No space left", "directories"]
    background(podman)
    devices = Path(f"/proc/{state(podman)['Pid']}/root/dev")
    eventually(devices.exists)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        found = (devices / name).stat()
        assert stat.S_ISCHR(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o666
