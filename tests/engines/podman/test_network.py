# SPDX-License-Identifier: Apache-2.0
"""Networks."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator

import pytest
from harness.engine import Engine, eventually
from harness.podman import background, inside, inspect, needs_netfilter, state


@pytest.fixture
def network(podman: Engine) -> Iterator[str]:
    """A network of the user's."""
    podman("network", "create", "lan").ok()
    yield "lan"
    podman("network", "rm", "--force", "--time", "0", "lan").ok()


def interfaces(podman: Engine, *words: str) -> set[str]:
    """Return the names of the interfaces in a container with these options."""
    return set(podman("run", "--rm", *words, "busybox", "ls", "/sys/class/net").ok().out.split())


def test_net_none(podman: Engine) -> None:
    """Only loopback, and it is up."""
    assert interfaces(podman, "--network", "none") == {"lo"}
    podman("run", "--rm", "--network", "none", "busybox", "ping", "-c", "1", "-W", "5", "127.0.0.1").ok()


def test_net_host(podman: Engine) -> None:
    """The host's network."""
    background(podman, "--network", "host")
    assert os.readlink(f"/proc/{state(podman)['Pid']}/ns/net") == os.readlink("/proc/self/ns/net")
    assert set(inside(podman, "ls", "/sys/class/net").split()) == set(os.listdir("/sys/class/net"))


@needs_netfilter
def test_net_bridge_ping(podman: Engine) -> None:
    """Two containers and the host reach each other over the bridge."""
    background(podman)
    address = inspect(podman)["NetworkSettings"]["IPAddress"]
    gateway = inspect(podman)["NetworkSettings"]["Gateway"]
    assert interfaces(podman) == {"lo", "eth0"}
    for one in (address, gateway):
        podman("run", "--rm", "busybox", "ping", "-c", "1", "-W", "10", one).ok()


@needs_netfilter
def test_net_custom_dns(podman: Engine, network: str) -> None:
    """On a network of the user's, containers find each other by name."""
    background(podman, "--network", network)
    words = ("run", "--rm", "--network", network, "busybox")
    eventually(lambda: podman(*words, "ping", "-c", "1", "-W", "5", "one").rc == 0, "no answer by name")
    dns = podman("run", "--rm", "--dns", "192.0.2.1", "--dns-search", "example.org", "busybox", "cat", "/etc/resolv.conf").ok()
    assert "nameserver 192.0.2.1" in dns.out
    assert "search example.org" in dns.out
    hosts = podman("run", "--rm", "--add-host", "other:192.0.2.7", "busybox", "cat", "/etc/hosts").ok()
    assert "192.0.2.7\tother" in hosts.out


@needs_netfilter
def test_net_publish(podman: Engine) -> None:
    """A published port serves the host."""
    script = "mkdir /www; echo served >/www/index.html; exec httpd -f -p 80 -h /www"
    podman("run", "--detach", "--name", "one", "--publish", "127.0.0.1::80", "busybox", "sh", "-c", script).ok()
    where = podman("port", "one", "80").ok().text

    def served() -> bool:
        try:
            with urllib.request.urlopen(f"http://{where}/", timeout=5) as answer:
                return bool(answer.read() == b"served\n")
        except OSError:
            return False

    eventually(served, f"nothing served at {where}")


@needs_netfilter
def test_net_container(podman: Engine) -> None:
    """One container in another's network."""
    background(podman)
    background(podman, "--network", "container:one", name="two")
    namespaces = {os.readlink(f"/proc/{state(podman, name)['Pid']}/ns/net") for name in ("one", "two")}
    assert len(namespaces) == 1
    podman("rm", "--force", "--time", "0", "two").ok()
    assert "eth0" in inside(podman, "ls", "/sys/class/net")
