# SPDX-License-Identifier: Apache-2.0
"""exec: what the command adds to the library: exit status, signals, terminal, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli.test_run_terminal import Session
from support.bundle import Bundle
from support.cgroup import until
from support.command import ENVIRONMENT, Container, RuntimeCommand
from support.oracle import HostSnapshot

pytestmark = pytest.mark.root


@pytest.fixture
def container(runtime: RuntimeCommand, sleeper: Bundle) -> Container:
    """A container that runs."""
    made = runtime.create(sleeper).start()
    made.line()
    return made


@contextmanager
def executing(runtime: RuntimeCommand, *words: str, **keywords: Any) -> Iterator[subprocess.Popen[bytes]]:
    """exec in the foreground, from when the program has said that it is ready."""
    process = subprocess.Popen(
        runtime.command("exec", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env=ENVIRONMENT, **keywords,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        while b'"ready"' not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # not read to its end: a process that is left has it too


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_code(runtime: RuntimeCommand, container: Container, code: int) -> None:
    """The status of exec is that of the process, and there is no word of ours."""
    result = runtime.call("exec", container.id, "/probe", "exit", str(code))
    assert (result.rc, result.stderr) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_killed_by_a_signal(runtime: RuntimeCommand, container: Container, workdir: Path, number: int) -> None:
    """128 + N after signal N."""
    pid_file = workdir / "pid"
    words = ("--pid-file", str(pid_file), container.id, "/probe", "seq", "ready", "--", "sleep")
    with executing(runtime, *words) as process:
        os.kill(int(pid_file.read_text()), number)
        assert process.wait(60) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN])
def test_signals_are_forwarded(runtime: RuntimeCommand, container: Container, number: int) -> None:
    """R-28: signals that are for the process reach it, and not the container's own process."""
    words = (container.id, "/probe", "seq", "on-signal", str(int(number)), "33", "--", "ready", "--", "sleep")
    with executing(runtime, *words) as process:
        process.send_signal(number)
        assert process.wait(60) == 33
    assert container.status() == "running"


def test_process_goes_on_without_us(runtime: RuntimeCommand, container: Container, workdir: Path) -> None:
    """kill -9 of exec leaves the process to whoever is the subreaper, as with runc."""
    pid_file = workdir / "pid"
    words = ("--pid-file", str(pid_file), container.id, "/probe", "seq", "ready", "--", "sleep")
    with executing(runtime, *words) as process:
        process.kill()
        process.wait(60)
        pid = int(pid_file.read_text())
        assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_killed(pid: str) -> bool:
    """Say whether SIGKILL was sent to a process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = [int(status.partition(name)[2].split()[0], 16) for name in ("SigPnd:", "ShdPnd:")]
    return "State:\tZ" in status or any(signals >> (signal.SIGKILL - 1) & 1 for signals in pending)


def test_interrupted_before_the_process_runs(
    oracle: HostSnapshot, runtime: RuntimeCommand, container: Container, workdir: Path
) -> None:
    """R-28: a signal while exec waits, here in a paused container, undoes what was begun."""
    runtime.call("pause", container.id).ok()
    pid_file = workdir / "pid"
    process = subprocess.Popen(
        runtime.command("exec", "--ignore-paused", "--pid-file", str(pid_file), container.id, "/probe", "sleep"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: process.poll() is not None or bool(children.read_text()), "a process is made")
    process.send_signal(signal.SIGTERM)
    # Version 1 delivers nothing to what is frozen, so it cannot be reaped yet.
    until(lambda: all(map(is_killed, children.read_text().split())), "the process is killed")
    runtime.call("resume", container.id).ok()
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert b"Traceback" not in errors
    assert not pid_file.exists()
    container.delete("--force").ok()
    oracle.assert_clean()


def test_terminal_in_the_foreground(runtime: RuntimeCommand, sleeper: Bundle, container: Container) -> None:
    """exec -t: a terminal of the container with the size of ours, and changes of that; the mode of ours is given back."""
    program = ("seq", "report", "--", "on-signal", "28", "-1", "--", "ready", "--", "wait-signal", "--", "report")
    here = Session(runtime, sleeper, words=("exec", "-t", container.id, "/probe", *program), rows=33, columns=101)
    try:
        (report, *_) = here.lines(b'"verb":"ready"')
        assert [(each["rows"], each["cols"]) for each in report["stdio"]] == [(33, 101)] * 3
        assert report["has_ctty"]
        here.until(b'"wait-signal","ready":true')
        assert not termios.tcgetattr(here.terminal)[3] & termios.ECHO
        here.resize(44, 55)
        os.kill(here.process.pid, signal.SIGWINCH)
        here.until(b'"signal":28')
        assert b'"rows":44' in here.until(b'"seccomp"') + here.until(b"\n")
        assert here.process.wait(60) == 0
        assert termios.tcgetattr(here.terminal) == here.before
    finally:
        here.close()


def test_typing(runtime: RuntimeCommand, sleeper: Bundle, container: Container) -> None:
    """What is typed is the process's to interpret, control characters too."""
    program = ("seq", "on-signal", "2", "9", "--", "ready", "--", "sleep")
    here = Session(runtime, sleeper, words=("exec", "-t", container.id, "/probe", *program))
    try:
        here.until(b'"verb":"ready"')
        here.type(b"\x03")
        here.until(b'"signal":2')
        assert here.process.wait(60) == 9
    finally:
        here.close()


def test_terminal_of_a_document(runtime: RuntimeCommand, sleeper: Bundle, container: Container, workdir: Path) -> None:
    """The document alone can ask for a terminal."""
    path = workdir / "process.json"
    path.write_text(json.dumps({"cwd": "/", "args": ["/probe", "report"], "terminal": True, "env": []}))
    here = Session(runtime, sleeper, words=("exec", "-p", str(path), container.id))
    try:
        (report,) = here.lines(b"\n")
        assert report["has_ctty"]
        assert here.process.wait(60) == 0
    finally:
        here.close()


def test_failures_have_the_status_255(runtime: RuntimeCommand, container: Container, workdir: Path) -> None:
    """Whatever keeps the program from being executed: 255, one line in the log, and no traceback."""
    log = workdir / "log"
    for words in (
        (container.id,),
        (),
        ("--nosuch", container.id, "/probe"),
        ("nosuch", "/probe"),
        ("-u", "root", container.id, "/probe"),
        ("--preserve-fds", "x", container.id, "/probe"),
        ("--cwd", "/nosuch", container.id, "/probe"),
        ("-p", "/nosuch", container.id),
        ("--console-socket", "/nosuch", "-t", "-d", container.id, "/probe"),
    ):
        log.unlink(missing_ok=True)
        result = runtime.call("exec", *words, options=["--log", str(log), "--log-format", "json"])
        result.refused()
        assert result.rc == 255, words
        [record] = [json.loads(line) for line in log.read_text().splitlines()]
        assert (record["level"], bool(record["msg"])) == ("error", True)


def test_warnings(runtime: RuntimeCommand, container: Container, workdir: Path) -> None:
    """A capability that the kernel does not know is left out, and the log says so."""
    log = workdir / "log"
    options = ["--log", str(log), "--log-format", "json"]
    runtime.call("exec", "--cap", "CAP_NOSUCH", container.id, "/probe", "exit", "0", options=options).ok()
    [record] = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["level"] == "warning"
    assert "CAP_NOSUCH" in record["msg"]


@pytest.mark.parametrize(
    ("option", "pointer"), [("--apparmor", "/process/apparmorProfile"), ("--process-label", "/process/selinuxLabel")]
)
def test_labels_that_cannot_be(runtime: RuntimeCommand, container: Container, option: str, pointer: str) -> None:
    """They are the process's: one that the kernel does not know is refused, as is any where it knows none."""
    result = runtime.call("exec", option, "no:such:label:s0", container.id, "/probe", "report")
    result.refused(pointer)
    assert (result.rc, result.stdout) == (255, b"")


@pytest.mark.parametrize("words", [(), ("-d",), ("-t",)], ids=lambda words: " ".join(words) or "foreground")
@pytest.mark.parametrize("count", [1, 2, 9])
def test_no_descriptor_of_ours_is_preserved(
    runtime: RuntimeCommand, container: Container, words: tuple[str, ...], count: int
) -> None:
    """What is to be preserved is the caller's, or there is an error: what exec itself has open is not the container's."""
    result = runtime.call("exec", "--preserve-fds", str(count), *words, container.id, "/probe", "report")
    result.refused("descriptor 3", "not open")
    assert (result.rc, result.stdout) == (255, b"")
