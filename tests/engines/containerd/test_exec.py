# SPDX-License-Identifier: Apache-2.0
"""ctr task exec, and terminals."""

from __future__ import annotations

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.containerd import IMAGE, Ctr
from harness.engine import eventually


@pytest.mark.core
def test_exec(ctr: Ctr) -> None:
    """A second process shares what the first has; its output, status and errors come back."""
    ctr.start("--env", "FOO=bar", IMAGE, "exec", "sleep", "1000")
    done = ctr.exec("exec", "sh", "-c", "echo out; echo err >&2; echo $FOO; hostname; exit 5").fails(5)
    assert done.lines[:2] == ["out", "bar"]
    assert done.err.startswith("err\n")
    same = 'for ns in mnt pid ipc uts net; do [ "$(readlink /proc/1/ns/$ns)" = "$(readlink /proc/self/ns/$ns)" ] || echo $ns; done'
    assert ctr.exec("exec", "sh", "-c", same).ok().out == ""
    assert ctr.exec("exec", "sh", "-c", "cat /proc/1/cgroup | cmp - /proc/self/cgroup").ok()
    other = ("--exec-id", "other", "--user", "1000:2000", "--cwd", "/tmp")
    done = ctr("task", "exec", *other, "exec", "sh", "-c", "id -u; id -g; pwd; touch /x").fails(1, "permission denied")
    assert done.lines[:3] == ["1000", "2000", "/tmp"]
    ctr.exec("exec", "no-such-command").fails(words="not found in $PATH")
    ctr.exec("exec", "/etc/passwd").fails(words="permission denied")
    ctr.exec("exec", "/no/such").fails(words="no such file or directory")
    assert ctr.status("exec") == "RUNNING"
    with ctr.session("task", "exec", "--exec-id", "piped", "exec", "sh", "-c", "cat; echo the end") as pipe:
        pipe.write("through\n")
        pipe.expect("through\n")
        pipe.end_input()
        assert pipe.wait() == 0
        assert pipe.seen == "the end\n"


def test_exec_detach(ctr: Ctr) -> None:
    """A detached process goes on by itself and can be killed by its own id."""
    ctr.start(IMAGE, "detached", "sleep", "1000")
    ctr("task", "exec", "--detach", "--exec-id", "one", "detached", "sleep", "2000").ok()
    assert len(ctr("task", "ps", "detached").ok().lines) == 3
    ctr("task", "kill", "--exec-id", "one", "--signal", "SIGKILL", "detached").ok()
    eventually(lambda: len(ctr("task", "ps", "detached").ok().lines) == 2)
    ctr("task", "rm", "--exec-id", "one", "detached").fails(137)
    assert ctr.status("detached") == "RUNNING"


def test_exec_parallel(ctr: Ctr) -> None:
    """Ten at once each get their own output and status."""
    ctr.start(IMAGE, "parallel", "sleep", "1000")
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda number: ctr.exec("parallel", "sh", "-c", f"echo {number}; exit {number}"), range(10)))
    assert [(one.text, one.rc) for one in done] == [(str(number), number) for number in range(10)]


@pytest.mark.core
def test_tty_run(ctr: Ctr) -> None:
    """A shell on a terminal of the size that the user's has."""
    with ctr.talk("--rm", IMAGE, "tty", "sh", size=(31, 97)) as shell:
        shell.expect("# ")  # what is typed before ctr listens is lost, and the size may come a moment later
        shell.write("tty; until stty size | grep '31 97'; do :; done; echo $((6 * 7))\n")
        assert "/dev/pts/0" in shell.expect("31 97\r")
        shell.expect("42\r")
        shell.write("ls -l /dev/console; exit 6\n")
        assert shell.wait() == 6
        assert "/dev/console" in shell.seen


def test_tty_resize(ctr: Ctr) -> None:
    """The terminal follows the size of the user's."""
    with ctr.talk("--rm", IMAGE, "resize", "sh", "-c", "while :; do stty size; sleep 0.05; done", size=(24, 80)) as shell:
        shell.expect("24 80\r")
        rows = itertools.count(30)

        def follows() -> bool:
            shell.resize(now := next(rows), 100)
            with contextlib.suppress(AssertionError):
                return bool(shell.expect(f"{now} 100\r", timeout=2))
            return False

        eventually(follows)  # ctr misses what happens before it has begun to listen
        for size in ((40, 90), (50, 120)):
            shell.resize(*size)
            shell.expect("{} {}\r".format(*size))
        ctr("task", "kill", "--signal", "SIGKILL", "resize").ok()
        assert shell.wait() == 137


def test_tty_exec(ctr: Ctr) -> None:
    """A second shell has a terminal of its own; the interrupt key reaches what runs in it."""
    ctr.start(IMAGE, "shells", "sleep", "1000")
    with ctr.session("task", "exec", "--tty", "--exec-id", "shell", "shells", "sh", size=(20, 70)) as shell:
        shell.expect("# ")
        shell.write("tty; until stty size | grep '20 70'; do :; done\n")
        assert "/dev/pts/" in shell.expect("20 70\r")
        shell.write("echo wait''ing; sleep 1000; echo status $?\n")
        shell.expect("waiting\r")
        eventually(lambda: len(ctr("task", "ps", "shells").ok().lines) == 4)
        shell.write("\x03")
        eventually(lambda: len(ctr("task", "ps", "shells").ok().lines) == 3)
        shell.write("exit 4\n")
        assert shell.wait() == 4
    assert ctr.status("shells") == "RUNNING"
