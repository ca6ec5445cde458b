# SPDX-License-Identifier: Apache-2.0
"""kubectl exec, attach and port-forward."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cri.client import Cri, CriError
from harness.engine import eventually


@pytest.mark.core
def test_execsync(cri: Cri) -> None:
    """A probe's command: its outputs apart, its status, and an error where it cannot be run."""
    container = cri.pod().run("sleep", "1000", envs=[{"key": "FOO", "value": "bar"}], working_dir="/home")
    assert container.exec("sh", "-c", "echo $FOO; pwd; echo err >&2; exit 4") == ("bar\n/home\n", "err\n", 4)
    out, _, status = container.exec("sh", "-c", "yes 0123456789abcde | head -c 1000000")
    assert (len(out), status) == (1000000, 0)
    for command, words in (("no-such-command", "not found in $path"), ("/etc/passwd", "permission denied")):
        with pytest.raises(CriError) as caught:
            container.exec(command)
        assert words in str(caught.value).lower()
    assert container.exec("true") == ("", "", 0)


def test_execsync_timeout(cri: Cri) -> None:
    """A command that takes longer than it may is killed."""
    container = cri.pod().run("sleep", "1000")
    with pytest.raises(CriError, match="DEADLINE_EXCEEDED"):
        container.exec("sleep", "2000", timeout=1)
    eventually(lambda: "sleep 2000" not in container.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    assert container.exec("true", timeout=60) == ("", "", 0)


def test_exec_parallel(cri: Cri) -> None:
    """Ten at once each get their own output and status."""
    container = cri.pod().run("sleep", "1000")
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda number: container.exec("sh", "-c", f"echo {number}; exit {number}"), range(10)))
    assert done == [(f"{number}\n", "", number) for number in range(10)]


@pytest.mark.core
def test_exec_stream_tty(cri: Cri) -> None:
    """A shell on a terminal, which is typed at and changes its size."""
    container = cri.pod().run("sleep", "1000")
    with container.stream("sh", tty=True) as shell:
        shell.resize(33, 99)
        shell.write(shell.input, "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.02; done; tty; echo size $(stty size)\n")
        assert "/dev/pts/" in shell.expect(shell.output, "size 33 99\r\n")
        shell.resize(44, 111)
        shell.write(shell.input, "until [ \"$(stty size)\" = '44 111' ]; do sleep 0.02; done; echo now $(stty size)\n")
        shell.expect(shell.output, "now 44 111\r\n")
        shell.write(shell.input, "exit 6\n")
        assert shell.status() == 6


@pytest.mark.core
def test_exec_stream_stdin(cri: Cri) -> None:
    """What is piped in arrives, its end as well; the outputs stay apart and the status comes."""
    container = cri.pod().run("sleep", "1000")
    with container.stream("sh", "-c", "cat; echo the end; echo err >&2; exit 5") as pipe:
        text = "".join(f"line {number}\n" for number in range(2000))
        pipe.write(pipe.input, text)
        assert pipe.expect(pipe.output, "line 1999\n") == text
        pipe.write(pipe.input, "", last=True)
        assert pipe.status() == 5
        assert pipe.rest(pipe.output) == "the end\n"
        assert pipe.rest(pipe.other) == "err\n"
    with container.stream("true") as pipe:
        assert pipe.status() == 0


def test_attach_tty(cri: Cri) -> None:
    """A container's own shell on its terminal is attached to, left, and attached to again."""
    container = cri.pod().run("sh", tty=True, stdin=True)
    with container.attach(tty=True) as shell:
        shell.resize(25, 77)
        shell.write(shell.input, "until [ \"$(stty size)\" = '25 77' ]; do sleep 0.02; done; x=kept; echo size $(stty size)\n")
        shell.expect(shell.output, "size 25 77\r\n")
    with container.attach(tty=True) as shell:
        shell.write(shell.input, "echo still $x\n")
        shell.expect(shell.output, "still kept\r\n")
        shell.write(shell.input, "exit 8\n")
        assert container.ended()["exit_code"] == 8
    assert "size 25 77" in container.log()


def test_port_forward(cri: Cri) -> None:
    """A port of the pod answers through the engine, several times over one connection; one where nobody listens does not."""
    pod = cri.pod()
    server = pod.run("httpd", "-f", "-p", "8080", "-h", "/etc")
    eventually(lambda: ":1F90 " in server.shell("cat /proc/net/tcp*"))
    with pod.forward(8080) as forwarding:
        for path, words in (("passwd", "root:x:0:0:"), ("group", "user:x:1000:")):
            data, error = forwarding.connect(8080)
            forwarding.write(data, f"GET /{path} HTTP/1.0\r\n\r\n")
            assert words in forwarding.rest(data)
            assert forwarding.rest(error) == ""
    with pod.forward(8081) as forwarding:
        _, error = forwarding.connect(8081)
        assert "connection refused" in forwarding.rest(error)
