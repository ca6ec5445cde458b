# SPDX-License-Identifier: Apache-2.0
"""The security context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cri.client import LOCALHOST, RUNTIME_DEFAULT, UNCONFINED, Container, Cri

CHOWN, NET_RAW, SYS_ADMIN = 1 << 0, 1 << 13, 1 << 21


def run(cri: Cri, name: str = "pod", **security: Any) -> Container:
    """Run a container that waits, with a security context, in a pod of its own."""
    pod = {"linux": {"security_context": {"privileged": 1}}} if security.get("privileged") else {}
    return cri.pod(name, **pod).run("sleep", "1000", linux={"security_context": security})


def status(container: Container, pid: str = "self") -> dict[str, str]:
    """Return /proc/PID/status of a container as a dictionary."""
    lines = container.shell(f"cat /proc/{pid}/status").splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def test_user_groups(cri: Cri) -> None:
    """User, group and further groups, by number and by name, for run and exec."""
    one = run(cri, "numbers", run_as_user={"value": 1000}, run_as_group={"value": 1234}, supplemental_groups=[55, 66])
    for pid in ("1", "self"):
        seen = status(one, pid)
        assert seen["Uid"].split() == ["1000"] * 4
        assert seen["Gid"].split() == ["1234"] * 4
        assert {"55", "66"} <= set(seen["Groups"].split())
    named = run(cri, "names", run_as_username="user")
    assert named.shell("id -un; id -gn; echo $HOME").split()[:2] == ["user", "user"]
    one.shell("touch /tmp/x; ! touch /etc/x 2>/dev/null")


def test_caps(cri: Cri) -> None:
    """Capabilities are added and dropped, all of them as well."""
    usual = int(status(run(cri, "usual"))["CapEff"], 16)
    assert usual & CHOWN
    assert not usual & SYS_ADMIN
    changed = run(cri, "changed", capabilities={"add_capabilities": ["SYS_ADMIN"], "drop_capabilities": ["CHOWN", "NET_RAW"]})
    for pid in ("1", "self"):
        assert int(status(changed, pid)["CapEff"], 16) == usual & ~CHOWN & ~NET_RAW | SYS_ADMIN
    none = run(cri, "none", capabilities={"drop_capabilities": ["ALL"]})
    assert int(status(none)["CapEff"], 16) == int(status(none)["CapBnd"], 16) == 0
    few = run(cri, "few", capabilities={"drop_capabilities": ["ALL"], "add_capabilities": ["CHOWN"]})
    assert int(status(few, "1")["CapEff"], 16) == CHOWN


def test_readonly_rootfs(cri: Cri) -> None:
    """The root file system cannot be written."""
    container = run(cri, readonly_rootfs=True)
    _, err, code = container.exec("touch", "/etc/x")
    assert code == 1
    assert "read-only file system" in err.lower()
    container.shell("touch /dev/shm/x")


def test_no_new_privs(cri: Cri) -> None:
    """As asked for."""
    assert status(run(cri, "set", no_new_privs=True))["NoNewPrivs"] == "1"
    assert status(run(cri, "unset"))["NoNewPrivs"] == "0"


def test_seccomp(cri: Cri, scratch: Path) -> None:
    """The engine's profile, none, and one from a file, for run and exec."""
    usual = run(cri, "usual", seccomp={"profile_type": RUNTIME_DEFAULT})
    assert status(usual, "1")["Seccomp"] == status(usual)["Seccomp"] == "2"
    assert usual.exec("unshare", "--user", "true")[2] != 0
    assert status(run(cri, "none", seccomp={"profile_type": UNCONFINED}))["Seccomp"] == "0"
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]
    (scratch / "profile.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    own = run(cri, "own", seccomp={"profile_type": LOCALHOST, "localhost_ref": scratch / "profile.json"})
    assert "quota exceeded" in own.exec("mkdir", "/tmp/x")[1].lower()


def test_privileged(cri: Cri) -> None:
    """All that the engine has: capabilities, devices, cgroups and /proc."""
    container = run(cri, privileged=True)
    ours = Path("/proc/self/status").read_text()
    assert f"CapEff:\t{status(container)['CapEff']}" in ours
    assert " ro," not in container.shell("grep ' /sys/fs/cgroup' /proc/mounts")
    assert " ro," in run(cri, "plain").shell("grep ' /sys/fs/cgroup' /proc/mounts")
    assert container.shell("grep -c ' /proc/' /proc/mounts || :").strip() == "0"
    assert container.shell("ls -l /dev/fuse").startswith("c")
    container.shell("mkdir /mnt; mount -t tmpfs x /mnt")


def test_masked_readonly(cri: Cri) -> None:
    """Paths that are masked are empty, those that are read-only cannot be written."""
    container = run(cri, masked_paths=["/proc/keys", "/proc/tty", "/no/such/path"], readonly_paths=["/proc/sys", "/proc/irq"])
    assert container.shell("stat -c %t:%T /proc/keys; ls /proc/tty").strip() == "1:3"
    _, err, code = container.exec("sh", "-c", "echo 1 >/proc/sys/kernel/shm_rmid_forced")
    assert code != 0
    assert "read-only file system" in err.lower()
    mounts = container.shell("cat /proc/mounts")
    assert next(line for line in mounts.splitlines() if " /proc/irq " in line).split()[3].startswith("ro")
