# SPDX-License-Identifier: Apache-2.0
"""Volumes, tmpfs, and a container's files as seen from outside."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.docker import Docker
from harness.engine import eventually


@pytest.fixture
def mounted(scratch: Path) -> Iterator[Path]:
    """A directory that is a shared mount of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "shared", scratch], check=True)
    subprocess.run(["mount", "--make-shared", scratch], check=True)
    yield scratch
    subprocess.run(["umount", "--recursive", "--lazy", scratch], check=True)


def test_tmpfs(docker: Docker) -> None:
    """--tmpfs: with its size, its mode and its flags."""
    script = "grep ' /t ' /proc/self/mounts; stat -c %a /t; df -k /t | tail -n 1"
    done = docker("run", "--rm", "--tmpfs", "/t:size=4m,mode=1700,noexec", "busybox", "sh", "-c", script).ok()
    device, place, kind, options = done.lines[0].split()[:4]
    assert (device, place, kind) == ("tmpfs", "/t", "tmpfs")
    assert {"rw", "nosuid", "nodev", "noexec", "size=4096k", "mode=1700"} <= set(options.split(","))
    assert done.lines[1] == "1700" and done.lines[2].split()[1] == "4096"
    docker("run", "--rm", "--tmpfs", "/t:size=1m", "busybox", "dd", "if=/dev/zero", "of=/t/f", "bs=64k", "count=32").fails(1, "no space")


def test_volume_rw_ro(docker: Docker, scratch: Path) -> None:
    """A directory of the host: written to, or read-only."""
    (scratch / "in").write_text("from the host")
    done = docker("run", "--rm", "-v", f"{scratch}:/v", "busybox", "sh", "-c", "cat /v/in; echo out >/v/out").ok()
    assert done.text == "from the host" and (scratch / "out").read_text() == "out\n"
    docker("run", "--rm", "-v", f"{scratch}:/v:ro", "busybox", "touch", "/v/more").fails(1, "read-only")
    docker("run", "--rm", "-v", f"{scratch}/in:/etc/one-file:ro", "busybox", "cat", "/etc/one-file").ok()
    docker("run", "--rm", "--mount", f"type=bind,source={scratch}/nothing,target=/v", "busybox", "true").fails(words="does not exist")


def test_volume_submount(docker: Docker, mounted: Path) -> None:
    """What is mounted below a directory comes along."""
    (mounted / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", mounted / "below"], check=True)
    (mounted / "below/f").write_text("words")
    assert docker("run", "--rm", "-v", f"{mounted}:/v:ro", "busybox", "cat", "/v/below/f").ok().text == "words"
    plain = docker("run", "--rm", "--mount", f"type=bind,source={mounted},target=/v,bind-nonrecursive", "busybox", "ls", "/v/below").ok()
    assert plain.text == ""


def test_volume_propagation(docker: Docker, mounted: Path) -> None:
    """rslave: later mounts of the host come in; rprivate: they do not; rshared: those of the container go out."""
    (mounted / "later").mkdir()
    docker.up("--name", "slave", "-v", f"{mounted}:/v:rslave", "busybox", "/probe", "sleep")
    docker.up("--name", "private", "-v", f"{mounted}:/v", "busybox", "/probe", "sleep")
    subprocess.run(["mount", "-t", "tmpfs", "later", mounted / "later"], check=True)
    (mounted / "later/f").write_text("words")
    assert docker("exec", "slave", "cat", "/v/later/f").ok().text == "words"
    docker("exec", "private", "cat", "/v/later/f").fails(1)
    options = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
    docker.up("--name", "shared", *options, "-v", f"{mounted}:/v:rshared", "busybox", "sh", "-c", "mkdir /v/own; mount -t tmpfs own /v/own; echo x >/v/own/f; exec /probe sleep")
    eventually((mounted / "own/f").exists, "the container's mount did not come out")


def test_volume_named(docker: Docker) -> None:
    """A named volume has what the image had there, and keeps what is written."""
    docker("volume", "create", "kept").ok()
    docker("run", "--rm", "-v", "kept:/etc", "busybox", "sh", "-c", "grep -q root /etc/passwd && echo words >/etc/new").ok()
    assert docker("run", "--rm", "-v", "kept:/v:ro", "busybox", "cat", "/v/new").ok().text == "words"
    anonymous = docker("run", "--name", "one", "-v", "/v", "busybox", "touch", "/v/f").ok()
    assert anonymous.out == "" and len(docker("volume", "ls", "-q").ok().lines) == 2
    assert docker("run", "--rm", "--volumes-from", "one", "busybox", "ls", "/v").ok().text == "f"
    docker("volume", "rm", "kept").ok()
    docker("rm", "-v", "one").ok()
    assert docker("volume", "ls", "-q").ok().text == ""


def test_commit_cp_diff(docker: Docker, scratch: Path) -> None:
    """A container's files: what changed, copied in and out, exported, and made an image."""
    docker("run", "--name", "one", "busybox", "sh", "-c", "echo words >/new; rm /etc/group; echo x >>/etc/passwd").ok()
    assert {"A /new", "D /etc/group", "C /etc/passwd"} <= set(docker("diff", "one").ok().lines)
    docker("cp", "one:/new", scratch / "out").ok()
    assert (scratch / "out").read_text() == "words\n"
    (scratch / "in").write_text("from outside")
    docker("cp", scratch / "in", "one:/in").ok()
    docker("commit", "--change", "CMD [\"cat\", \"/new\", \"/in\"]", "--message", "more", "one", "changed").ok()
    try:
        assert docker("run", "--rm", "changed").ok().out == "words\nfrom outside"
        assert len(docker("inspect", "--format", "{{json .RootFS.Layers}}", "changed").ok().json) == 2
        docker("export", "--output", scratch / "all.tar", "one").ok()
        with tarfile.open(fileobj=io.BytesIO((scratch / "all.tar").read_bytes())) as tar:
            assert "new" in tar.getnames() and "etc/group" not in tar.getnames()
    finally:
        docker("rmi", "changed").ok()


def test_cp_running(docker: Docker, scratch: Path) -> None:
    """Files go in and out of a container that runs, through its volumes too."""
    docker.up("--name", "one", "-v", "/v", "busybox", "/probe", "sleep")
    (scratch / "in").write_text("words")
    docker("cp", scratch / "in", "one:/v/f").ok()
    assert docker("exec", "one", "cat", "/v/f").ok().text == "words"
    docker("cp", "one:/v/f", scratch / "out").ok()
    assert (scratch / "out").read_text() == "words"
