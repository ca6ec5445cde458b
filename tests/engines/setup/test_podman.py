# SPDX-License-Identifier: Apache-2.0
"""podman with what `setup podman` writes, and nothing else."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.engine import Engine, Result

NAME_AND_PATH = "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"
DROP_IN = Path("/etc/containers/containers.conf.d/50-ocirun.conf")


def podman(data: Path, *options: str) -> Engine:
    places = ("--root", data / "storage", "--runroot", "/run/storage", "--tmpdir", "/run/libpod", "--network-config-dir", data / "net")
    return Engine(("podman", *map(str, places), "--cgroup-manager", "cgroupfs", "--events-backend", "file", *options))


@pytest.mark.core
def test_podman_knows_it(setup: Callable[..., Result], data: Path, images: Path, runtime_path: str) -> None:
    """Registered, it runs who asks for it: with JSON messages, and without cgroups.  As the default, everybody."""
    before = podman(data)("info", "--format", NAME_AND_PATH).ok().text
    setup("podman")
    assert podman(data)("info", "--format", NAME_AND_PATH).ok().text == before
    ours = podman(data, "--runtime", "ocirun")
    assert ours("info", "--format", NAME_AND_PATH).ok().text == f"ocirun {runtime_path}"
    ours("load", "-i", images / "busybox.docker.tar").ok()
    assert ours("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"
    ours("run", "--rm", "--cgroups=disabled", "--network=none", "busybox", "true").ok()
    missing = ours("run", "--rm", "busybox", "/nosuch").fails(127)
    assert "{" not in missing.err, "a record of the log, where its message belongs"
    assert "not changed" in setup("podman").text
    setup("podman", "--default")
    assert podman(data)("info", "--format", NAME_AND_PATH).ok().text == f"ocirun {runtime_path}"
    assert podman(data)("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"
    podman(data, "--runtime", "crun")("info", "--format", NAME_AND_PATH).ok()
    DROP_IN.unlink()


@pytest.mark.core
def test_podman_rootless_knows_it(data: Path, runtime_path: str, scratch: Path) -> None:
    """An ordinary user has the file in his own configuration; podman 4.3 reads it there."""
    home = scratch / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    user = ("setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups")
    written = Engine((*user, runtime_path), env)("setup", "podman", "--write", "--default").ok()
    path = Path(written.text.partition(":")[0])
    assert path == home / ".config/containers/containers.conf.d/50-ocirun.conf"
    assert tomllib.loads(path.read_text())["engine"]["runtime"] == "ocirun"
    with open("/etc/passwd", "a") as passwd:
        passwd.write(f"setupuser:x:1234:1234::{home}:/bin/sh\n")
    for name in ("/etc/subuid", "/etc/subgid"):
        with open(name, "a") as file:
            file.write("setupuser:200000:65536\n")
    rootless = Engine((*user, "podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file"), env)
    assert rootless("info", "--format", NAME_AND_PATH).ok().text == f"ocirun {runtime_path}"
