# SPDX-License-Identifier: Apache-2.0
"""process.terminal, process.consoleSize and the console socket."""

from __future__ import annotations

import os
import pty
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import TIMEOUT, RuntimeCommand
from support.report import Json, parse_lines
from support.terminal import ConsoleSocket, read_terminal, window_size

pytestmark = pytest.mark.root


@pytest.fixture
def console(workdir: Path) -> Iterator[ConsoleSocket]:
    """A listening console socket."""
    with ConsoleSocket(workdir / "console") as made:
        yield made


def run_on(runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket) -> list[Json]:
    """Create with the console socket, start, and return the JSON lines from the terminal."""
    runtime.try_create(bundle, "--console-socket", str(console.path)).ok()
    master = console.receive()
    runtime.call("start", bundle.id).ok()
    return parse_lines(read_terminal(master))


def test_terminal(runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket) -> None:
    """S-31: one descriptor, a pseudo-terminal master; inside a controlling terminal of the asked size."""
    bundle.process(terminal=True, consoleSize={"height": 31, "width": 97})
    bundle.seq("report", ["stat", "/dev/console", "/proc/self/fd/0", "/dev/tty"])
    runtime.try_create(bundle, "--console-socket", str(console.path)).ok()
    master = console.receive()
    assert console.count == 1
    assert stat.S_ISCHR(os.fstat(master).st_mode)
    assert os.major(os.fstat(master).st_rdev) == 5
    assert os.minor(os.fstat(master).st_rdev) == 2
    assert window_size(master) == (31, 97)
    runtime.call("start", bundle.id).ok()
    report, files = parse_lines(read_terminal(master))
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    assert all(entry["tty"] for entry in report["stdio"])
    assert (report["stdio"][0]["rows"], report["stdio"][0]["cols"]) == (31, 97)
    assert report["has_ctty"]
    assert report["tty_nr"] != 0
    assert report["sid"] == report["pid"] == 1
    by_path = {entry["path"]: entry for entry in files["files"]}
    slave = by_path["/proc/self/fd/0"]["rdev"]
    assert slave[0] == 136
    assert by_path["/dev/console"]["rdev"] == slave


def test_terminal_belongs_to_the_user(runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket) -> None:
    """S-31: the slave is owned by the container's user, in a user namespace through its mapping."""
    bundle.userns().process(terminal=True, user={"uid": 1000, "gid": 1000})
    bundle.seq("report", ["open", "/proc/self/fd/0", "rdwr,noctty"], ["stat", "/proc/self/fd/0"])
    report, opened, files = run_on(runtime, bundle, console)
    assert "errno" not in opened
    assert files["files"][0]["uid"] == 1000
    assert report["uids"] == [1000] * 4


def test_terminal_input_and_signals(runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket) -> None:
    """What is typed arrives, and ctrl-C is a signal of the foreground group."""
    bundle.process(terminal=True).seq(["on-signal", "2", "44"], "ready", "sleep")
    runtime.try_create(bundle, "--console-socket", str(console.path)).ok()
    master = console.receive()
    runtime.call("start", bundle.id).ok()
    data = b""
    while b"ready" not in data:
        data += os.read(master, 4096)
    os.write(master, b"\x03")
    assert b'"signal":2' in read_terminal(master)


@pytest.mark.parametrize("size", [{"height": 0, "width": 0}, {"height": 65535, "width": 1}])
def test_console_size_at_the_edge(
    runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket, size: dict[str, int]
) -> None:
    """Sizes are sixteen bits wide and arrive as they are."""
    bundle.process(terminal=True, consoleSize=size)
    (report,) = run_on(runtime, bundle, console)
    assert (report["stdio"][0]["rows"], report["stdio"][0]["cols"]) == (
        size["height"],
        size["width"],
    )


def test_console_size_without_terminal_is_ignored(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """consoleSize means nothing without a terminal."""
    bundle.process(terminal=False, consoleSize={"height": 10, "width": 10})
    assert not runtime.report(bundle)["stdio"][1]["tty"]


def test_terminal_needs_a_console_socket(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """create of a bundle with a terminal needs a console socket."""
    if runtime.name == "crun":
        pytest.skip("peer: crun makes a terminal that nobody can use")
    runtime.try_create(bundle.process(terminal=True)).refused("console")


def test_console_socket_needs_a_terminal(runtime: RuntimeCommand, bundle: Bundle, console: ConsoleSocket) -> None:
    """A console socket for a bundle without a terminal is refused."""
    if runtime.name == "crun":
        pytest.skip("peer: crun ignores the socket")
    runtime.try_create(bundle, "--console-socket", str(console.path)).refused("console")


@pytest.mark.parametrize("kind", ["missing", "not-listening", "file", "directory"])
def test_console_socket_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, kind: str) -> None:
    """S-31: a console socket that nobody serves is an error of create, which leaves nothing."""
    path = workdir / "socket"
    if kind == "not-listening":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.close()
    elif kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    runtime.try_create(bundle.process(terminal=True), "--console-socket", str(path)).refused()
    runtime.call("state", bundle.id).refused("does not exist")


def test_console_socket_with_a_long_path(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """R-23: a socket whose path is longer than sun_path works, or the limit is named."""
    if runtime.name == "crun":
        pytest.skip("peer: crun cuts the path")
    deep = workdir / ("d" * 100)
    deep.mkdir()
    here = os.getcwd()
    os.chdir(deep)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("s")
    os.chdir(here)
    listener.listen(1)
    with listener:
        result = runtime.try_create(bundle.process(terminal=True), "--console-socket", str(deep / "s"))
        if result.rc != 0:
            result.refused()
            return
        listener.settimeout(TIMEOUT)
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
        assert len(fds) == 1
        os.close(fds[0])


def test_foreground_run_with_a_terminal(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """run on a terminal gives the container one of its own, and passes output and size through."""
    bundle.process(terminal=True).seq("report").write()
    runtime.remember(bundle.id)
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            runtime.command("run", "--bundle", str(bundle.path), bundle.id),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as process:
            try:
                os.close(slave)
                slave = -1
                (report,) = parse_lines(read_terminal(master))
                assert process.wait(TIMEOUT) == 0
            finally:
                process.kill()
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    assert report["has_ctty"]
    assert all(entry["tty"] for entry in report["stdio"])
