# SPDX-License-Identifier: Apache-2.0
"""docker: a daemon whose default runtime is the one under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.docker import Daemon, Docker, load
from harness.leftovers import assert_none_since, look


@pytest.fixture(scope="session")
def daemon(runtime_path: str, images: Path, data: Path) -> Iterator[Daemon]:
    """The daemon of the session, with the image of busybox."""
    with Daemon(data / "docker", Path("/run/docker"), runtime_path) as daemon:
        load(daemon.docker, images, ["busybox"])
        for options in ((), ("--network", "host")):  # what is made once is there before we look
            daemon.docker("run", "--rm", *options, "busybox", "true").ok()
        yield daemon


@pytest.fixture(scope="session")
def debian(daemon: Daemon, images: Path) -> str:
    """The name of the image of Debian, loaded."""
    load(daemon.docker, images, ["debian"])
    return "debian"


@pytest.fixture
def docker(daemon: Daemon) -> Iterator[Docker]:
    """docker, which a scenario leaves as it found it."""
    before = look()
    yield daemon.docker
    daemon.docker.clear()
    assert_none_since(before)
