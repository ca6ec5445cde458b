# SPDX-License-Identifier: Apache-2.0
"""Networks."""

from __future__ import annotations

import os
import urllib.request

from harness.docker import Docker
from harness.engine import eventually

ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
SERVE = "mkdir /www; echo words >/www/index.html; exec httpd -f -p 80 -h /www"


def interfaces(docker: Docker, *options: str) -> set[str]:
    return set(docker("run", "--rm", *options, "busybox", "ls", "/sys/class/net").ok().out.split())


def test_net_none(docker: Docker) -> None:
    """--network none: loopback, and it is up."""
    assert interfaces(docker, "--network", "none") == {"lo"}
    docker("run", "--rm", "--network", "none", "busybox", "ping", "-c", "1", "127.0.0.1").ok()


def test_net_host(docker: Docker) -> None:
    """--network host: what the host has."""
    assert interfaces(docker, "--network", "host") == set(os.listdir("/sys/class/net"))
    inside = docker("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").ok().text
    assert inside == os.readlink("/proc/self/ns/net")


def test_net_bridge_ping(docker: Docker) -> None:
    """Two containers on the bridge reach each other and the host."""
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    docker("run", "--rm", "busybox", "ping", "-c", "1", "-w", "20", docker.look("one", ADDRESS)).ok()
    docker("exec", "one", "ping", "-c", "1", "-w", "20", docker.look("one", "{{.NetworkSettings.Gateway}}")).ok()
    assert interfaces(docker) == {"lo", "eth0"}


def test_net_custom_dns(docker: Docker) -> None:
    """On a network of one's own, containers know each other by name; others do not reach them."""
    docker("network", "create", "own").ok()
    docker.up("--name", "one", "--network", "own", "--network-alias", "web", "busybox", "sh", "-c", SERVE)
    script = "until wget -qO- http://web/; do sleep 0.05; done"
    assert docker("run", "--rm", "--network", "own", "busybox", "sh", "-c", script).ok().text == "words"
    assert docker("run", "--rm", "--network", "own", "busybox", "nslookup", "one").ok().out.count(docker.look("one", ADDRESS)) == 1
    docker("run", "--rm", "busybox", "ping", "-c", "1", "-w", "2", docker.look("one", ADDRESS)).fails(1)


def test_net_connect_live(docker: Docker) -> None:
    """A container that runs is connected to another network, and taken off it."""
    docker("network", "create", "own").ok()
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    docker("network", "connect", "own", "one").ok()
    assert set(docker("exec", "one", "ls", "/sys/class/net").ok().out.split()) == {"lo", "eth0", "eth1"}
    docker("network", "disconnect", "own", "one").ok()
    assert set(docker("exec", "one", "ls", "/sys/class/net").ok().out.split()) == {"lo", "eth0"}


def test_net_publish(docker: Docker) -> None:
    """A published port answers on the host."""
    docker.up("--name", "one", "--publish", "127.0.0.1::80", "busybox", "sh", "-c", SERVE)
    address = docker("port", "one", "80").ok().lines[0]

    def answer() -> bytes:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as page:
                return bytes(page.read())
        except OSError:
            return b""

    assert eventually(answer, "no answer") == b"words\n"


def test_net_container(docker: Docker) -> None:
    """--network container: the same interfaces and the same ports."""
    docker.up("--name", "one", "busybox", "sh", "-c", SERVE)
    script = "until wget -qO- http://127.0.0.1/; do sleep 0.05; done; readlink /proc/self/ns/net"
    done = docker("run", "--rm", "--network", "container:one", "busybox", "sh", "-c", script).ok()
    assert done.lines == ["words", docker("exec", "one", "readlink", "/proc/self/ns/net").ok().text]
