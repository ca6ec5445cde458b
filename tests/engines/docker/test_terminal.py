# SPDX-License-Identifier: Apache-2.0
"""docker with a terminal, and docker attach."""

from __future__ import annotations

import pytest
from harness.docker import Docker

SIZE = (33, 111)


@pytest.mark.core
def test_tty_run(docker: Docker) -> None:
    """A shell at a terminal: what is typed is echoed, and the size is that of the window."""
    with docker.session("run", "--rm", "-it", "busybox", "sh", size=SIZE) as session:
        session.expect("# ")
        session.write("tty; until stty size | grep '33 111'; do :; done; echo sum=$((40 + 2))\n")
        session.expect("/dev/pts/0")
        session.expect("33 111\r")  # docker tells it a moment after the start
        session.expect("sum=42")
        session.write("exit 5\n")
        assert session.wait() == 5


def test_tty_resize(docker: Docker) -> None:
    """A window of another size: the terminal has it, and the process is told by SIGWINCH."""
    script = "trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done"
    with docker.session("run", "--rm", "--name", "one", "-it", "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("ready")
        session.resize(50, 120)
        session.expect("now 50 120")
        docker("kill", "one").ok()
        assert session.wait() == 137


def test_tty_signal(docker: Docker) -> None:
    """^C at the terminal is SIGINT in the container."""
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    with docker.session("run", "--rm", "-it", "busybox", "sh", "-c", script, size=SIZE) as session:
        session.expect("ready")
        session.write("\x03")
        session.expect("caught")
        assert session.wait() == 9


def test_tty_exec(docker: Docker) -> None:
    """exec -it: a terminal of its own, with job control."""
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    with docker.session("exec", "-it", "one", "sh", size=SIZE) as session:
        session.expect("# ")
        session.write("tty; until stty size | grep '33 111'; do :; done; echo job=$(ps -o pid,tty | grep -c 136,)\n")
        session.expect("/dev/pts/")
        session.expect("33 111\r")  # docker tells it a moment after the start
        session.expect("job=")
        session.write("exit 6\n")
        assert session.wait() == 6


def test_tty_no_stdin(docker: Docker) -> None:
    """-t alone: a terminal to write to, and carriage returns in the log."""
    done = docker("run", "--name", "one", "-t", "busybox", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo terminal").ok()
    assert done.out == "terminal\r\n"
    assert docker("logs", "one").ok().out == "terminal\r\n"


def test_tty_user(docker: Docker) -> None:
    """Whoever is not root owns the terminal and can open it again."""
    script = "stat -c %u $(tty); echo mine >/dev/tty; echo again >/dev/stdout; echo err >/dev/stderr"
    with docker.session("run", "--rm", "-it", "--user", "1000", "busybox", "sh", "-c", script, size=SIZE) as session:
        for words in ("1000", "mine", "again", "err"):
            session.expect(words)
        assert session.wait() == 0


def test_attach(docker: Docker) -> None:
    """attach joins the streams, the keys for it leave the container running."""
    docker.up("-it", "--name", "one", "busybox", "sh")
    with docker.session("attach", "one", size=SIZE) as session:
        session.write("echo $((40 + 2))\n")
        session.expect("42")
        session.write("\x10\x11")
        session.expect("read escape sequence")
    assert docker.look("one", "{{.State.Running}}") == "true"
    docker.up("-i", "--name", "two", "busybox", "sh", "-c", "read line; echo got $line; exit 4")
    with docker.session("attach", "two") as session:
        session.write("words\n")
        session.expect("got words")
        assert session.wait() == 4
