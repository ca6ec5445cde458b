# SPDX-License-Identifier: Apache-2.0
"""crowd.py STATE_ROOT BUNDLE COUNT MEBIBYTES: a program of 16 busy threads and much memory that makes containers.

Prints {"pid": …} once all is running and it has made a few to warm up, waits for a line, makes COUNT more, prints
what was before and after as JSON, and ends at a second line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from library.attributes import descriptors, of_this_process, of_threads, read

from ocirun import Runtime

THREADS = 16
WARM_UP = 20


def footprint() -> dict[str, object]:
    """Return what must not grow."""
    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
    return {
        "descriptors": descriptors(),
        "children": " ".join(read(f"/proc/self/task/{tid}/children") for tid in os.listdir("/proc/self/task")).split(),
        "mounts": read("/proc/self/mountinfo").splitlines(),
        "maps": read("/proc/self/maps").count("\n"),
        # Not what is mapped of files, which the kernel takes away and brings back as it likes.
        "resident": sum(int(status[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem")),
        "threads": threading.active_count(),
    }


class Crowd:
    """Threads that compute, allocate, and open and close files while containers are made."""

    def __init__(self) -> None:
        self.turns = [0] * THREADS
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        while not self._stop.wait(0.001):
            os.close(os.open("/dev/null", os.O_RDONLY))
            sum(range(200))
            bytearray(5000)
            self.turns[number] += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    root, bundle, count, mebibytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ballast = [bytearray(os.urandom(4096) * 256) for _ in range(mebibytes)]
    crowd = Crowd()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    runtime = Runtime(root)
    prefix = os.environ.get("OCIRUN_TEST_PREFIX", "crowd")

    def life(number: int) -> None:
        with runtime.create(f"{prefix}-{number}", bundle, stdin=null, stdout=null, stderr=null) as container:
            container.start()
            assert container.wait(60) == 0
            container.delete()

    for number in range(WARM_UP):
        life(number)
    attributes, threads, before = of_this_process(), of_threads("self"), footprint()
    print(json.dumps({"pid": os.getpid()}), flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    middle = before
    for number in range(count):
        if number == count // 2:
            middle = footprint()
        life(number)
    seconds = time.monotonic() - began
    after = footprint()
    result = {
        "made": count,
        "seconds": seconds,
        "ballast": len(ballast) << 20,
        "before": before,
        "middle": middle,
        "after": after,
        "turns": min(crowd.turns),
        "same attributes": of_this_process() == attributes,
        "same threads": of_threads("self") == threads,
        "left": [state.id for state in runtime.list()],
        "warnings": runtime.warnings,
    }
    print(json.dumps(result), flush=True)
    # Not before we are no longer watched: an interpreter that ends changes a lot.
    sys.stdin.readline()
    crowd.stop()
    runtime.close()


main()
