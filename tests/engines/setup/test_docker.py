# SPDX-License-Identifier: Apache-2.0
"""dockerd with what `setup docker` writes, and nothing else about runtimes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.engine import Engine, Result, eventually

from .conftest import daemon

FILE = Path("/etc/docker/daemon.json")


@pytest.mark.core
def test_docker_knows_it(setup: Callable[..., Result], data: Path, images: Path, runtime_path: str, scratch: Path) -> None:
    """It starts with the file, keeps what was in it, and learns of a new default when told to reload."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({"data-root": str(data / "docker"), "labels": ["kept=yes"], "storage-driver": "vfs"}))
    setup("docker")
    docker = Engine(["docker"])

    def info(what: str) -> str:
        return docker("info", "--format", what).text

    words = ("dockerd", "--iptables=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs")
    with daemon(scratch / "log", *words, until=lambda: docker("info").rc == 0 and info("{{.ID}}") != "") as dockerd:
        runtimes = json.loads(info("{{json .Runtimes}}"))
        assert runtimes["ocirun"]["path"] == runtime_path
        assert "runc" in runtimes
        assert info("{{.DefaultRuntime}}") == "runc"
        assert info("{{json .Labels}}") == '["kept=yes"]'
        docker("load", "-i", images / "busybox.docker.tar").ok()
        run = ("run", "--rm", "--network=none")
        assert docker(*run, "--runtime=ocirun", "busybox", "echo", "hello").ok().text == "hello"
        setup("docker", "--default")
        dockerd.send_signal(signal.SIGHUP)
        eventually(lambda: info("{{.DefaultRuntime}}") == "ocirun", "the reload has no effect")
        assert docker(*run, "busybox", "echo", "again").ok().text == "again"
    FILE.unlink()
