# SPDX-License-Identifier: Apache-2.0
"""buildah bud, as root, and buildah of an ordinary user."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.engine import Engine, Result
from harness.user import RUNTIME_DIR, User

# The container's own limit on memory, wherever this host's cgroups have it.
LIMIT = (
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"
)


class Builder:
    """`build(*instructions)` builds them on busybox without a network."""

    def __init__(self, buildah: Engine, directory: Path) -> None:
        self.buildah, self.directory = buildah, directory

    def __call__(self, *instructions: str, options: tuple[str, ...] = (), tag: str = "built") -> Result:
        (self.directory / "Containerfile").write_text("\n".join(["FROM busybox", *instructions, ""]))
        words = ("bud", "--network", "none", "--pull-never", "--no-cache", "-t", tag, *options, self.directory)
        return self.buildah(*words)


@pytest.fixture
def build(buildah: Engine, scratch: Path) -> Builder:
    return Builder(buildah, scratch)


@pytest.mark.core
def test_bud(build: Builder, buildah: Engine) -> None:
    """The instructions of a Containerfile, and what they leave in the image."""
    (build.directory / "added").write_text("added\n")
    build(
        "ARG WHO=nobody",
        "ENV GREETING=hello",
        "WORKDIR /work",
        "COPY added .",
        "RUN cat added >made && echo $GREETING $WHO >>made && pwd >>made && id -u >>made",
        'RUN ["sh", "-c", "hostname >/dev/null && echo exec form >>made"]',
        "USER 1000:1001",
        "RUN id -u >/tmp/id && id -g >>/tmp/id",
        'CMD ["cat", "/work/made"]',
        options=("--build-arg", "WHO=me"),
    ).ok()
    container = buildah("from", "--pull-never", "built").ok().text
    mounted = Path(buildah("mount", container).ok().text)
    assert (mounted / "work/made").read_text() == "added\nhello me\n/work\n0\nexec form\n"
    assert (mounted / "tmp/id").read_text() == "1000\n1001\n"
    assert ((mounted / "tmp/id").stat().st_uid, (mounted / "tmp/id").stat().st_gid) == (1000, 1001)
    config = buildah("inspect", "--type", "image", "--format", "{{.OCIv1.Config.Cmd}} {{.OCIv1.Config.User}}", "built").ok()
    assert config.text == "[cat /work/made] 1000:1001"
    buildah("umount", container).ok()
    buildah("rm", container).ok()
    buildah("rmi", "built").ok()


@pytest.mark.core
def test_bud_fail(build: Builder, buildah: Engine) -> None:
    """A command that fails, that does not exist or that is killed fails the build, and no image is made."""
    for command, words in (("RUN exit 7", "7"), ('RUN ["nosuch"]', "nosuch"), ("RUN sh -c 'kill -9 $$'; exit $?", "137")):
        build(command).fails(words=words)
    buildah("inspect", "--type", "image", "built").fails()


def test_bud_limits(build: Builder) -> None:
    """Limits of memory, processes' files and shared memory hold for the commands."""
    options = ("--memory", "64m", "--ulimit", "nofile=77:99", "--shm-size", "2m")
    done = build(f"RUN {LIMIT}; ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n 1", options=options).ok().lines
    at = done.index(str(64 << 20))
    assert done[at + 1 : at + 3] == ["77", "99"]
    assert done[at + 3].split()[1] == "2048"


def test_bud_cgroup_parent(build: Builder) -> None:
    """The commands are in the cgroup that is asked for, or below it."""
    done = build("RUN cat /proc/self/cgroup", options=("--cgroup-parent", "/parent-of-builds")).ok()
    assert all(":/parent-of-builds" in line for line in done.lines if line.count(":") > 1 and not line.startswith("0::/"))
    assert "/parent-of-builds" in done.out


def test_bud_mounts(build: Builder) -> None:
    """Mounts of one command: a tmpfs, a cache that the next one finds, a file of the context, a secret."""
    (build.directory / "file").write_text("context\n")
    (build.directory / "key").write_text("secret\n")
    done = build(
        "RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && grep ' /scratch ' /proc/mounts",
        "RUN --mount=type=cache,target=/cache echo cached >/cache/x",
        "RUN --mount=type=cache,target=/cache cat /cache/x",
        "RUN --mount=type=bind,source=file,target=/file cat /file; echo x >/file || echo read-only",
        "RUN --mount=type=secret,id=key cat /run/secrets/key",
        options=("--secret", f"id=key,src={build.directory}/key"),
    ).ok()
    assert {"cached", "context", "secret"} <= set(done.lines)
    assert any(line.startswith("tmpfs /scratch tmpfs") or " /scratch tmpfs " in line for line in done.lines)


def test_bud_isolation_chroot_unaffected(build: Builder) -> None:
    """Without a runtime builds go on as they do."""
    assert "made" in build("RUN echo made", options=("--isolation", "chroot", "--network", "host")).ok().lines


def test_bud_stages(build: Builder, buildah: Engine) -> None:
    """Stages that are built beside each other, and a file that goes from one into the other."""
    build(
        "RUN echo one >/one",
        "FROM busybox",
        "RUN echo two >/two",
        "FROM busybox",
        "COPY --from=0 /one /",
        "COPY --from=1 /two /",
        "RUN cat /one /two >/three",
        options=("--jobs", "3"),
    ).ok()
    container = buildah("from", "--pull-never", "built").ok().text
    assert (Path(buildah("mount", container).ok().text) / "three").read_text() == "one\ntwo\n"
    buildah("umount", container).ok()
    buildah("rm", container).ok()
    buildah("rmi", "built").ok()


def test_rootless(images: Path, data: Path, scratch: Path, runtime_path: str, engine: Engine) -> None:
    """An ordinary user builds: run, bud, and files that are his afterwards."""
    user = User(data / "home")
    conf = engine.env["CONTAINERS_CONF"]
    environment = {**user.env, "CONTAINERS_CONF": conf, "BUILDAH_RUNTIME": runtime_path, "BUILDAH_ISOLATION": "rootless"}
    words = ("buildah", "--root", user.home / "storage", "--runroot", RUNTIME_DIR / "buildah", "--storage-driver", "overlay")
    buildah = Engine((*user.argv, *map(str, words)), environment)
    buildah("pull", "-q", f"docker-archive:{images}/busybox.docker.tar").ok()
    container = buildah("from", "--pull-never", "busybox").ok().text
    run = ("run", "--runtime", runtime_path, "--network", "none")
    script = "id -u; cat /proc/self/uid_map; echo made >/made"
    done = [line.split() for line in buildah(*run, container, "--", "sh", "-c", script).ok().lines]
    assert done == [["0"], ["0", "1000", "1"], ["1", "100000", "65536"]]
    buildah(*run, container, "--", "sh", "-c", "exit 7").fails(7)
    buildah("run", "--runtime", runtime_path, container, "--", "grep", "tap0", "/proc/net/dev").ok()  # slirp4netns
    assert Builder(buildah, user.make_directory(scratch / "context"))("RUN id -u && cat /proc/self/cgroup").ok()
    buildah("rm", "--all").ok()
