# SPDX-License-Identifier: Apache-2.0
"""Seccomp profiles: of the shape that Docker's default has (some hundreds of allowed calls, a few with conditions), and
of a chosen number of rules."""

from __future__ import annotations

import platform
import re
import subprocess
from typing import Any

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
#: What nobody allows by default; the rest of the table is allowed.
_DENIED = frozenset(
    {
        "acct", "add_key", "bpf", "clock_settime", "create_module", "delete_module", "finit_module", "init_module",
        "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "mount", "move_pages", "nfsservctl",
        "open_by_handle_at", "perf_event_open", "personality", "pivot_root", "quotactl", "reboot", "request_key",
        "setns", "settimeofday", "socket", "swapoff", "swapon", "sysfs", "_sysctl", "umount2", "unshare", "uselib",
        "userfaultfd", "ustat", "clone",
    }
)  # fmt: skip


def _names() -> set[str]:
    """The system calls of this machine, as the kernel's headers have them."""
    header = "#include <asm/unistd.h>\n"
    macros = subprocess.run(["cc", "-E", "-dM", "-"], input=header, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^#define __NR_(\w+) ", macros, re.MULTILINE))


def many_rules(count: int) -> dict[str, Any]:
    """Return a profile that refuses *count* values of one argument, and allows the rest."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["ioctl"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 0x10000 + index, "op": "SCMP_CMP_EQ"}],
            }
            for index in range(count)
        ],
    }


def docker_shape() -> dict[str, Any]:
    """Return the profile of Docker's shape."""
    names = sorted(_names() - _DENIED)
    allow = "SCMP_ACT_ALLOW"
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": _ARCHITECTURES.get(platform.machine(), []),
        "syscalls": [
            {"names": names, "action": allow},
            {"names": ["socket"], "action": allow, "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            *(
                {"names": ["personality"], "action": allow, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
                for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
            ),
            {
                "names": ["clone"],
                "action": allow,
                "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    }
