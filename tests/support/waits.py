# SPDX-License-Identifier: Apache-2.0
"""Signals that come just before a command waits: after its last look at what came, and before the system call.

A test that sends a signal to a command that waits hits that moment one time in many.  Here the command is first run until
it waits, which tells the number of the call, and then once more under faultk, which lets the signal come at that moment.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support.command import ENVIRONMENT, TIMEOUT, Result, RuntimeCommand
from support.native import FaultK


class Race:
    """One command, which waits in one of the system calls *only*, and a signal."""

    def __init__(self, runtime: RuntimeCommand, log: Path, *words: str, only: str = "poll") -> None:
        self._runtime = runtime
        self._words = words
        self._faultk = FaultK(log, only=f"{only},p{only}" if only == "poll" else only, by="parent")

    def run(self, number: int, is_waiting: Callable[[], bool], before: Callable[[], object] = bool) -> Result:
        """Return how the command ends by the signal just before it waits; `is_waiting` says when all that it waits for
        is behind it but the last, `before` is called before it is run again.
        """
        at = self._find(number, is_waiting)
        before()
        result = self._runtime.under(*self._faultk.signal(at, number)).call(*self._words)
        assert "acted 1" in self._faultk.log.read_text(), self._faultk.calls()
        return result

    def _find(self, number: int, is_waiting: Callable[[], bool]) -> int:
        """Return which call the command waits in for good, and end it by the same signal, which finds it waiting."""
        log = self._faultk.log
        log.unlink(missing_ok=True)
        command = self._runtime.under(*self._faultk.count()).command(*self._words)
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process:
            deadline = time.monotonic() + TIMEOUT
            while not (log.exists() and self._faultk.pids() and is_waiting() and is_asleep(self._faultk.pids()[-1])):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            pids = self._faultk.pids()
            os.kill(pids[-1], number)
            _, errors = process.communicate(timeout=TIMEOUT)
            assert b"Traceback" not in errors
        return len(pids) - 1


def is_asleep(pid: int) -> bool:
    """Say whether a process is in a system call that waits; one that is traced is not, while its tracer looks at it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def hook(mark: Path) -> dict[str, Sequence[str] | str]:
    """Return a hook that makes the file *mark* and does not end; nor does it print anything, for which we would wake."""
    return {"path": "/bin/sh", "args": ["sh", "-c", f": >{mark}; exec sleep 3600"]}
