# SPDX-License-Identifier: Apache-2.0
"""watch.py PID: look at every thread of a process, from outside and as often as possible, until stdin ends.

From outside, because whoever samples inside takes turns with what is sampled.  Prints {"samples": N, "changes": [...]}
where a change is [thread, attribute, before, after]; the first look is what all others are compared with.
"""

from __future__ import annotations

import json
import select
import sys
import time

from library.attributes import of_threads

INTERVAL_S = 0.001


def main() -> None:
    pid = sys.argv[1]
    first = of_threads(pid)
    print("watching", flush=True)
    changes: set[tuple[str, str, str, str]] = set()
    samples = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        try:
            seen = of_threads(pid)
        except FileNotFoundError:
            break
        samples += 1
        for tid, attributes in seen.items():
            for name, value in attributes.items():
                before = first.get(tid, attributes)[name]
                if value != before:
                    changes.add((tid, name, str(before), str(value)))
        time.sleep(max(0.0, INTERVAL_S - (time.monotonic() - began)))
    print(json.dumps({"samples": samples, "threads": len(first), "changes": sorted(changes)}))


main()
