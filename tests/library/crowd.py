# SPDX-License-Identifier: Apache-2.0
"""A program of 16 busy threads and much memory that makes containers through the library; prints what it saw as JSON.

    crowd.py STATE_ROOT BUNDLE COUNT MEBIBYTES
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading

from ocirun import Runtime


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def attributes() -> dict[str, object]:
    """Everything of this process and its threads that a library could change."""
    masks = {}
    for task in os.listdir("/proc/self/task"):
        status = read(f"/proc/self/task/{task}/status")
        wanted = ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd", "CapInh", "Umask", "Uid")
        masks[task] = [line for line in status.splitlines() if line.split(":")[0] in wanted]
    return {
        "masks": masks,
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "limits": [resource.getrlimit(each) for each in range(16)],
        "namespaces": sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")),
        "oom": read("/proc/self/oom_score_adj"),
        "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
        "cgroup": read("/proc/self/cgroup"),
    }


def resident() -> int:
    return int(read("/proc/self/statm").split()[1]) * 4096


def descriptors() -> list[str]:
    """All but those of the busy threads, which come and go, and the one that reads the list."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target != "/dev/null":
            found.append(target)
    return found


def children() -> str:
    return read(f"/proc/self/task/{os.getpid()}/children")


def main() -> None:
    root, bundle, count, mebibytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ballast = [bytearray(os.urandom(4096) * 256) for _ in range(mebibytes)]
    stop = threading.Event()

    def busy() -> None:
        turns = 0
        while not stop.wait(0.001):
            os.close(os.open("/dev/null", os.O_RDONLY))
            turns += sum(range(200))

    threads = [threading.Thread(target=busy) for _ in range(16)]
    for thread in threads:
        thread.start()
    runtime = Runtime(root)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def life(number: int) -> None:
        with runtime.create(f"crowd-{number}", bundle, stdin=null, stdout=null, stderr=null) as container:
            container.start()
            assert container.wait(30) == 0
            container.delete()

    for number in range(20):
        life(number)
    stop_sampling = [attributes()]
    before = (len(descriptors()), children(), resident(), len(read("/proc/self/mountinfo").splitlines()))
    changed = 0
    for number in range(count):
        life(number)
        if number % 50 == 0 and attributes() != stop_sampling[0]:
            changed += 1
    after = (len(descriptors()), children(), resident(), len(read("/proc/self/mountinfo").splitlines()))
    same = attributes() == stop_sampling[0]
    stop.set()
    for thread in threads:
        thread.join()
    print(
        json.dumps(
            {
                "made": count,
                "ballast": len(ballast),
                "descriptors": [before[0], after[0]],
                "children": [before[1], after[1]],
                "resident": [before[2], after[2]],
                "mounts": [before[3], after[3]],
                "same": same,
                "changed": changed,
                "left": len(runtime.list()),
            }
        )
    )


main()
