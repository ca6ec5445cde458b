# SPDX-License-Identifier: Apache-2.0
"""One container that asks for something of every kind, to be compared under adverse conditions."""

from __future__ import annotations

import errno
from typing import Any

from support.bundle import Bundle
from support.canary import SECRET
from support.command import Result
from support.report import mounts


def everything(bundle: Bundle, userns: bool = False) -> Bundle:
    """Make the bundle ask for something of every kind, and look at what it got."""
    (bundle.path / "volume").mkdir()
    (bundle.path / "volume/file").write_text("volume\n")
    bundle.file("/secret", SECRET).file("/secretdir/file", SECRET).dir("/ro").dir("/real")
    bundle.symlink("/link", "/real")
    bundle.mount("/v", None, "volume", "bind", "ro", "nosuid", "nodev")
    bundle.mount("/made/deep", "tmpfs", "tmpfs", "size=1m", "mode=0750", "noexec", "noatime")
    bundle.mount("/link/inner", "tmpfs", "tmpfs", "private")
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    bundle.patch(
        {
            "root": {"readonly": True},
            "hostname": "fallback",
            "process": {
                "cwd": "/tmp",
                "noNewPrivileges": True,
                "user": {"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 6]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
                "oomScoreAdj": 100,
            },
            "linux": {
                "maskedPaths": ["/secret", "/secretdir", "/proc/keys", "/nosuch"],
                "readonlyPaths": ["/ro", "/proc/sys"],
                "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "16000"},
                "devices": [
                    {
                        "path": "/dev/extra",
                        "type": "c",
                        "major": 1,
                        "minor": 5,
                        "fileMode": 0o640,
                        "gid": 7,
                    }
                ],
                "rootfsPropagation": "private",
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}],
                },
                "resources": {"pids": {"limit": 100}},
            },
        }
    )
    if userns:
        # what the mapped root cannot make itself is there
        for path in ("/v", "/made/deep", "/real/inner", "/sys"):
            bundle.dir(path)
        bundle.userns()
    return bundle.seq(
        "report",
        ["read", "/secret"],
        ["ls", "/secretdir"],
        ["read", "/v/file"],
        ["open", "/v/file", "wronly"],
        ["create", "/ro/x", "x"],
        ["write", "/proc/sys/kernel/hostname", "x"],
        ["read", "/proc/sys/net/ipv4/ip_forward"],
        ["lstat", "/dev/null", "/dev/extra", "/dev/ptmx", "/dev/fd", "/made/deep", "/proc/keys"],
        ["syscall", "getsid", "0"],
        ["open", "/dev/null", "rdwr"],
    )


CHANGING = {
    "clocks", "keyring", "root", "fds", "mountinfo", "namespaces", "mount_root", "ino", "dev", "mnt_id", "atime_ns",
    "mtime_ns", "cgroup", "seccomp",
}  # fmt: skip


def normalise(result: Result) -> Any:
    """Return the output without what differs from run to run."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in CHANGING}
        if isinstance(value, list):
            return [strip(item) for item in value]
        return value

    report = result.report
    table = [
        (m.target, m.type, sorted(m.options), m.propagation, sorted(m.data - {"rw", "ro"}))
        for m in mounts(report["mountinfo"])
    ]
    fds = [(entry["fd"], entry["type"]) for entry in report["fds"]]
    return [strip(line) for line in result.lines], table, fds
