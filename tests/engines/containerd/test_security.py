# SPDX-License-Identifier: Apache-2.0
"""Capabilities, seccomp, no_new_privs, user namespaces."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.containerd import IMAGE, Ctr

CHOWN, KILL, NET_RAW, SYS_ADMIN, SYS_TIME = 1 << 0, 1 << 5, 1 << 13, 1 << 21, 1 << 25
STATUS = ("cat", "/proc/self/status")


def status(text: str) -> dict[str, str]:
    """Return /proc/PID/status as a dictionary."""
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}


def test_caps(ctr: Ctr) -> None:
    """The default set, one more and one less, and for exec the same."""
    usual = int(status(ctr.run("--rm", IMAGE, "usual", *STATUS).ok().out)["CapEff"], 16)
    assert usual & CHOWN and usual & KILL and usual & NET_RAW
    assert not usual & (SYS_ADMIN | SYS_TIME)
    words = ("--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN")
    ctr.start(*words, IMAGE, "changed", "sleep", "1000")
    for shown in (ctr.exec("changed", "cat", "/proc/1/status"), ctr.exec("changed", *STATUS)):
        seen = status(shown.ok().out)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(seen[name], 16) == usual & ~CHOWN | SYS_ADMIN
    assert ctr.exec("changed", "chown", "1:1", "/etc/passwd").fails(words="operation not permitted")


def test_privileged(ctr: Ctr) -> None:
    """All that the engine has, and /sys and /proc without masks."""
    script = "grep CapEff /proc/self/status; grep -c ' /proc/' /proc/mounts; grep ' /sys sysfs ' /proc/mounts"
    done = ctr.run("--rm", "--privileged", IMAGE, "privileged", "sh", "-c", script).ok()
    ours = status(Path("/proc/self/status").read_text())["CapEff"]
    assert done.lines[0].split()[1] == ours
    assert done.lines[1] == "0"
    assert done.lines[2].split()[3].startswith("rw")
    plain = ctr.run("--rm", IMAGE, "plain", "sh", "-c", "grep -c ' /proc/' /proc/mounts; grep ' /sys sysfs ' /proc/mounts").ok()
    assert int(plain.lines[0]) > 4
    assert plain.lines[1].split()[3].startswith("ro")


def test_seccomp(ctr: Ctr, scratch: Path) -> None:
    """The engine's profile, and one of one's own, hold for run and exec."""
    assert status(ctr.run("--rm", IMAGE, "none", *STATUS).ok().out)["Seccomp"] == "0"
    assert status(ctr.run("--rm", "--seccomp", IMAGE, "usual", *STATUS).ok().out)["Seccomp"] == "2"
    ctr.run("--rm", "--seccomp", IMAGE, "unshare", "unshare", "--user", "true").fails(words="operation not permitted")
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]
    (scratch / "profile.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    ctr.start("--seccomp", "--seccomp-profile", scratch / "profile.json", IMAGE, "own", "sleep", "1000")
    ctr.exec("own", "mkdir", "/tmp/x").fails(words="quota exceeded")
    assert status(ctr.exec("own", *STATUS).ok().out)["Seccomp"] == "2"


def test_no_new_privs(ctr: Ctr) -> None:
    """Set unless it is waived."""
    assert status(ctr.run("--rm", IMAGE, "set", *STATUS).ok().out)["NoNewPrivs"] == "1"
    assert status(ctr.run("--rm", "--allow-new-privs", IMAGE, "waived", *STATUS).ok().out)["NoNewPrivs"] == "0"


def test_userns(ctr: Ctr) -> None:
    """In a user namespace of its own root is somebody else outside, and what it makes belongs to it."""
    words = ("--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536")
    ctr.start(*words, IMAGE, "mapped", "sleep", "1000")
    pid = ctr.pid("mapped")
    assert os.stat(f"/proc/{pid}").st_uid == 100000
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "100000", "65536"]
    assert Path(f"/proc/{pid}/gid_map").read_text().split() == ["0", "200000", "65536"]
    assert ctr.exec("mapped", "sh", "-c", "id -u; id -g; echo x >/made; stat -c %u:%g /made /etc/passwd").ok().text.split() == ["0", "0", "0:0", "0:0"]
    made = os.stat(f"/proc/{pid}/root/made")
    assert (made.st_uid, made.st_gid) == (100000, 200000)
    assert ctr.exec("mapped", "mount", "-t", "tmpfs", "x", "/mnt").rc != 0
