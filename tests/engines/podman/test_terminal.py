# SPDX-License-Identifier: Apache-2.0
"""Terminals, as a user has one."""

from __future__ import annotations

import termios

import pytest
from harness.engine import Engine, Session, eventually
from harness.podman import background, state

SIZE = (31, 97)


def raw(session: Session) -> None:
    """Wait until podman has made the user's terminal raw, so that keys go to the container."""
    assert session.terminal is not None
    eventually(lambda: not termios.tcgetattr(session.terminal)[3] & termios.ISIG)


@pytest.mark.core
def test_tty_run(podman: Engine) -> None:
    """A shell on a terminal of the user's size; its status is podman's."""
    with podman.session("run", "--rm", "-it", "busybox", "sh", size=SIZE) as session:
        session.expect("# ")
        session.write("tty; test -c /dev/console && echo con''sole\n")
        session.expect("/dev/pts/0")
        session.expect("console")
        session.write("while [ \"$(stty size)\" != '31 97' ]; do :; done; echo si''zed\n")
        session.expect("sized")
        session.write("exit 9\n")
        assert session.wait() == 9


def test_tty_resize(podman: Engine) -> None:
    """The container's terminal follows the user's window."""
    script = "trap 'stty size' WINCH; echo ready; while :; do read -t 1 line; done"
    with podman.session("run", "--rm", "-it", "--name", "one", "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("ready")
        session.resize(40, 100)
        session.expect("40 100")
        podman("rm", "--force", "--time", "0", "one").ok()


def test_tty_signal(podman: Engine) -> None:
    """Control-C interrupts what is in the foreground inside."""
    script = "trap 'echo inter''rupted; exit 3' INT; echo ready; while :; do sleep 1; done"
    with podman.session("run", "--rm", "-it", "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("ready")
        raw(session)
        session.write("\x03")
        session.expect("interrupted")
        assert session.wait() == 3


def test_tty_exec(podman: Engine) -> None:
    """exec has a terminal of its own."""
    background(podman)
    with podman.session("exec", "-it", "one", "sh", size=SIZE) as session:
        session.write("tty; while [ \"$(stty size)\" != '31 97' ]; do :; done; echo si''zed\n")
        session.expect("/dev/pts/0")
        session.expect("sized")
        session.resize(40, 100)
        session.write("while [ \"$(stty size)\" != '40 100' ]; do :; done; echo a''gain\n")
        session.expect("again")
        session.write("exit 6\n")
        assert session.wait() == 6


def test_tty_no_stdin(podman: Engine) -> None:
    """A terminal without input: what is printed comes as from a terminal."""
    assert "one\r\ntwo\r\n" in podman("run", "--rm", "-t", "busybox", "sh", "-c", "echo one; echo two").ok().out


def test_tty_user(podman: Engine) -> None:
    """The terminal belongs to the container's user, who can open it."""
    script = "echo opened >/dev/tty; stat -c owner=%u /dev/pts/0"
    with podman.session("run", "--rm", "-it", "--user", "1000", "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("opened")
        session.expect("owner=1000")
        assert session.wait() == 0


def test_attach(podman: Engine) -> None:
    """Attach, type, detach by the keys; the container runs on.  And with pipes."""
    podman("run", "-dit", "--name", "one", "busybox", "sh").ok()
    with podman.session("attach", "--detach-keys", "ctrl-x", "one", size=SIZE) as session:
        session.write("echo a$((1+1))\n")
        session.expect("a2")
        raw(session)
        session.write("\x18")
        assert session.wait() == 0
    assert state(podman)["Status"] == "running"
    podman("run", "-di", "--name", "two", "busybox", "sh", "-c", 'while read -r x; do echo "got $x"; done; echo end').ok()
    done = podman("attach", "two", stdin="one\ntwo\n").ok()
    assert done.text.splitlines() == ["got one", "got two", "end"]


def test_userns_tty_limits(podman: Engine) -> None:
    """A terminal, limits and a user namespace together."""
    words = ("--uidmap", "0:100000:65536", "--memory", "64m", "--pids-limit", "50")
    script = "test -t 0 && echo ter''minal; stat -c owner=%u /dev/pts/0; cat /proc/self/uid_map"
    with podman.session("run", "--rm", "-it", *words, "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("terminal")
        session.expect("owner=0")
        session.expect("100000")
        assert session.wait() == 0
