# SPDX-License-Identifier: Apache-2.0
"""linux.sysctl."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def test_namespaced_parameters(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Parameters of the container's own namespaces are set, with either separator in the key."""
    wanted = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.lo.forwarding": "1",
        "net/ipv4/ip_unprivileged_port_start": "80",
        "net/ipv4/conf/all.x/forwarding": None,
        "kernel.msgmax": "16000",
        "kernel.sem": "100 200 300 400",
        "kernel.shm_rmid_forced": "1",
        "fs.mqueue.msg_max": "20",
    }
    sysctl = {key: value for key, value in wanted.items() if value is not None}
    paths = {key: "/proc/sys/" + key.replace(".", "/") for key in sysctl}
    bundle.linux(sysctl=sysctl).seq(*(["read", path] for path in paths.values()))
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    reads = runtime.run(bundle).ok().reads
    assert {key: reads[path].split() for key, path in paths.items()} == {
        key: value.split() for key, value in sysctl.items()
    }
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before


FORBIDDEN = [
    "kernel.core_pattern",
    "kernel.pid_max",
    "kernel.hostname.x",
    "vm.swappiness",
    "fs.file-max",
    "user.max_user_namespaces",
    "dev.cdrom.info",
    "net",
    "net.",
    "",
    "../kernel/core_pattern",
    "net/../kernel/core_pattern",
    "net.ipv4/../../kernel.core_pattern",
    "/net/ipv4/ip_forward",
    "net//ipv4/ip_forward",
    "net..ipv4.ip_forward",
    "kernel.msgmax/../core_pattern",
    "fs/mqueue/../file-max",
    "kernel.shm",
    "netx.ipv4",
]


@pytest.mark.ocirun_only("not all of these keys are checked")
def test_forbidden_keys(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-17, S-18: keys that are not the container's own, and odd spellings, are refused."""
    for key in FORBIDDEN:
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        result = runtime.run(mkbundle().linux(sysctl={key: "1"}))
        assert result.rc != 0, key
        result.refused("sysctl")
        assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("kernel.core_pattern", None),
        ("vm.swappiness", None),
        ("fs.file-max", None),
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.hostname", "uts"),
        ("kernel.domainname", "uts"),
    ],
)
def test_key_needs_its_namespace(runtime: RuntimeCommand, bundle: Bundle, key: str, kind: str | None) -> None:
    """S-18: without the namespace that it belongs to a parameter is the host's, and is refused."""
    if kind is not None:
        bundle.namespaces(without=(kind,))
    if kind == "uts":
        bundle.patch({"hostname": None})
    path = Path("/proc/sys", key.replace(".", "/"))
    before = path.read_text()
    runtime.run(bundle.linux(sysctl={key: "1"})).refused()
    assert path.read_text() == before


def test_the_hosts_namespace_by_path_is_the_hosts(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-18: a path to the host's own network namespace does not make its parameters ours."""
    bundle.namespaces({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    runtime.run(bundle.linux(sysctl={"net.ipv4.ip_forward": "1"})).refused()


def test_values_that_cannot_be(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """A parameter that does not exist, and a value that the kernel refuses, fail the create."""
    for sysctl in ({"net.ipv4.no_such_thing": "1"}, {"net.ipv4.ip_forward": "not a number"}):
        runtime.run(mkbundle().linux(sysctl=sysctl)).refused(next(iter(sysctl)).split(".")[-1])


def test_hostname_by_sysctl_conflicts(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-18: kernel.hostname that contradicts hostname is refused."""
    runtime.run(bundle.linux(sysctl={"kernel.hostname": "other"})).refused("hostname")


def test_overmounted_proc_sys_of_the_host(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-17, CVE-2025-52881: a file mounted over the host's /proc/sys is not written to."""
    fake = Path("/proc/sys/net")
    os.system(f"mount -t tmpfs canary {fake}")
    try:
        (fake / "ipv4").mkdir()
        (fake / "ipv4/ip_forward").write_text("canary")
        bundle.linux(sysctl={"net.ipv4.ip_forward": "1"}).seq(["read", "/proc/sys/net/ipv4/ip_forward"])
        result = runtime.run(bundle)
        assert (fake / "ipv4/ip_forward").read_text() == "canary"
        if result.rc == 0:
            assert result.reads["/proc/sys/net/ipv4/ip_forward"] == "1\n"
        else:
            result.refused()
    finally:
        os.system(f"umount {fake}")


def test_sysctl_with_read_only_proc_sys(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The parameters are set although the container sees /proc/sys read-only."""
    bundle.linux(sysctl={"net.ipv4.ip_forward": "1"}, readonlyPaths=["/proc/sys"])
    bundle.seq(["read", "/proc/sys/net/ipv4/ip_forward"], ["write", "/proc/sys/net/ipv4/ip_forward", "0"])
    result = runtime.run(bundle).ok()
    assert result.reads["/proc/sys/net/ipv4/ip_forward"] == "1\n"
    assert result.outcomes("write")["/proc/sys/net/ipv4/ip_forward"] == "EROFS"


@pytest.mark.userns
@pytest.mark.peer_fails(runc="1.1 does not allow user.*", crun="does not allow user.*")
def test_user_parameters(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """user.* belongs to a user namespace."""
    bundle.userns().linux(sysctl={"user.max_user_namespaces": "3"})
    bundle.seq(["read", "/proc/sys/user/max_user_namespaces"])
    assert runtime.run(bundle).ok().reads["/proc/sys/user/max_user_namespaces"] == "3\n"
