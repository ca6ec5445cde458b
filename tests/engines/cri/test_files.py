# SPDX-License-Identifier: Apache-2.0
"""Environment, mounts and devices."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cri.client import BIDIRECTIONAL, HOST_TO_CONTAINER, PRIVATE, Cri, CriError
from harness.engine import eventually


def test_env_workdir(cri: Cri) -> None:
    """The image's environment and more of it, a working directory that is made, a command and its arguments."""
    envs = [{"key": "FOO", "value": "a b"}, {"key": "EMPTY", "value": ""}]
    script = 'pwd; echo "<$FOO><${EMPTY-unset}>"; echo "$PATH"; echo "$0 $*"'
    container = cri.pod().run("sh", args=["-c", script, "zero", "one two"], envs=envs, working_dir="/made/for/it")
    assert container.ended()["exit_code"] == 0
    eventually(lambda: len(container.log().splitlines()) == 4)
    lines = container.log().splitlines()
    assert lines[:2] == ["/made/for/it", "<a b><>"]
    assert "/usr/bin" in lines[2]
    assert lines[3] == "zero one two"


def test_mounts(cri: Cri, scratch: Path) -> None:
    """Directories and files of the host, read-only and writable; one that is missing is made, as kubelets rely on."""
    for name in ("ro", "rw"):
        (scratch / name).mkdir()
    (scratch / "file").write_text("one file\n")
    mounts = [
        {"container_path": "/ro", "host_path": scratch / "ro", "readonly": True},
        {"container_path": "/a/new/place", "host_path": scratch / "rw"},
        {"container_path": "/etc/one", "host_path": scratch / "file", "readonly": True},
        {"container_path": "/absent", "host_path": scratch / "absent"},
    ]
    container = cri.pod().run("sleep", "1000", mounts=mounts)
    assert container.shell("cat /etc/one; echo made >/a/new/place/x; echo made >/absent/x") == "one file\n"
    assert (scratch / "rw/x").read_text() == (scratch / "absent/x").read_text() == "made\n"
    for path in ("/ro/x", "/etc/one"):
        assert "read-only file system" in container.exec("sh", "-c", f"echo >{path}")[1].lower()
    assert container.shell("cat /etc/hostname; grep -c localhost /etc/hosts || :")


def test_mount_propagation(cri: Cri, scratch: Path) -> None:
    """A mount that is made later passes not at all, from the host to the container, or both ways."""
    pod = cri.pod(linux={"security_context": {"privileged": True}})
    for kind, arrives, returns in ((PRIVATE, False, False), (HOST_TO_CONTAINER, True, False), (BIDIRECTIONAL, True, True)):
        place = scratch / str(kind)
        for name in ("given", "taken"):
            (place / name).mkdir(parents=True)
        mounts = [{"container_path": "/data", "host_path": place, "propagation": kind}]
        linux = {"security_context": {"privileged": True}}
        container = pod.run("sleep", "1000", name=f"c{kind}", mounts=mounts, linux=linux)
        subprocess.run(["mount", "-t", "tmpfs", "given", place / "given"], check=True)
        try:
            assert (" /data/given " in container.shell("cat /proc/mounts")) == arrives, kind
            container.shell("mount -t tmpfs taken /data/taken")
            assert os.path.ismount(place / "taken") == returns, kind
        finally:
            subprocess.run(["umount", place / "given"], check=True)
            if os.path.ismount(place / "taken"):
                subprocess.run(["umount", place / "taken"], check=True)


def test_devices(cri: Cri) -> None:
    """A device under another name and with fewer rights; others may not be made; one that is missing is refused."""
    devices = [
        {"container_path": "/dev/another", "host_path": "/dev/fuse", "permissions": "r"},
        {"container_path": "/dev/net/tun", "host_path": "/dev/net/tun", "permissions": "rwm"},
    ]
    pod = cri.pod()
    container = pod.run("sleep", "1000", devices=devices)
    assert container.shell("stat -c %t:%T /dev/another /dev/net/tun").split() == ["a:e5", "a:c8"]
    container.shell(": </dev/another")
    assert "not permitted" in container.exec("sh", "-c", ": >/dev/another")[1].lower()
    assert "not permitted" in container.exec("sh", "-c", "mknod /x c 10 237 && : </x")[1].lower()
    container.shell("head -c 4 /dev/zero >/dev/null")
    missing = [{"container_path": "/dev/missing", "host_path": "/dev/missing", "permissions": "r"}]
    with pytest.raises(CriError, match="/dev/missing"):
        pod.run("true", name="missing", devices=missing)
