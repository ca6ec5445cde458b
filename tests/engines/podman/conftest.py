# SPDX-License-Identifier: Apache-2.0
"""podman, as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Engine
from harness.leftovers import assert_none_since, look

CONF = """\
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime_supports_json = ["crun", "runc", "ocirun"]
runtime_supports_nocgroups = ["crun", "ocirun"]
runtime_supports_nocgroup = ["crun", "ocirun"]  # what podman 4.3 looks for
[engine.runtimes]
{name} = ["{path}"]
"""


@pytest.fixture(scope="session")
def engine(runtime_name: str, runtime_path: str, images: Path, data: Path) -> Engine:
    """podman with the runtime under test and its images."""
    conf = data / "containers.conf"
    conf.write_text(CONF.format(name=runtime_name, path=runtime_path))
    places = ("--root", data / "storage", "--runroot", "/run/storage", "--tmpdir", "/run/libpod", "--network-config-dir", data / "net")
    words = ("podman", *map(str, places), "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime_name)
    engine = Engine(words, {"CONTAINERS_CONF": str(conf)})
    engine("load", "-i", images / "busybox.docker.tar").ok()
    engine("run", "--rm", "busybox", "true").ok()  # what is made once is there before we look
    return engine


@pytest.fixture
def podman(engine: Engine) -> Iterator[Engine]:
    """podman, which a scenario leaves as it found it."""
    before = look()
    yield engine
    engine("pod", "rm", "--all", "--force")
    engine("rm", "--all", "--force", "--time", "0")
    engine("volume", "rm", "--all", "--force")
    assert_none_since(before)
