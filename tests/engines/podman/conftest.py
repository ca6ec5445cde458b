# SPDX-License-Identifier: Apache-2.0
"""podman, as root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.dying import DyingRuntime
from harness.engine import Engine
from harness.leftovers import assert_none_since, look
from harness.podman import HAS_NETFILTER

CGROUPS = Path("/sys/fs/cgroup")

# `plain` is the runtime by a name that podman knows nothing of, so that it does not read its log as JSON.
CONF = """\
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "{netns}"
init_path = "{init}"
[engine]
infra_image = "pause"
runtime_supports_json = ["crun", "runc", "ocirun", "dying"]
runtime_supports_nocgroups = ["crun", "ocirun"]
runtime_supports_nocgroup = ["crun", "ocirun"]  # what podman 4.3 looks for
[engine.runtimes]
{name} = ["{path}"]
plain = ["{path}"]
dying = ["{dying}"]
"""


@pytest.fixture(scope="session")
def dying(runtime_path: str, data: Path) -> DyingRuntime:
    """What is behind podman's runtime `dying`."""
    return DyingRuntime(data, runtime_path)


@pytest.fixture(scope="session")
def engine(runtime_name: str, runtime_path: str, dying: DyingRuntime, images: Path, data: Path) -> Engine:
    """podman with the runtime under test and its images."""
    conf = data / "containers.conf"
    init = shutil.which("docker-init") or shutil.which("catatonit")
    manager = os.environ["OCIRUN_ENGINES_CGROUP_MANAGER"]
    conf.write_text(CONF.format(name=runtime_name, path=runtime_path, dying=dying.path, init=init, netns="bridge" if HAS_NETFILTER else "none"))
    with open("/etc/subuid", "a") as uids, open("/etc/subgid", "a") as gids:  # for --userns auto; /etc is the sandbox's
        for file in (uids, gids):
            file.write("containers:200000:655360\n")
    places = ("--root", data / "storage", "--runroot", "/run/storage", "--tmpdir", "/run/libpod", "--network-config-dir", data / "net")
    # Not in the tree: conmon leaves a file where podman was started, when memory was exceeded.
    words = ("env", "--chdir", "/tmp", "podman", *map(str, places), "--cgroup-manager", manager, "--events-backend", "file", "--runtime", runtime_name)
    engine = Engine(words, {"CONTAINERS_CONF": str(conf)})
    for image in ("busybox", "pause"):
        engine("load", "-i", images / f"{image}.docker.tar").ok()
    engine("run", "--rm", "busybox", "true").ok()  # what is made once is there before we look
    return engine


@pytest.fixture(scope="session")
def debian(engine: Engine, images: Path) -> str:
    """The name of an image with a distribution in it, loaded when a scenario first asks for it."""
    engine("load", "-i", images / "debian.docker.tar", timeout=600).ok()
    return "debian"


@pytest.fixture
def podman(engine: Engine) -> Iterator[Engine]:
    """podman, which a scenario leaves as it found it."""
    before = look()
    # podman's own cgroup: a runtime that made it may take it away when it is empty, or not.
    before["cgroup"] |= {str(path / "libpod_parent") for path in (CGROUPS, *CGROUPS.iterdir())}
    yield engine
    engine("pod", "rm", "--all", "--force", "--time", "0").ok()
    engine("rm", "--all", "--force", "--time", "0").ok()
    engine("volume", "rm", "--all", "--force").ok()
    assert_none_since(before)
