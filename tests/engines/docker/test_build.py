# SPDX-License-Identifier: Apache-2.0
"""docker build, by the classic builder and by BuildKit: each runs the commands with the runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.docker import Daemon, Docker
from harness.engine import Result

BUILDERS = {"classic": "0", "buildkit": "1"}


@pytest.fixture
def built(docker: Docker) -> Iterator[str]:
    """The name for an image, which is gone afterwards."""
    yield "built"
    docker("rmi", "--force", "built")
    docker("builder", "prune", "--all", "--force")
    docker("image", "prune", "--force")


def build(docker: Docker, directory: Path, dockerfile: str, builder: str, *options: str) -> Result:
    directory.joinpath("Dockerfile").write_text(dockerfile)
    env = {"DOCKER_BUILDKIT": BUILDERS[builder], "BUILDKIT_PROGRESS": "plain"}
    return docker("build", "--tag", "built", *options, directory, env=env, timeout=300)


FULL = """\
FROM busybox AS first
WORKDIR /work
COPY file .
RUN test "$(cat file)" = words && echo "$(id -u) $(hostname | wc -c)" >made
FROM busybox
ARG WHO=nobody
ENV WHO=$WHO
COPY --from=first /work /work
RUN echo $WHO >/who && chown 1000 /who && test -e /work/made
USER 1000
WORKDIR /work
ENTRYPOINT ["sh", "-c"]
CMD ["cat file /who; id -u"]
"""


def whole(docker: Docker, directory: Path, builder: str) -> None:
    (directory / "file").write_text("words")
    build(docker, directory, FULL, builder, "--build-arg", "WHO=me").ok()
    assert docker("run", "--rm", "built").ok().out == "wordsme\n1000\n"
    done = build(docker, directory, "FROM busybox\nRUN echo said; exit 17\n", builder, "--no-cache")
    assert "17" in done.fails().err + done.out


@pytest.mark.core
def test_build_classic(docker: Docker, scratch: Path, built: str) -> None:
    """Stages, arguments, files and users; a command that fails ends it with its status."""
    whole(docker, scratch, "classic")


def test_build_buildkit(docker: Docker, daemon: Daemon, scratch: Path, built: str) -> None:
    """The same by BuildKit, which runs the commands with the runtime as well."""
    whole(docker, scratch, "buildkit")
    assert " run " in daemon.buildkit.read_text()


def test_build_classic_limits(docker: Docker, scratch: Path, built: str) -> None:
    """The limits that build is given hold for its commands."""
    see = "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max\nRUN ulimit -n; ls /sys/class/net"
    options = ("--no-cache", "--memory", "64m", "--memory-swap", "64m", "--ulimit", "nofile=100", "--network", "none")
    done = build(docker, scratch, f"FROM busybox\n{see}\n", "classic", *options).ok()
    assert {str(64 << 20), "100", "lo"} <= set(done.lines) and "eth0" not in done.lines


def test_build_buildkit_parallel(docker: Docker, scratch: Path, built: str) -> None:
    """Stages that do not need each other run at the same time: each waits for the other's file."""
    stages = "".join(
        f"FROM busybox AS {one}\n"
        f"RUN --mount=type=cache,target=/shared touch /shared/{one}; "
        f"for i in $(seq 600); do test -e /shared/{other} && exit 0; sleep 0.05; done; exit 1\nRUN touch /{one}\n"
        for one, other in (("a", "b"), ("b", "a"))
    )
    last = "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN test -e /a && test -e /b\n"
    build(docker, scratch, stages + last, "buildkit", "--no-cache").ok()
    docker("run", "--rm", "built", "ls", "/a", "/b").ok()
