# SPDX-License-Identifier: Apache-2.0
"""What the containers of a pod share, with each other and with the host."""

from __future__ import annotations

import os

import pytest
from cri.client import CONTAINER, NODE, POD, TARGET, Container, Cri

KINDS = ("mnt", "pid", "ipc", "uts", "net")


def namespaces(container: Container) -> dict[str, str]:
    """Return a container's namespaces by kind."""
    links = container.shell(f"for kind in {' '.join(KINDS)}; do readlink /proc/self/ns/$kind; done").split()
    return dict(zip(KINDS, links, strict=True))


def common(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Return the kinds that two have in common."""
    return {kind for kind in KINDS if one[kind] == other[kind]}


def test_pod_hostname_sysctl_dns(cri: Cri) -> None:
    """The pod's host name, sysctls and name servers are its containers'."""
    pod = cri.pod(
        hostname="tests-pod",
        dns_config={"servers": ["10.1.2.3"], "searches": ["example.org"], "options": ["ndots:3"]},
        linux={"sysctls": {"net.ipv4.ip_local_port_range": "40000 50000", "kernel.shm_rmid_forced": "1"}},
    )
    container = pod.run("sleep", "1000")
    assert container.shell("hostname; cat /etc/hostname; echo $HOSTNAME").split() == ["tests-pod"] * 3
    assert container.shell("cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced").split() == ["40000", "50000", "1"]
    assert container.shell("cat /etc/resolv.conf").split("\n")[:3] == ["search example.org", "nameserver 10.1.2.3", "options ndots:3"]


def test_shared_ns(cri: Cri) -> None:
    """Two containers of a pod share network, IPC and host name, and /dev/shm; not processes nor files."""
    pod = cri.pod(linux={"security_context": {"namespace_options": {"pid": CONTAINER}}})
    one, two = (pod.run("sleep", "1000", name=name) for name in ("one", "two"))
    assert common(namespaces(one), namespaces(two)) == {"ipc", "uts", "net"}
    one.shell("echo shared >/dev/shm/x; echo own >/tmp/x")
    assert two.shell("cat /dev/shm/x; ls /tmp") == "shared\n"
    other = cri.pod("other", linux=pod.config["linux"]).run("sleep", "1000")
    assert common(namespaces(one), namespaces(other)) == set()


def test_pod_pid_ns(cri: Cri) -> None:
    """With the pod's PID namespace all of them see each other, and the pause process is the first."""
    pod = cri.pod(linux={"security_context": {"namespace_options": {"pid": POD}}})
    one, two = (pod.run("sleep", number, name=f"c{number}") for number in ("1111", "2222"))
    assert "pid" in common(namespaces(one), namespaces(two))
    seen = one.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 1111" in seen
    assert "sleep 2222" in seen
    assert "/probe" in one.shell("tr '\\0' ' ' </proc/1/cmdline")
    two.stop()
    assert one.exec("true")[2] == 0


def test_target_pid_ns(cri: Cri) -> None:
    """`kubectl debug --target`: a container in another one's PID namespace."""
    pod = cri.pod(linux={"security_context": {"namespace_options": {"pid": CONTAINER}}})
    target = pod.run("sleep", "1111", name="target")
    security = {"namespace_options": {"pid": TARGET, "target_id": target.id}}
    debugger = pod.run("sleep", "2222", name="debugger", linux={"security_context": security})
    assert common(namespaces(target), namespaces(debugger)) == {"pid", "ipc", "uts", "net"}
    assert debugger.shell("tr '\\0' ' ' </proc/1/cmdline") == "sleep 1111 "
    debugger.stop()
    assert target.exec("true")[2] == 0


def test_host_ns(cri: Cri) -> None:
    """The host's network, processes and IPC."""
    options = {"network": NODE, "pid": NODE, "ipc": NODE}
    pod = cri.pod(linux={"security_context": {"namespace_options": options}})
    container = pod.run("sleep", "1000")
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}
    assert {"pid", "ipc", "net"} <= common(namespaces(container), ours)
    assert f"{os.getpid()}\n" in container.shell("ls /proc") + "\n"
    assert pod.ip == ""
    container.stop()


@pytest.mark.core
def test_pod_network_ping(cri: Cri) -> None:
    """Every pod has an address; one reaches the other and the gateway."""
    one, two = (cri.pod(name) for name in ("one", "two"))
    assert one.ip.startswith("10.89.0.")
    assert one.ip != two.ip
    container = one.run("sleep", "1000")
    assert f" {one.ip}/24 " in container.shell("ip -o -4 addr show eth0")
    for address in (two.ip, "10.89.0.1"):
        container.shell(f"ping -c 1 -W 20 {address}")
