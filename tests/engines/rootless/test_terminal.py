# SPDX-License-Identifier: Apache-2.0
"""Terminals of a user's containers."""

from __future__ import annotations

import pytest
from harness.engine import Engine

SIZE = (33, 101)


@pytest.mark.core
def test_tty_run(podman: Engine) -> None:
    """A terminal: its size, its owner, what is typed, its new size, and the keys that send signals."""
    words = ("run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c")
    script = "tty; stat -c %u:%g $(tty); until stty size | grep '33 101'; do :; done; read a; echo got $a; trap 'stty size; echo winch' WINCH; echo ready; cat"
    with podman.session(*words, script, size=SIZE) as going:
        going.expect("/dev/pts/0")
        going.expect("0:5")
        going.expect("33 101")
        going.write("words\n")
        going.expect("got words")
        going.expect("ready")
        going.write("\x04")
        assert going.wait() == 0


def test_tty_resize(podman: Engine) -> None:
    """The terminal follows the user's window."""
    script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do read -t 1 a; done"
    with podman.session("run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c", script, size=SIZE) as going:
        going.expect("ready")
        going.resize(44, 55)
        going.expect("44 55")
        assert going.wait() == 5


def test_tty_signal(podman: Engine) -> None:
    """The interrupt key reaches the program in the foreground."""
    script = "trap 'echo caught; exit 6' INT; echo ready; while :; do read a; done"
    with podman.session("run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c", script, size=SIZE) as going:
        going.expect("ready")
        going.write("\x03")
        going.expect("caught")
        assert going.wait() == 6


@pytest.mark.core
def test_tty_exec(podman: Engine) -> None:
    """exec with a terminal of its own, in a container that has none."""
    podman("run", "-d", "--name", "it", "--network", "none", "busybox", "sleep", "1000").ok()
    with podman.session("exec", "-it", "it", "sh", "-c", "tty; stat -c %u:%g $(tty); until stty size | grep '33 101'; do :; done; read a; echo got $a; exit 8", size=SIZE) as going:
        going.expect("/dev/pts/0")
        going.expect("0:5")
        going.expect("33 101")
        going.write("words\n")
        going.expect("got words")
        assert going.wait() == 8
    with podman.session("exec", "-it", "-u", "user", "it", "sh", "-c", "stat -c %u $(tty); : >$(tty) && echo own", size=SIZE) as going:
        going.expect("1000")
        going.expect("own")
        assert going.wait() == 0
