# SPDX-License-Identifier: Apache-2.0
"""buildah, as root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.engine import Engine, Result
from harness.leftovers import assert_none_since, look

# buildah asks for more than a caller without CAP_SYS_RESOURCE may have.
CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def engine(runtime_path: str, images: Path, data: Path) -> Engine:
    """buildah with the runtime under test and its images."""
    conf = data / "containers.conf"
    conf.write_text(CONF)
    environment = {"CONTAINERS_CONF": str(conf), "BUILDAH_ISOLATION": "oci", "BUILDAH_RUNTIME": runtime_path}
    engine = Engine(("buildah", "--root", str(data / "storage"), "--runroot", "/run/buildah"), environment)
    engine("pull", "-q", f"docker-archive:{images}/busybox.docker.tar").ok()
    engine("from", "--name", "first", "--pull-never", "busybox").ok()
    engine("run", "--runtime", runtime_path, "first", "true").ok()  # what is made once is there before we look
    engine("rm", "first").ok()
    return engine


@pytest.fixture
def buildah(engine: Engine) -> Iterator[Engine]:
    """buildah, which a scenario leaves as it found it."""
    before = look()
    yield engine
    engine("rm", "--all")
    assert_none_since(before, "/@seccomp/")


@pytest.fixture
def container(buildah: Engine) -> str:
    """A working container from busybox."""
    return buildah("from", "--pull-never", "busybox").ok().text


@pytest.fixture
def options(runtime_path: str) -> tuple[str, ...]:
    """What every `buildah run` has."""
    return ("run", "--runtime", runtime_path)


@pytest.fixture
def run(buildah: Engine, container: str, options: tuple[str, ...]) -> Run:
    """`run("sh", "-c", …, options=(…))` in a container without a network but loopback."""

    base = (*options, "--network", "none")

    def call(*command: str, options: tuple[str, ...] = (), stdin: str | None = None) -> Result:
        return buildah(*base, *options, container, "--", *command, stdin=stdin)

    return call
