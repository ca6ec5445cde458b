# SPDX-License-Identifier: Apache-2.0
"""What the markers promise is there: the tests that depend on it would otherwise fail for reasons of their own."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import subprocess
from pathlib import Path

import pytest

CGROUPS = Path("/sys/fs/cgroup")


def own_cgroup() -> Path:
    """Return the directory of this process's cgroup in version 2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return CGROUPS / next(line for line in lines if line.startswith("0::")).removeprefix("0::").lstrip("/")


@pytest.mark.unified
@pytest.mark.root
def test_unified() -> None:
    """There is version 2 alone, with the controllers that have limits."""
    assert {line.partition(":")[0] for line in Path("/proc/self/cgroup").read_text().splitlines()} == {"0"}
    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set((CGROUPS / "cgroup.controllers").read_text().split())


@pytest.mark.sys_resource
@pytest.mark.root
def test_sys_resource() -> None:
    """A hard limit can be raised, which takes CAP_SYS_RESOURCE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.systemd
@pytest.mark.root
def test_systemd() -> None:
    """systemd answers on the system bus, and has nothing that failed."""
    done = subprocess.run(["systemctl", "is-system-running", "--wait"], check=False, capture_output=True, text=True)
    assert done.stdout == "running\n", done


@pytest.mark.rootless
def test_ordinary_user() -> None:
    """The user has no privilege, and subordinate ids that setuid helpers map."""
    user = pwd.getpwuid(os.getuid())
    assert Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0] == "0" * 16
    assert os.environ["HOME"] == user.pw_dir
    assert grp.getgrgid(os.getgid()).gr_name == user.pw_name
    assert 0 not in os.getgroups()
    for kind, helper in (("uid", "newuidmap"), ("gid", "newgidmap")):
        assert any(line.startswith(f"{user.pw_name}:") for line in Path(f"/etc/sub{kind}").read_text().splitlines())
        assert subprocess.run([helper], check=False, capture_output=True).returncode == 1


@pytest.mark.rootless
@pytest.mark.systemd
def test_delegated_scope() -> None:
    """The user has a cgroup of his own, with controllers, below his manager, which answers on his bus."""
    own = own_cgroup()
    assert f"/user@{os.getuid()}.service/" in str(own)
    assert os.access(own / "cgroup.procs", os.W_OK)
    assert {"cpu", "memory", "pids"} <= set((own / "cgroup.controllers").read_text().split())
    done = subprocess.run(["systemctl", "--user", "is-system-running", "--wait"], check=False, capture_output=True, text=True)
    assert done.stdout == "running\n", done
