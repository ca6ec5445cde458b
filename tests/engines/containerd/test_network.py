# SPDX-License-Identifier: Apache-2.0
"""Networks and namespaces of others."""

from __future__ import annotations

import os
import subprocess

from harness.containerd import IMAGE, Ctr


def test_net_host(ctr: Ctr) -> None:
    """The host's network is the container's."""
    done = ctr.run("--rm", "--net-host", IMAGE, "host", "sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net").ok()
    assert done.lines[0] == os.readlink("/proc/self/ns/net")
    assert set(done.lines[1:]) == set(os.listdir("/sys/class/net"))
    done = ctr.run("--rm", IMAGE, "own", "sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net; ip -o addr show lo").ok()
    assert done.lines[0] != os.readlink("/proc/self/ns/net")
    assert done.lines[1] == "lo"


def test_with_ns(ctr: Ctr) -> None:
    """Namespaces that exist already are joined, and stay."""
    subprocess.run(["ip", "netns", "add", "tests"], check=True)
    try:
        ctr.start(IMAGE, "first", "sleep", "1000")
        pid = ctr.pid("first")
        words = ("--with-ns", "network:/run/netns/tests", "--with-ns", f"pid:/proc/{pid}/ns/pid", "--with-ns", f"uts:/proc/{pid}/ns/uts")
        script = "cat /proc/1/comm; for ns in pid uts net ipc; do readlink /proc/self/ns/$ns; done"
        done = ctr.run("--rm", *words, IMAGE, "second", "sh", "-c", script).ok()
        assert done.lines[0] == "sleep"
        first = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("pid", "uts", "net", "ipc")]
        assert done.lines[1:3] == first[:2]
        assert done.lines[3] == f"net:[{os.stat('/run/netns/tests').st_ino}]"
        assert done.lines[4] != first[3]
        assert ctr.status("first") == "RUNNING"
    finally:
        subprocess.run(["ip", "netns", "del", "tests"], check=True)


def test_cni(ctr: Ctr) -> None:
    """With --cni a container has an address on the bridge and reaches its gateway."""
    done = ctr.run("--rm", "--cni", IMAGE, "bridged", "sh", "-c", "ip -o -4 addr show eth0; ip route; ping -c 1 -W 20 10.89.0.1").ok()
    assert " 10.89.0." in done.lines[0]
    assert done.lines[1].startswith("default via 10.89.0.1 dev eth0")
    assert "1 packets received" in done.out
