# SPDX-License-Identifier: Apache-2.0
"""A program that uses the library.  Reads commands from standard input, answers each with one line of JSON.

    cycle BUNDLE N      create + start + wait + delete, N times: nanoseconds of each
    create BUNDLE N     create alone, N times (deleted afterwards, outside the time)
    uncached BUNDLE N   the same, with the cache of compiled seccomp filters emptied before each
    fill BUNDLE N       make N more containers that stay
    empty               delete those
    pss BUNDLE          PSS in KiB of a created container's init, and its executable
    weigh MIB THREADS   touch so much memory, and start so many idle threads
    filter BUNDLE FILE  write the bundle's compiled seccomp filter

A command that fails is answered with {"error": words}.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time

from ocirun import Container, Runtime
from ocirun.plan.seccomp import compile_profile
from ocirun.store import SECCOMP_CACHE


class Worker:
    """One Runtime, and the containers that were left."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.runtime = Runtime(root)
        self.kept: list[Container] = []
        self.ballast: list[bytearray] = []
        self.null = os.open("/dev/null", os.O_RDWR)
        self.serial = 0

    def make(self, bundle: str) -> Container:
        """Create one more container."""
        self.serial += 1
        return self.runtime.create(
            f"bench-{os.getpid()}-{self.serial}", bundle, stdin=self.null, stdout=self.null, stderr=self.null
        )

    def cycle(self, bundle: str, count: str) -> list[int]:
        """Time whole lives."""
        times = []
        for _ in range(int(count)):
            before = time.perf_counter_ns()
            container = self.make(bundle)
            container.start()
            assert container.wait(10) == 0
            container.delete()
            times.append(time.perf_counter_ns() - before)
            container.close()
        return times

    def create(self, bundle: str, count: str, *, cached: bool = True) -> list[int]:
        """Time create."""
        times = []
        for _ in range(int(count)):
            if not cached:
                shutil.rmtree(os.path.join(self.root, SECCOMP_CACHE), ignore_errors=True)
            before = time.perf_counter_ns()
            container = self.make(bundle)
            times.append(time.perf_counter_ns() - before)
            container.delete(force=True)
            container.close()
        return times

    def uncached(self, bundle: str, count: str) -> list[int]:
        """Time create where the seccomp filter has to be compiled."""
        return self.create(bundle, count, cached=False)

    def fill(self, bundle: str, count: str) -> int:
        """Make containers that stay created."""
        for _ in range(int(count)):
            container = self.make(bundle)
            container.close()
            self.kept.append(container)
        return len(self.kept)

    def empty(self) -> int:
        """Delete them."""
        while self.kept:
            self.kept.pop().delete(force=True)
        return 0

    def pss(self, bundle: str) -> dict[str, object]:
        """Measure the memory of a created container."""
        with self.make(bundle) as container:
            with open(f"/proc/{container.pid}/smaps_rollup", encoding="ascii") as file:
                pss = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            executable = os.readlink(f"/proc/{container.pid}/exe")
            container.delete(force=True)
        return {"kib": pss, "executable": executable}

    def weigh(self, mebibytes: str, threads: str) -> int:
        """Become large."""
        block = bytearray(os.urandom(4096) * 256)
        self.ballast.extend(bytearray(block) for _ in range(int(mebibytes)))
        for _ in range(int(threads)):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return len(self.ballast)

    def filter(self, bundle: str, path: str) -> int:
        """Write what the kernel is given for the bundle's profile."""
        with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
            profile = json.load(file)["linux"]["seccomp"]
        program = compile_profile(profile, cache_dir=None).program
        with open(path, "wb") as output:
            output.write(program)
        return len(program)


def main() -> None:
    """Serve until end-of-file; leave no container behind."""
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = line.split()
        try:
            answer = getattr(worker, name)(*arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    for state in worker.runtime.list():
        worker.runtime.delete(state.id, force=True)


main()
