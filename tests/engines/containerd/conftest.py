# SPDX-License-Identifier: Apache-2.0
"""containerd, through `ctr`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.containerd import IMAGE, Ctr, Daemon, write_network
from harness.leftovers import assert_none_since, look


@pytest.fixture(scope="session")
def engine(runtime_path: str, images: Path, data: Path) -> Iterator[Ctr]:
    """containerd, started, with the image of busybox."""
    write_network()
    daemon = Daemon(data, runtime_path, disabled=("io.containerd.grpc.v1.cri",))
    daemon.start()
    engine = Ctr(daemon, runtime_path)
    engine("image", "import", images / "busybox.oci.tar").ok()
    engine.run("--rm", "--cni", IMAGE, "first", "true").ok()  # what is made once is there before we look
    for verb in ("add", "del"):
        subprocess.run(["ip", "netns", verb, "first"], check=True)
    yield engine
    daemon.stop()


@pytest.fixture
def ctr(engine: Ctr) -> Iterator[Ctr]:
    """ctr, whose containerd a scenario leaves as it found it."""
    before = look("containerd: containerd --config")
    yield engine
    engine.clean()
    assert_none_since(before, "containerd: containerd --config")


@pytest.fixture(scope="session")
def debian(engine: Ctr, images: Path) -> str:
    """The image of a minimal Debian, imported."""
    engine("image", "import", images / "debian.oci.tar").ok()
    return "docker.io/library/debian:latest"
