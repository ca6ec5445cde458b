# SPDX-License-Identifier: Apache-2.0
"""Everything of a process, and of each of its threads, that a library could change and must not (design D6)."""

from __future__ import annotations

import ctypes
import gc
import locale
import os
import resource
import signal
import sys
import threading
import warnings

LIBC = ctypes.CDLL(None, use_errno=True)
# prctl(2) calls that only look: option -> name.
PRCTL = {2: "pdeathsig", 3: "dumpable", 7: "keepcaps", 21: "seccomp", 27: "securebits", 30: "timerslack",
         37: "subreaper", 39: "no_new_privs", 42: "thp_disable"}  # fmt: skip
WITH_POINTER = (2, 37)
STATUS = (
    "Name", "Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
    "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed", "CoreDumping", "TracerPid",
)  # fmt: skip
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, 250)


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def of_thread(pid: int | str, tid: str) -> dict[str, object]:
    """Return what /proc shows of one thread, from any process."""
    base = f"/proc/{pid}/task/{tid}"
    status = dict(line.split(":", 1) for line in read(f"{base}/status").splitlines())
    found: dict[str, object] = {name: status[name].strip() for name in STATUS if name in status}
    found["namespaces"] = {name: os.readlink(f"{base}/ns/{name}") for name in sorted(os.listdir(f"{base}/ns"))}
    for name in ("cwd", "root", "exe"):
        found[name] = os.readlink(f"{base}/{name}")
    for name in ("limits", "oom_score_adj", "cgroup", "personality", "loginuid", "sessionid"):
        try:
            found[name] = read(f"{base}/{name}")
        except OSError:
            continue
    # Somebody else may mount a hierarchy meanwhile, and everybody is at the top of that.
    found["cgroup"] = [line for line in str(found.get("cgroup", "")).splitlines() if not line.endswith(":/")]
    return found


def of_threads(pid: int | str) -> dict[str, dict[str, object]]:
    """Return the same of every thread that is there all the while."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            found[tid] = of_thread(pid, tid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _prctl(option: int) -> int:
    value = ctypes.c_int(-1)
    if option in WITH_POINTER:
        LIBC.prctl(option, ctypes.byref(value), 0, 0, 0)
        return value.value
    return int(LIBC.prctl(option, 0, 0, 0, 0))


def of_this_process() -> dict[str, object]:
    """Return what only the process itself can see."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        **{name: _prctl(option) for option, name in PRCTL.items()},
        "umask": mask,
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "rlimits": {str(each): resource.getrlimit(each) for each in range(16)},
        "handlers": {str(int(number)): repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "mask": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "wakeup": _wakeup_fd(),
        "session keyring": LIBC.syscall(SYS_KEYCTL, 0, -3, 0),
        "session": os.getsid(0),
        "group": os.getpgrp(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "locale": locale.setlocale(locale.LC_ALL),
        "gc": (gc.isenabled(), gc.get_threshold()),
        "switch interval": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "hooks": [repr(each) for each in (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)],
        "path": list(sys.path),
        "warnings": repr(warnings.filters),
    }


def _wakeup_fd() -> int:
    if threading.current_thread() is not threading.main_thread():
        return -1
    fd = signal.set_wakeup_fd(-1)
    if fd >= 0:
        signal.set_wakeup_fd(fd)
    return fd


def descriptors() -> list[tuple[int, str, bool]]:
    """Return number, file and inheritability of this process's descriptors.

    Without the one that lists them, and without /dev/null, which other threads open and close meanwhile.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
            if not link.endswith(("/fd", "/dev/null")):
                found.append((int(name), link, os.get_inheritable(int(name))))
        except OSError:
            continue
    return sorted(found)
