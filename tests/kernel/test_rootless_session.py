# SPDX-License-Identifier: Apache-2.0
"""An ordinary user with a session of systemd's: in a delegated scope, with both cgroup managers.

Called by root, who becomes the user "user" of the machine of tests/vm.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.cgroup import ROOT
from support.command import ENVIRONMENT, RuntimeCommand

pytestmark = [
    pytest.mark.root,
    pytest.mark.systemd,
    pytest.mark.skipif(not os.path.exists("/run/vm/as-user"), reason="machine: no systemd with a session"),
    pytest.mark.ocirun_only("about our own managers"),
]
AS_USER = "/run/vm/as-user"
MkBundle = Callable[..., Bundle]
MANAGERS = ("cgroupfs", "systemd")


@pytest.fixture
def session(runtime: RuntimeCommand, workdir: Path) -> Iterator[RuntimeCommand]:
    """The runtime as the user calls it in a scope of its session."""
    home = workdir / "home"
    home.mkdir(mode=0o700)
    account = pwd.getpwnam("user")
    os.chown(home, account.pw_uid, account.pw_gid)
    command = RuntimeCommand(runtime.name, runtime.argv, workdir)
    command.wrapper = (AS_USER,)
    command.root = home / "state"
    yield command
    command.cleanup()


@pytest.fixture
def users_bundle(mkbundle: MkBundle) -> Bundle:
    """A bundle of the user's, with all its ids, that waits."""
    account = pwd.getpwnam("user")
    bundle = mkbundle()
    mappings = [
        {"containerID": 0, "hostID": account.pw_uid, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 65536},
    ]
    bundle.namespaces("user").linux(uidMappings=mappings, gidMappings=mappings)
    for path in (bundle.path, *bundle.path.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return bundle.seq("ready", ["sleep", 1000])


def own_cgroup(pid: int) -> Path:
    """Return the version 2 cgroup of a process."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().split()
    return ROOT / line.removeprefix("0::/")


def systemctl(*words: str) -> str:
    """Ask the user's systemd."""
    done = subprocess.run(
        [AS_USER, "systemctl", "--user", *words], capture_output=True, timeout=60, env=ENVIRONMENT, check=False
    )
    return done.stdout.decode()


@pytest.mark.parametrize("manager", MANAGERS)
def test_limits_and_life(session: RuntimeCommand, users_bundle: Bundle, manager: str) -> None:
    """Every controller is the user's there: limits are in force, the container is frozen, and nothing is left.

    What the cgroupfs manager switches on beside the scope of its caller systemd may switch off again with the next unit
    that comes or goes, and does so with cpu: docs/rootless.md.
    """
    resources = {"memory": {"limit": 1 << 26}, "pids": {"limit": 20}}
    if manager == "systemd":
        resources["cpu"] = {"quota": 50000, "period": 100000}
    users_bundle.linux(resources=resources)
    options = ["--cgroup-manager", manager]
    container = session.create(users_bundle, options=options).start()
    container.line()
    cgroup = own_cgroup(container.pid)
    assert "/user@1000.service/" in str(cgroup)
    assert (cgroup / "memory.max").read_text() == f"{1 << 26}\n"
    assert (cgroup / "pids.max").read_text() == "20\n"
    if manager == "systemd":
        assert (cgroup / "cpu.max").read_text() == "50000 100000\n"
        assert "MemoryMax=67108864" in systemctl("show", cgroup.name, "-p", "MemoryMax")
    session.call("pause", users_bundle.id).ok()
    assert container.status() == "paused"
    session.call("resume", users_bundle.id).ok()
    container.kill("KILL").ok()
    container.wait()
    container.delete().ok()
    assert not cgroup.exists()
    if manager == "systemd":
        assert "LoadState=not-found" in systemctl("show", cgroup.name, "-p", "LoadState")


@pytest.mark.parametrize("manager", MANAGERS)
def test_cgroup_of_its_own_inside(session: RuntimeCommand, users_bundle: Bundle, manager: str) -> None:
    """In a cgroup namespace with a writable mount the container's root makes cgroups; the user's others are hidden."""
    users_bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup")
    users_bundle.seq(
        "report",
        ["read", "/proc/self/cgroup"],
        ["create", "/sys/fs/cgroup/cgroup.type", "x"],
        ["open", "/sys/fs/cgroup/cgroup.procs", "wronly"],
        ["ls", "/sys/fs/cgroup"],
    )
    result = session.run(users_bundle, options=["--cgroup-manager", manager]).ok()
    assert result.reads["/proc/self/cgroup"] == "0::/\n"
    assert result.outcomes("open") == {"/sys/fs/cgroup/cgroup.procs": "ok"}
    assert not any(name.endswith((".scope", ".slice")) for name in result.one("ls")["names"])


def test_probe_in_a_session(session: RuntimeCommand) -> None:
    """All controllers are delegated there, and nothing is to be remedied."""
    cgroup = json.loads(session.call("features", "--probe").ok().stdout)["host"]["cgroup"]
    assert set(cgroup["delegatedControllers"]) >= {"cpu", "cpuset", "io", "memory", "pids"}
    assert "missingControllers" not in cgroup


def test_controller_that_is_not_delegated(session: RuntimeCommand, users_bundle: Bundle) -> None:
    """The error of a limit says which drop-in root has to write."""
    users_bundle.linux(resources={"rdma": {"nobody0": {"hcaHandles": 1}}})
    result = session.run(users_bundle)
    result.refused("/linux/resources/rdma", "hint:", "/etc/systemd/system/user@.service.d/delegate.conf", "Delegate=")
