# SPDX-License-Identifier: Apache-2.0
"""Pods, and Kubernetes' files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.podman import background, in_log, inside, inspect, limit, needs_netfilter, state

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: play
spec:
  restartPolicy: Never
  containers:
  - name: web
    image: localhost/busybox:latest
    command: ["sh", "-c", "echo \\"$GREETING\\" >/shared/index.html; exec httpd -f -p 8080 -h /shared"]
    env:
    - {{name: GREETING, value: hello from kubernetes}}
    resources:
      limits: {{memory: 64Mi, cpu: 500m}}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: ["ALL"], add: ["NET_BIND_SERVICE"]}}}}
    volumeMounts:
    - {{name: shared, mountPath: /shared}}
  - name: client
    image: localhost/busybox:latest
    command: ["sh", "-c", "until wget -qO- http://127.0.0.1:8080/; do sleep 0.2; done; sleep 1000"]
    securityContext: {{runAsUser: 1000, readOnlyRootFilesystem: true}}
  volumes:
  - name: shared
    hostPath: {{path: {path}, type: Directory}}
"""


@pytest.fixture
def pods(podman: Engine) -> Iterator[Engine]:
    """podman for pods: it leaves their cgroups in hierarchies that it does not know of, where a runtime made them."""
    yield podman
    podman("pod", "rm", "--all", "--force", "--time", "0").ok()
    for kind in ("unified", "systemd"):
        for path in Path("/sys/fs/cgroup", kind).glob("libpod_parent/*"):
            if path.is_dir():
                path.rmdir()


def test_pod_no_cgroup_left(podman: Engine) -> None:
    """A pod's own cgroups are gone with it, in every hierarchy: the fixture sees that."""
    podman("pod", "create", "--name", "pod").ok()
    background(podman, "--pod", "pod")
    podman("pod", "rm", "--force", "--time", "0", "pod").ok()


def namespaces(podman: Engine, name: str, *kinds: str) -> list[str]:
    """Return these namespaces of a container."""
    return [os.readlink(f"/proc/{state(podman, name)['Pid']}/ns/{kind}") for kind in kinds]


def test_pod(pods: Engine) -> None:
    """Containers of a pod share network, IPC and name, and live and die with it."""
    pods("pod", "create", "--name", "pod", "--hostname", "podname").ok()
    background(pods, "--pod", "pod")
    background(pods, "--pod", "pod", name="two")
    shared = ("net", "ipc", "uts")
    assert namespaces(pods, "one", *shared) == namespaces(pods, "two", *shared)
    assert namespaces(pods, "one", "pid", "mnt") != namespaces(pods, "two", "pid", "mnt")
    assert inside(pods, "hostname") == "podname"
    pods("exec", "--detach", "one", "sh", "-c", "echo served >/index.html; httpd -f -p 80 -h /").ok()
    eventually(lambda: pods("exec", "two", "wget", "-qO-", "http://127.0.0.1/index.html").out == "served\n")
    pods("pod", "pause", "pod").ok()
    assert state(pods)["Status"] == "paused"
    pods("pod", "unpause", "pod").ok()
    pods("pod", "stop", "--time", "1", "pod").ok()
    assert state(pods)["Status"] == "exited"
    pods("pod", "start", "pod").ok()
    assert state(pods, "two")["Status"] == "running"
    pods("pod", "rm", "--force", "--time", "0", "pod").ok()


def test_pod_share_pid(pods: Engine) -> None:
    """A pod can share processes too."""
    pods("pod", "create", "--name", "pod", "--share", "pid,net,ipc,uts").ok()
    background(pods, "--pod", "pod")
    background(pods, "--pod", "pod", name="two")
    assert namespaces(pods, "one", "pid") == namespaces(pods, "two", "pid")
    assert inside(pods, "ps").count("sleep 1000") == 2
    pods("rm", "--force", "--time", "0", "two").ok()
    assert state(pods)["Status"] == "running"


def test_pod_limits(pods: Engine) -> None:
    """The limits of a pod are above those of its containers."""
    pods("pod", "create", "--name", "pod", "--memory", "64m", "--cpus", "0.5").ok()
    background(pods, "--pod", "pod", "--memory", "32m", "--memory-swap", "32m")
    path = next(
        line.split(":", 2)[2]
        for line in Path(f"/proc/{state(pods)['Pid']}/cgroup").read_text().splitlines()
        if line.split(":", 2)[1] in ("memory", "")
    )
    above = Path(f"/sys/fs/cgroup/memory{path}").parent / "memory.limit_in_bytes"
    if not above.exists():
        above = Path(f"/sys/fs/cgroup{path}").parent / "memory.max"
    assert above.read_text().strip() == str(64 << 20)
    assert limit(pods, "memory/memory.limit_in_bytes", "memory.max") == str(32 << 20)


@needs_netfilter
def test_kube_play(pods: Engine, scratch: Path) -> None:
    """A pod from Kubernetes' file: containers, volume, limits, security; and down again."""
    (scratch / "shared").mkdir()
    file = scratch / "pod.yaml"
    file.write_text(POD.format(path=scratch / "shared"))
    pods("kube", "play", file).ok()
    in_log(pods, "hello from kubernetes", "play-client")
    assert limit(pods, "memory/memory.limit_in_bytes", "memory.max", "play-web") == str(64 << 20)
    assert inside(pods, "id", "-u", name="play-client") == "1000"
    pods("exec", "play-client", "touch", "/new").fails(words="read-only file system")
    status = Path(f"/proc/{inspect(pods, 'play-web')['State']['Pid']}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000400" in status
    pods("kube", "down", file).ok()
    assert pods("ps", "--all", "--quiet").ok().text == ""
