# SPDX-License-Identifier: Apache-2.0
"""podman of an ordinary user, who has 65,536 subordinate ids and, but for systemd, no cgroup."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.leftovers import assert_none_since, look
from harness.user import RUNTIME_DIR, User

# podman 4.3 reads the last key of [engine] without the "s" that its manual has.
CONF = """\
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "{netns}"
[engine]
runtime_supports_json = ["crun", "runc", "ocirun"]
runtime_supports_nocgroup = ["crun", "ocirun"]
[engine.runtimes]
{name} = ["{path}"]
"""


@pytest.fixture(scope="session")
def user(data: Path) -> User:
    """The user, who owns what is below `user.home`."""
    return User(data / "home")


@pytest.fixture
def directory(user: User, scratch: Path) -> Path:
    """A directory of the user for one scenario."""
    return user.make_directory(scratch / "user")


@pytest.fixture(scope="session")
def engine(user: User, runtime_name: str, runtime_path: str, images: Path) -> Engine:
    """podman of the user with the runtime under test and its images."""
    conf = user.home / "containers.conf"
    conf.write_text(CONF.format(name=runtime_name, path=runtime_path, netns="slirp4netns" if shutil.which("slirp4netns") else "none"))
    conf.chmod(0o644)
    places = ("--root", user.home / "storage", "--runroot", RUNTIME_DIR / "storage", "--tmpdir", RUNTIME_DIR / "libpod")
    manager = os.environ["OCIRUN_ENGINES_CGROUP_MANAGER"]
    words = ("podman", *map(str, places), "--storage-driver", "overlay", "--cgroup-manager", manager)
    engine = Engine(
        (*user.argv, *words, "--events-backend", "file", "--runtime", runtime_name), {**user.env, "CONTAINERS_CONF": str(conf)}
    )
    engine("load", "-i", images / "busybox.docker.tar").ok()
    engine("run", "--rm", "busybox", "true").ok()  # what is made once is there before we look
    return engine


@pytest.fixture
def podman(engine: Engine) -> Iterator[Engine]:
    """podman, which a scenario leaves as it found it."""
    before, mounts = look(), mounts_of_podman()
    yield engine
    engine("pod", "rm", "--all", "--force", "--time", "0")
    engine("rm", "--all", "--force", "--time", "0")
    engine("volume", "rm", "--all", "--force")
    # A new filter in the cache, or the lock of a new kind of storage, is no leftover.
    assert_none_since(before, "/@seccomp/")
    eventually(lambda: mounts_of_podman() <= mounts, "something stays mounted for podman")


def mounts_of_podman() -> set[str]:
    """What is mounted in the namespace that podman keeps for the user."""
    pid = (RUNTIME_DIR / "libpod/pause.pid").read_text()
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
