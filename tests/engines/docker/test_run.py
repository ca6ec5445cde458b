# SPDX-License-Identifier: Apache-2.0
"""docker run: what goes in, what comes out, and with which status."""

from __future__ import annotations

import hashlib
import os

import pytest
from harness.docker import RUNTIME, Docker
from harness.engine import eventually


def test_info(docker: Docker) -> None:
    """The daemon has the runtime as its default and knows its version."""
    info = docker("info", "--format", "{{json .}}").ok().json
    assert info["DefaultRuntime"] == RUNTIME and RUNTIME in info["Runtimes"]
    components = docker("version", "--format", "{{json .Server.Components}}").ok().json
    (runtime,) = (each for each in components if each["Name"] == RUNTIME)
    assert runtime["Version"][0].isdigit(), runtime


@pytest.mark.core
def test_hello(docker: Docker) -> None:
    """A container prints."""
    assert docker("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"


def test_hello_debian(docker: Docker, debian: str) -> None:
    """A container of a whole distribution runs its dynamic programs."""
    done = docker("run", "--rm", debian, "bash", "-c", ". /etc/os-release; echo $ID; perl -e 'print 6*7'").ok()
    assert done.text == "debian\n42"


def test_runtime_option(docker: Docker) -> None:
    """--runtime names one of the daemon's, and an unknown one is refused."""
    assert docker("run", "--rm", "--runtime", RUNTIME, "busybox", "echo", "hello").ok().text == "hello"
    docker("run", "--rm", "--runtime", "nobody", "busybox", "true").fails(125, "nobody")


def test_stdout_stderr(docker: Docker) -> None:
    """The two streams stay two."""
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2").ok()
    assert (done.out, done.err) == ("out\n", "err\n")


def test_stdin(docker: Docker) -> None:
    """-i brings the input to its end, whatever it has in it; without it there is none."""
    given = bytes(range(256)) * 4096
    done = docker("run", "--rm", "-i", "busybox", "sha256sum", stdin=given).ok()
    assert done.text.split()[0] == hashlib.sha256(given).hexdigest()
    assert docker("run", "--rm", "busybox", "cat", stdin="not for it").ok().out == ""


def test_big_output(docker: Docker) -> None:
    """Megabytes come out whole."""
    done = docker("run", "--rm", "busybox", "sh", "-c", "yes 0123456789abcde | head -n 300000").ok()
    assert done.out == "0123456789abcde\n" * 300000


@pytest.mark.core
def test_exit_codes(docker: Docker) -> None:
    """The status of the command is docker's."""
    for code in (0, 1, 42, 255):
        assert docker("run", "--rm", "busybox", "sh", "-c", f"exit {code}").rc == code


@pytest.mark.core
def test_exit_127(docker: Docker) -> None:
    """A command that is not there: 127, and its name."""
    docker("run", "--rm", "busybox", "no-such-command").fails(127, "no-such-command")
    docker("run", "--rm", "busybox", "/no/such/command").fails(127, "/no/such/command")


def test_exit_126(docker: Docker) -> None:
    """A command that may not be run: 126."""
    docker("run", "--rm", "busybox", "/etc/passwd").fails(126, "permission denied")
    docker("run", "--rm", "busybox", "/etc").fails(126)


def test_bad_format(docker: Docker) -> None:
    """What the kernel cannot run is an error of the start, and says so."""
    create = "printf 'not a program' >/bad; chmod 755 /bad"
    docker("run", "--name", "bad", "busybox", "sh", "-c", create).ok()
    docker("commit", "bad", "bad").ok()
    try:
        docker("run", "--rm", "bad", "/bad").fails(words="exec format error")
    finally:
        docker("rm", "bad").ok()
        docker("rmi", "bad").ok()


def test_workdir_created(docker: Docker) -> None:
    """A working directory that is not there is made."""
    assert docker("run", "--rm", "--workdir", "/a/new/one", "busybox", "pwd").ok().text == "/a/new/one"


def test_self_kill(docker: Docker) -> None:
    """The first process cannot kill itself by the signals that it does not catch, and dies by what it raises."""
    assert docker("run", "--rm", "busybox", "sh", "-c", "kill -KILL $$; kill -TERM $$; echo alive").ok().text == "alive"
    assert docker("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?").rc == 143


def test_kill_137(docker: Docker) -> None:
    """Killed: 137, for docker and for inspect."""
    with docker.session("run", "--name", "one", "busybox", "sh", "-c", "echo up; sleep 1000") as session:
        session.expect("up")
        docker("kill", "one").ok()
        assert session.wait() == 137
    assert docker.look("one", "{{.State.ExitCode}} {{.State.Status}}") == "137 exited"


@pytest.mark.core
def test_detach_logs(docker: Docker) -> None:
    """What runs in the background has its output in the logs."""
    docker.up("--name", "one", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert docker("wait", "one").ok().text == "3"
    # The daemon waits two seconds for the streams, and tells of the end then.
    eventually(lambda: ((done := docker("logs", "one").ok()).out, done.err) == ("out\n", "err\n"), "not all is in the logs")
    docker.up("--name", "two", "busybox", "sh", "-c", "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last")
    with docker.session("logs", "--follow", "two") as session:
        session.expect("first")
        docker("exec", "two", "touch", "/go").ok()
        session.expect("last")
        assert session.wait() == 0


def test_create_start(docker: Docker) -> None:
    """Created, then started, twice: the same files, another process."""
    docker("create", "--name", "one", "busybox", "sh", "-c", "echo x >>/count; wc -l </count").ok()
    assert docker.look("one", "{{.State.Status}}") == "created"
    assert docker("start", "--attach", "one").ok().text == "1"
    assert docker("start", "--attach", "one").ok().text == "2"


def test_env_entrypoint_workdir(docker: Docker) -> None:
    """Variables, entry point and working directory are those that were asked for."""
    done = docker(
        *("run", "--rm", "--env", "A=one two", "--env", "FROM_HERE", "--workdir", "/tmp", "--entrypoint", "/bin/sh", "busybox"),
        *("-c", "echo $A:$FROM_HERE:$PWD:$0:$1:$HOME", "zero", "first"),
        env={"FROM_HERE": "here"},
    )
    assert done.ok().text == "one two:here:/tmp:zero:first:/root"


def test_proc_misc(docker: Docker) -> None:
    """The first process starts as a first process does: nothing of whoever started it is to be seen."""
    report = docker.probe()
    assert (report["pid"], report["ppid"], report["sid"], report["pgid"]) == (1, 0, 1, 1)
    assert report["umask"] == 0o022 and report["pdeathsig"] == 0 and report["subreaper"] == 0
    assert report["signals"] == {"blocked": 0, "pending": 0, "ignored": 0, "caught": 0}
    assert report["oom_score_adj"].strip() == "0" and report["affinity"] == sum(1 << cpu for cpu in os.sched_getaffinity(0))
    assert report["exe"] == "/probe" and report["argv"] == ["/probe", "report"]
    shown = docker("run", "--rm", "busybox", "sh", "-c", "cat /proc/1/comm; cat /proc/uptime; ls -d /proc/[0-9]*").ok().lines
    assert shown[0] == "sh" and len(shown[1].split()) == 2
    assert "/proc/1" in shown[2:] and len(shown[2:]) <= 3


def test_no_fd_leak(docker: Docker) -> None:
    """No descriptor but the three is open, in a container and in exec."""
    assert [fd["fd"] for fd in docker.probe()["fds"]] == [0, 1, 2]
    assert [fd["fd"] for fd in docker.probe("-t")["fds"]] == [0, 1, 2]
    docker.up("--name", "one", "busybox", "/probe", "sleep")
    for options in ((), ("-i",)):
        assert [fd["fd"] for fd in docker("exec", *options, "one", "/probe", "report").ok().json["fds"]] == [0, 1, 2]


def test_events(docker: Docker) -> None:
    """The daemon tells of a container's life in its order."""
    # A name that no other scenario has: the time is of whole seconds.
    since = docker("run", "--rm", "busybox", "date", "+%s").ok().text
    docker("run", "--name", "eventful", "--rm", "busybox", "sh", "-c", "exit 3").fails(3)
    wanted = ["create", "attach", "start", "die", "destroy"]

    def told() -> bool:
        words = ("events", "--since", since, "--until", "0s", "--filter", "container=eventful", "--format", "{{.Action}}")
        return [action for action in docker(*words).ok().lines if action in wanted] == wanted

    eventually(told, "events are missing or in another order")
