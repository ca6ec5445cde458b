# SPDX-License-Identifier: Apache-2.0
"""The config.json that `ocirun spec` writes: a shell in an ordinary, closed container.

Equal in effect to what `runc spec` writes, so that instructions made for one hold for the other.  What
differs has no effect there: runc lists ambient capabilities, which cannot be raised without inheritable ones.
"""

from __future__ import annotations

from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_OPEN_FILES = 1024

# What tells about the host's hardware, keys and timers, or acts on them.
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_config(
    *, rootless: bool = False, uid: int = 0, gid: int = 0, unified: bool = False
) -> dict[str, Any]:
    """Return the document, for the caller to change at will.

    rootless: for a user who may map only itself, *uid* and *gid*, to root of the container; the host's network stays,
    and there are no limits.  unified: with a cgroup namespace, which only cgroup v2 makes worth having.
    """
    namespaces = ["pid", "ipc", "uts", "mount"]
    namespaces += ["user"] if rootless else ["network"]
    namespaces += ["cgroup"] if unified else []
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in namespaces],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return {
        "ociVersion": SPEC_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "ocirun",
        "mounts": _mounts(rootless=rootless),
        "linux": linux,
    }


def _process() -> dict[str, Any]:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": _OPEN_FILES, "soft": _OPEN_FILES}],
        "noNewPrivileges": True,
    }


def _mounts(*, rootless: bool) -> list[dict[str, Any]]:
    locked = ["nosuid", "noexec", "nodev"]
    # The group tty has no id in a user namespace of one id.
    tty = [] if rootless else ["gid=5"]
    # Without a network namespace of its own a user namespace may not mount sysfs.
    sysfs = ("none", "/sys", ["rbind"]) if rootless else ("sysfs", "sysfs", [])
    table: tuple[tuple[str, str, str, list[str]], ...] = (
        ("/proc", "proc", "proc", []),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", [*_PTS, *tty]),
        ("/dev/shm", "tmpfs", "shm", [*locked, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", locked),
        ("/sys", sysfs[0], sysfs[1], [*sysfs[2], *locked, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*locked, "relatime", "ro"]),
    )
    mounts = []
    for destination, kind, source, options in table:
        mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
        if options:
            mount["options"] = list(options)
        mounts.append(mount)
    return mounts


_PTS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
