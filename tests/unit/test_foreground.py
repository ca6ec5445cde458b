# SPDX-License-Identifier: Apache-2.0
"""Signals that reach `run` and `exec` while one is being looked at; in a program of its own, whose handlers it changes."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, sys
from ocirun import _native
from ocirun.cli.foreground import Foreground

NUMBER, COUNT = int(sys.argv[1]), 5000
left, depth, deepest, sent = COUNT, 0, 0, []

def arrive():
    global left
    if left:
        left -= 1
        os.kill(os.getpid(), NUMBER)

def is_running(_):
    global depth, deepest
    depth += 1
    deepest = max(deepest, depth)
    arrive()
    depth -= 1
    return True

class Process:
    def pidfd(self): return 77

_native.pidfd_signal = lambda pidfd, number: sent.append((pidfd, number))
foreground = Foreground(is_running)
foreground.follow(Process())
arrive()
assert deepest == 1, deepest
assert sent == [(77, NUMBER)] * COUNT, len(sent)
"""


def test_many_at_once() -> None:
    """Each of thousands that come while one before them is looked at is passed on, with no handler within a handler."""
    for number in (signal.SIGUSR1, signal.SIGCONT):
        subprocess.run([sys.executable, "-P", "-c", PROGRAM, str(int(number))], check=True)
