# SPDX-License-Identifier: Apache-2.0
"""Volumes, images that are built, and other storage, of an ordinary user."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.engine import Engine
from harness.user import RUNTIME_DIR, User

RUN = ("run", "--rm", "--network", "none")


def test_volume(podman: Engine, directory: Path, scratch: Path) -> None:
    """Directories of the user, read-only and not; one of root's keeps its permissions; a volume outlives containers."""
    script = "echo in >/rw/file; touch /ro/file || echo refused; cat /ro/file; grep -c ' /ro [^ ]* ro,' /proc/mounts"
    words = ("-v", f"{directory}:/rw", "-v", f"{directory}:/ro:ro")
    assert podman(*RUN, *words, "busybox", "sh", "-c", script).ok().lines == ["refused", "in", "1"]
    assert (directory / "file").read_text() == "in\n"
    (scratch / "roots").mkdir(mode=0o755)
    podman(*RUN, "-v", f"{scratch}/roots:/mnt", "busybox", "touch", "/mnt/x").fails(words="denied")
    podman("volume", "create", "kept").ok()
    podman(*RUN, "-v", "kept:/data", "busybox", "sh", "-c", "echo stays >/data/it").ok()
    assert podman(*RUN, "-v", "kept:/data:ro", "busybox", "cat", "/data/it").ok().text == "stays"
    podman(*RUN, "-v", f"{directory}:/mnt:noexec,nosuid", "busybox", "sh", "-c", "cp /bin/busybox /mnt/true; /mnt/true").fails(126)


@pytest.mark.core
def test_build(podman: Engine, directory: Path, user: User) -> None:
    """An image is built: its commands run, fail when they fail, and the result runs."""
    directory.chmod(0o755)
    (directory / "added").write_text("added\n")
    (directory / "Containerfile").write_text(
        "FROM busybox\nWORKDIR /work\nCOPY added .\nENV A=b\nRUN cat added >made && id -u >>made && echo $A >>made\n"
        "RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && grep -c ' /scratch tmpfs' /proc/mounts >>made\nUSER 1000\n"
        'ENTRYPOINT ["cat"]\nCMD ["made"]\n'
    )
    build = ("build", "--network", "none", "--pull=never", "-t")
    podman(*build, "built", directory).ok()
    assert podman(*RUN, "built").ok().lines == ["added", "0", "b", "1"]
    assert podman(*RUN, "--entrypoint", "id", "built", "-u").ok().text == "1000"
    (directory / "Containerfile").write_text("FROM busybox\nRUN exit 7\n")
    podman(*build, "broken", directory).fails(words="7")
    podman("rmi", "--force", "built").ok()


def test_commit_cp_diff(podman: Engine, directory: Path) -> None:
    """What a container has changed: copied out and in, listed, and made an image."""
    podman("run", "-d", "--name", "it", "--network", "none", "busybox", "sh", "-c", "echo made >/made; exec sleep 1000").ok()
    podman("exec", "it", "sh", "-c", "until [ -s /made ]; do sleep 0.1; done").ok()
    podman("cp", "it:/made", directory / "copied").ok()
    assert (directory / "copied").read_text() == "made\n"
    podman("cp", directory / "copied", "it:/tmp/in").ok()
    assert podman("exec", "it", "cat", "/tmp/in").ok().text == "made"
    assert {"A /made", "A /tmp/in"} <= set(podman("diff", "it").ok().lines)
    podman("commit", "-q", "it", "changed").ok()
    assert podman(*RUN, "changed", "cat", "/made").ok().text == "made"
    podman("rmi", "--force", "changed").ok()


def test_fuse_overlayfs(podman: Engine, user: User, images: Path) -> None:
    """Storage on fuse-overlayfs, as users of older kernels have it: the root is on FUSE, and works."""
    words = ["--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs", "--root", str(user.home / "fuse")]
    argv = list(podman.argv)
    argv[argv.index("--root") : argv.index("--root") + 2] = words
    argv[argv.index("--runroot") + 1] = str(RUNTIME_DIR / "fuse")
    fuse = Engine(argv, podman.env)
    fuse("load", "-i", images / "busybox.docker.tar").ok()
    script = "awk '$2 == \"/\" {print $3}' /proc/mounts; touch /made && chown 5:6 /made && stat -c %u:%g /made"
    done = fuse(*RUN, "busybox", "sh", "-c", script).ok().lines
    assert done == ["fuse.fuse-overlayfs", "5:6"]
    fuse("run", "-d", "--name", "it", "--network", "none", "busybox", "sleep", "1000").ok()
    assert fuse("exec", "it", "sh", "-c", "echo x >/y; cat /y").ok().text == "x"
    fuse("rm", "--force", "--time", "0", "it").ok()
