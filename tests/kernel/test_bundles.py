# SPDX-License-Identifier: Apache-2.0
"""Every example bundle does what bundles/README.md says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import unique
from support.command import Result, RuntimeCommand
from support.report import parse_lines
from support.terminal import ConsoleSocket, read_terminal

pytestmark = pytest.mark.root
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def _mkrootfs() -> Any:
    spec = importlib.util.spec_from_file_location("mkrootfs", BUNDLES / "mkrootfs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Example:
    """Prepares and runs one example."""

    def __init__(self, runtime: RuntimeCommand, workdir: Path) -> None:
        self.runtime = runtime
        self.workdir = workdir
        self.path = workdir
        self.id = unique()

    def run(self, name: str) -> Result:
        self.path = _mkrootfs().prepare(name, self.workdir / name)
        return self.runtime.call("run", "--bundle", str(self.path), self.id)


@pytest.fixture
def example(runtime: RuntimeCommand, workdir: Path) -> Iterator[Example]:
    made = Example(runtime, workdir)
    yield made
    runtime.call("delete", "--force", made.id)


@pytest.mark.peer_fails(runc="needs /proc in the container, which the config does not ask for")
@pytest.mark.peer_fails(crun="needs the member mounts, which the spec makes optional")
def test_minimal(example: Example) -> None:
    """The least configuration that makes a container runs and is silent."""
    result = example.run("minimal").ok()
    assert (result.stdout, result.stderr) == (b"", "")


def test_hello(example: Example) -> None:
    """hello greets."""
    assert example.run("hello").ok().stdout.startswith(b"Hello from a container")


def test_process(example: Example) -> None:
    """process runs as its user, with its limits and its one capability."""
    report = example.run("process").ok().report
    assert report["uids"] == [1000] * 4
    assert report["groups"] == [5, 6]
    assert report["caps"]["ambient"] == 1 << 10
    assert report["rlimits"]["RLIMIT_NOFILE"] == [256, 512]
    assert report["umask"] == 0o027
    assert report["oom_score_adj"] == "100\n"
    assert report["raw_cwd"] == "/tmp"


@pytest.mark.userns
def test_userns(example: Example) -> None:
    """userns has the id map of its configuration."""
    reads = example.run("userns").ok().reads
    assert reads["/proc/self/uid_map"].split() == ["0", "100000", "65536"]


@pytest.mark.peer_fails(runc="1.1 has no time namespaces")
@pytest.mark.kernel("5.6")
def test_time(example: Example) -> None:
    """time is ten days ahead."""
    assert float(example.run("time").ok().reads["/proc/uptime"].split()[0]) > 864000


def test_namespaces_joined(example: Example) -> None:
    """namespaces-joined shows the interfaces of the network namespace it joins."""
    # The example names it; a run of the tests that was killed may have left it.
    subprocess.run(["ip", "netns", "delete", "ocirun-example"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", "ocirun-example"], check=True)
    try:
        result = example.run("namespaces-joined").ok()
    finally:
        subprocess.run(["ip", "netns", "delete", "ocirun-example"], check=True)
        # "ip netns add" makes the directory a mount of its own
        subprocess.run(["umount", "/run/netns"], check=False, stderr=subprocess.DEVNULL)
    assert "lo" in result.one("netif")["interfaces"]


def test_mounts(example: Example) -> None:
    """mounts shows read-only binds and masked paths."""
    result = example.run("mounts").ok()
    assert result.outcomes("open")["/data/new"] == "EROFS"
    assert result.reads["/data/note.txt"].startswith("This file comes")
    assert result.reads["/masked/secret.txt"] == ""
    assert result.one("ls")["names"] == []


@pytest.mark.kernel("6.3")
@pytest.mark.peer_fails(runc="1.1 has no id-mapped mounts")
@pytest.mark.peer_fails(crun="does not know specification 1.1 and later")
def test_idmapped(example: Example) -> None:
    """idmapped shows one file under two owners, and its mount to whom it is mapped."""
    result = example.run("idmapped").ok()
    assert [result.files[f"/{name}/note.txt"]["uid"] for name in ("data", "mapped")] == [0, 1000]
    assert result.reads["/mapped/note.txt"].startswith("The file belongs")


def test_devices(example: Example) -> None:
    """devices makes the nodes with owner and mode."""
    files = example.run("devices").ok().files
    assert files["/dev/example/zero"]["rdev"] == [1, 5]
    assert (files["/dev/example/zero"]["mode"], files["/dev/example/zero"]["gid"]) == (0o640, 1000)
    assert files["/dev/example/pipe"]["type"] == "fifo"


@pytest.mark.peer_fails(runc="1.1 does not know domainname")
@pytest.mark.peer_fails(crun="1.8.1 does not know domainname")
def test_sysctl(example: Example) -> None:
    """sysctl sets kernel parameters and names."""
    reads = example.run("sysctl").ok().reads
    assert reads["/proc/sys/net/ipv4/ip_unprivileged_port_start"] == "80\n"
    assert reads["/proc/sys/kernel/msgmax"] == "16384\n"
    assert reads["/proc/sys/kernel/hostname"] == "example\n"
    assert reads["/proc/sys/kernel/domainname"] == "example.org\n"


def test_limits(example: Example) -> None:
    """limits stops a fork bomb at twenty processes."""
    assert example.run("limits").ok().one("fork") == {
        "verb": "fork",
        "made": 19,
        "errno": "EAGAIN",
    }


def test_seccomp(example: Example) -> None:
    """seccomp answers the errno of the profile, and allows the rest."""
    result = example.run("seccomp").ok()
    first, second = result.all("syscall")
    assert first["errno"] == "EOPNOTSUPP"
    assert second["ret"] == 1


def test_hooks(example: Example) -> None:
    """hooks runs all six kinds in order."""
    result = example.run("hooks").ok()
    inside = parse_lines(result.reads["/hooks.log"].encode())
    assert [line["tag"] for line in inside] == ["startContainer"]
    log = parse_lines((example.path / "hooks.log").read_bytes())
    assert [line["tag"] for line in log] == [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ]
    assert all(json.loads(line["stdin"])["id"] == example.id for line in log)


def test_terminal(example: Example, runtime: RuntimeCommand, workdir: Path) -> None:
    """terminal gets a pseudo-terminal of the configured size."""
    path = _mkrootfs().prepare("terminal", workdir / "terminal")
    with ConsoleSocket(workdir / "console") as console:
        runtime.call("create", "--bundle", str(path), "--console-socket", str(console.path), example.id).ok()
        master = console.receive()
        runtime.call("start", example.id).ok()
        (report,) = parse_lines(read_terminal(master))
    assert [entry["tty"] for entry in report["stdio"]] == [True] * 3
    assert (report["stdio"][0]["rows"], report["stdio"][0]["cols"]) == (33, 101)
