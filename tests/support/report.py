# SPDX-License-Identifier: Apache-2.0
"""Reading what the probe printed (tests/payload/out.h describes the format)."""

from __future__ import annotations

import json
from typing import Any

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
]

Json = dict[str, Any]


def decode_text(value: Any) -> Any:
    """Turn each character of the probe's strings, which stands for one byte, into real text."""
    if isinstance(value, str):
        return value.encode("latin-1").decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [decode_text(item) for item in value]
    if isinstance(value, dict):
        return {key: decode_text(item) for key, item in value.items()}
    return value


def parse_lines(output: bytes) -> list[Json]:
    """Return the JSON objects among the lines of `output`; other lines are left out."""
    found = []
    for line in output.splitlines():
        if line.startswith(b"{"):
            try:
                found.append(decode_text(json.loads(line)))
            except ValueError:
                continue
    return found


def capability_names(mask: int) -> set[str]:
    """Return the names of the capabilities in a mask."""
    return {name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1}


def capability_mask(names: Any) -> int:
    """Return the mask of some capability names."""
    return sum(1 << CAPABILITIES.index(name) for name in set(names))


def digest(data: bytes) -> list[int]:
    """Return what the probe's verb "digest" prints for a string: length and FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return [len(data), value]


class Mount:
    """One line of mountinfo."""

    def __init__(self, line: str) -> None:
        left, right = line.split(" - ", 1)
        fields = left.split(" ")
        self.id = int(fields[0])
        self.parent = int(fields[1])
        self.device = fields[2]
        self.root = _unescape(fields[3])
        self.target = _unescape(fields[4])
        self.options = set(fields[5].split(","))
        self.optional = fields[6:]
        kind, source, data = right.split(" ", 2)
        self.type = kind
        self.source = _unescape(source)
        self.data = set(data.split(","))

    def __repr__(self) -> str:
        return f"<{self.target} {self.type} {sorted(self.options)} {self.optional} {sorted(self.data)}>"

    @property
    def propagation(self) -> str:
        """Return "private", "shared", "slave", "slave+shared" or "unbindable"."""
        kinds = {field.split(":")[0] for field in self.optional}
        if "unbindable" in kinds:
            return "unbindable"
        words = [word for word, key in (("slave", "master"), ("shared", "shared")) if key in kinds]
        return "+".join(words) or "private"


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def mounts(mountinfo: str) -> list[Mount]:
    """Parse the text of a mountinfo file, in its order."""
    return [Mount(line) for line in mountinfo.splitlines() if line]


def mount_at(mountinfo: str, target: str) -> Mount:
    """Return the topmost mount at exactly `target`."""
    found = [mount for mount in mounts(mountinfo) if mount.target == target]
    assert found, f"nothing is mounted at {target}:\n{mountinfo}"
    return found[-1]
