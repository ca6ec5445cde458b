# SPDX-License-Identifier: Apache-2.0
"""parallel.py STATE_ROOT BUNDLE MANAGER COUNT: makes COUNT containers at once, has all of them, and deletes them at once.

Each has a thread of its own.  Prints JSON: how many there were, what went wrong, what is left, and the seconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

from ocirun import Runtime

DEADLINE_S = 600


def at_once(count: int, work: Callable[[int], None]) -> list[str]:
    """Call *work* with each number, all at the same time; return what was raised."""
    errors: list[str] = []
    gate = threading.Barrier(count)

    def one(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except Exception as error:
            errors.append(f"{number}: {type(error).__name__}: {error} {getattr(error, '__notes__', '')}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + DEADLINE_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            errors.append(f"{thread.name} does not end")
            break
    return errors


def main() -> None:
    root, bundle, manager, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    prefix = os.environ["OCIRUN_TEST_PREFIX"]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    runtime = Runtime(root, cgroup_manager=manager)
    name = f"{prefix}-{{}}".format

    def create(number: int) -> None:
        with runtime.create(name(number), bundle, stdin=null, stdout=null, stderr=null) as container:
            container.start()

    began = time.monotonic()
    errors = at_once(count, create)
    created = time.monotonic()
    there = sum(state.status == "running" for state in runtime.list())
    # Those that were not made as well: then this is no error.
    errors += at_once(count, lambda number: runtime.delete(name(number), force=True))
    result = {
        "there": there,
        "errors": errors,
        "left": [state.id for state in runtime.list()],
        "warnings": runtime.warnings,
        "create s": round(created - began, 1),
        "delete s": round(time.monotonic() - created, 1),
    }
    runtime.close()
    print(json.dumps(result), flush=True)
    os._exit(0)  # not waiting for a thread that hangs


main()
