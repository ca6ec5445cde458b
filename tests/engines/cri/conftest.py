# SPDX-License-Identifier: Apache-2.0
"""containerd's CRI service: what the kubelet talks to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cri.client import Cri
from harness.containerd import ADDRESS, Ctr, Daemon, write_network
from harness.dying import DyingRuntime
from harness.leftovers import assert_none_since, look

DAEMON = "containerd: containerd --config"
CONF = """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:latest"
restrict_oom_score_adj = true  # below the engine's own it cannot go without CAP_SYS_RESOURCE
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "tested"
"""
HANDLER = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"
{more}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{path}"
"""


@pytest.fixture(scope="session")
def dying(runtime_path: str, data: Path) -> DyingRuntime:
    """What the handler `dying` calls."""
    return DyingRuntime(data, runtime_path)


@pytest.fixture(scope="session")
def daemon(runtime_path: str, images: Path, data: Path, dying: DyingRuntime) -> Iterator[Daemon]:
    """containerd with the runtime under test as the default handler, as `other`, and as `dying`."""
    write_network()
    more = 'pod_annotations = ["org.example.*"]\ncontainer_annotations = ["org.example.*"]'
    handlers = HANDLER.format(name="tested", path=runtime_path, more=more)
    handlers += HANDLER.format(name="other", path=runtime_path, more="")
    handlers += HANDLER.format(name="dying", path=dying.path, more="")
    daemon = Daemon(data, runtime_path, CONF + handlers)
    daemon.start()
    ctr = Ctr(daemon, runtime_path, "k8s.io")
    for name in ("busybox", "pause"):
        ctr("image", "import", images / f"{name}.oci.tar").ok()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def client(daemon: Daemon, data: Path) -> Cri:
    """The client, after a first pod: what is made once is there before we look."""
    cri = Cri(ADDRESS, data / "logs")
    cri.pod("first").run("true").ended()
    cri.clean()
    for verb in ("add", "del"):
        subprocess.run(["ip", "netns", verb, "first"], check=True)
    return cri


@pytest.fixture
def cri(client: Cri) -> Iterator[Cri]:
    """The client of a service that a scenario leaves as it found it."""
    before = look(DAEMON)
    yield client
    client.clean()
    assert_none_since(before, DAEMON)
