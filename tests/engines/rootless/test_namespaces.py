# SPDX-License-Identifier: Apache-2.0
"""Namespaces that a user's containers have, share and lack; networks and pods."""

from __future__ import annotations

import os
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.user import User

RUN = ("run", "--rm", "--network", "none")
START = ("run", "-d", "--network", "none")


def namespace(podman: Engine, kind: str, *words: str) -> str:
    """The namespace of that kind of a new container."""
    return podman(*RUN, *words, "busybox", "readlink", f"/proc/self/ns/{kind}").ok().text


@pytest.mark.core
def test_net_host(podman: Engine) -> None:
    """--network host: the interfaces, ports and host name are those of whoever calls."""
    words = ("run", "--rm", "--network", "host", "busybox", "sh", "-c", "readlink /proc/self/ns/net; hostname; ls /sys/class/net")
    done = podman(*words).ok().lines
    assert done == [os.readlink("/proc/self/ns/net"), socket.gethostname(), *sorted(os.listdir("/sys/class/net"))]


def test_net_none(podman: Engine) -> None:
    """--network none: a loopback that is up, and nothing else."""
    done = podman(*RUN, "busybox", "sh", "-c", "ls /sys/class/net; ping -c 1 -W 9 127.0.0.1 >/dev/null && echo up").ok()
    assert done.lines == ["lo", "up"]


def test_net_slirp(podman: Engine) -> None:
    """The user's own network: out to the host, and in from it through a published port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer = server.accept()[0]
            peer.sendall(b"from outside\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        words = ("run", "--rm", "--network", "slirp4netns:allow_host_loopback=true", "busybox", "nc", "10.0.2.2")
        assert podman(*words, str(server.getsockname()[1])).ok().text == "from outside"
        thread.join()
    words = ("run", "-d", "--network", "slirp4netns", "-p", "127.0.0.1:18080:80", "busybox", "sh", "-c")
    podman(*words, "mkdir /www; echo from inside >/www/index.html; exec httpd -f -p 80 -h /www").ok()

    def fetch() -> bytes | None:
        try:
            with urllib.request.urlopen("http://127.0.0.1:18080/", timeout=5) as page:
                return page.read()  # type: ignore[no-any-return]  # the module has no type for it
        except (urllib.error.URLError, ConnectionError):
            return None  # the server is not there yet

    assert eventually(fetch) == b"from inside\n"


def test_net_container(podman: Engine) -> None:
    """--network container: two containers have one network, and processes of their own."""
    podman(*START, "--name", "it", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc").ok()
    words = ("run", "--rm", "--network", "container:it", "busybox", "sh", "-c")
    done = eventually(lambda: (done := podman(*words, "wget -q -O - http://127.0.0.1/group; ls -d /proc/[0-9]*")).rc == 0 and done)
    assert "root:x:0:" in done.lines and "/proc/1" in done.lines


@pytest.mark.core
def test_pid_host(podman: Engine) -> None:
    """--pid host: the container sees the processes of whoever calls, and its signals do not reach them."""
    words = (*RUN, "--pid", "host", "busybox", "sh", "-c")
    me = str(os.getpid())
    assert podman(*words, f"readlink /proc/self/ns/pid; [ -d /proc/{me} ] && kill -0 {me}").fails(1).lines == [
        os.readlink("/proc/self/ns/pid")
    ]
    podman(*START, "--name", "it", "--pid", "host", "busybox", "sleep", "1000").ok()
    assert podman("exec", "it", "readlink", "/proc/self/ns/pid").ok().text == os.readlink("/proc/self/ns/pid")
    podman("rm", "--force", "--time", "0", "it").ok()


def test_pid_container(podman: Engine) -> None:
    """--pid container: the processes of the other container, which exec sees as well."""
    podman(*START, "--name", "it", "busybox", "sleep", "1000").ok()
    podman(*START, "--name", "beside", "--pid", "container:it", "busybox", "sleep", "1001").ok()
    for name in ("it", "beside"):
        processes = podman("exec", name, "ps", "-o", "args").ok().lines
        assert {"sleep 1000", "sleep 1001"} <= set(processes)
    script = r"kill -9 $(ps -o pid,args | sed -n 's/^ *\([0-9]*\) sleep 1001$/\1/p')"
    podman("exec", "it", "sh", "-c", script).ok()
    assert podman("wait", "beside").ok().text == "137"
    assert podman("exec", "it", "echo", "there").ok().text == "there"
    podman("rm", "beside").ok()  # the one that depends on the other first


def test_ipc_uts(podman: Engine) -> None:
    """--ipc and --uts: of the container's own, the host's, or another container's."""
    for kind, option in (("ipc", "--ipc"), ("uts", "--uts")):
        mine = os.readlink(f"/proc/self/ns/{kind}")
        assert namespace(podman, kind) != mine
        assert namespace(podman, kind, option, "host") == mine
    podman(*START, "--name", "it", "--ipc", "shareable", "busybox", "sh", "-c", "echo shared >/dev/shm/x; exec sleep 1000").ok()
    theirs = podman("exec", "it", "readlink", "/proc/self/ns/ipc").ok().text
    assert namespace(podman, "ipc", "--ipc", "container:it") == theirs
    assert eventually(lambda: podman(*RUN, "--ipc", "container:it", "busybox", "cat", "/dev/shm/x").out) == "shared\n"


@pytest.mark.core
def test_pod(podman: Engine) -> None:
    """A pod: containers that share network, IPC and host name, and end together."""
    podman("pod", "create", "--name", "pod", "--network", "none", "--hostname", "together").ok()
    podman("run", "-d", "--pod", "pod", "--name", "server", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc").ok()
    words = ("run", "--rm", "--pod", "pod", "busybox", "sh", "-c", "hostname; wget -q -O - http://127.0.0.1/hostname")
    done = eventually(lambda: (done := podman(*words)).rc == 0 and done)
    assert done.lines == ["together", "together"]
    podman("run", "-d", "--pod", "pod", "--name", "beside", "busybox", "sleep", "1000").ok()
    links = [podman("exec", name, "readlink", "/proc/self/ns/net", "/proc/self/ns/ipc") for name in ("server", "beside")]
    assert links[0].out == links[1].out
    podman("pod", "stop", "--time", "0", "pod").ok()
    assert podman("ps", "--quiet").ok().out == ""
    podman("pod", "start", "pod").ok()
    assert podman("exec", "beside", "hostname").ok().text == "together"
    podman("pod", "rm", "--force", "--time", "0", "pod").ok()


def test_pod_share_pid(podman: Engine) -> None:
    """A pod that shares its processes: the pod's own is number 1."""
    podman("pod", "create", "--name", "pod", "--network", "none", "--share", "pid,net,ipc,uts").ok()
    podman("run", "-d", "--pod", "pod", "--name", "it", "busybox", "sleep", "1000").ok()
    assert "sleep 1000" not in podman("exec", "it", "cat", "/proc/1/cmdline").ok().out.replace("\0", " ")
    assert "sleep 1000" in podman("exec", "it", "ps", "-o", "args").ok().lines


def test_kube_play(podman: Engine, user: User) -> None:
    """A pod as Kubernetes describes it."""
    path = user.home / "pod.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: kube}\nspec:\n  hostNetwork: true\n  containers:\n"
        "  - name: one\n    image: localhost/busybox:latest\n    imagePullPolicy: Never\n    command: [sleep, '1000']\n"
        "    env: [{name: GREETING, value: hello}]\n    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}\n"
    )
    path.chmod(0o644)
    podman("play", "kube", path).ok()
    done = podman("exec", "kube-one", "sh", "-c", "echo $GREETING; id -u; touch /x || echo refused").ok()
    assert done.lines == ["hello", "1000", "refused"]
    podman("play", "kube", "--down", path).ok()
    assert Path(path).exists() and podman("pod", "ps", "--quiet").ok().out == ""
