# SPDX-License-Identifier: Apache-2.0
"""reaping_host.py thread|ignore STATE_ROOT BUNDLE...: a host whose children nobody else may wait for (S-82).

"thread": a SIGCHLD handler and a thread that calls waitpid(-1) all the time; "ignore": SIGCHLD is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

from ocirun import OcirunError, Runtime


def reap_for_ever(reaped: list[int], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid:
            reaped.append(pid)
        else:
            time.sleep(0.0001)


def main() -> None:
    how, root, *bundles = sys.argv[1:]
    reaped: list[int] = []
    stop = threading.Event()
    if how == "thread":
        signal.signal(signal.SIGCHLD, lambda *_: None)
        reaper = threading.Thread(target=reap_for_ever, args=(reaped, stop))
        reaper.start()
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    codes: list[object] = []
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    with Runtime(root) as runtime:
        for turn in range(5):
            for number, bundle in enumerate(bundles):
                name = f"reaped{os.getpid()}-{turn}-{number}"
                with runtime.create(name, bundle, stdin=null, stdout=null, stderr=null) as container:
                    container.start()
                    try:
                        codes.append(container.wait(60))
                    except OcirunError as error:
                        codes.append(error.code)
                    container.delete()
        left = [state.id for state in runtime.list()]
    stop.set()
    if how == "thread":
        reaper.join()
    zombies = []
    for tid in os.listdir("/proc/self/task"):
        # A thread that has been joined may still be in the list for a moment; its children are then another's.
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{tid}/children") as file:
            zombies += file.read().split()
    print(json.dumps({"codes": codes, "left": left, "reaped": len(reaped), "zombies": zombies}))


main()
