# SPDX-License-Identifier: Apache-2.0
"""A seccomp profile of the shape that Docker's default has: some hundreds of allowed calls, a few with conditions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
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


def docker_shape() -> dict[str, Any]:
    """Return the profile."""
    text = Path(_HEADER).read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"#define __NR_(\w+) \d+", text)) - _DENIED)
    allow = "SCMP_ACT_ALLOW"
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
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
