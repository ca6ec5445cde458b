# SPDX-License-Identifier: Apache-2.0
"""R-28: a signal that comes just before a wait is not lost: it ends the wait, or goes where signals go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import ENVIRONMENT, Result, RuntimeCommand, reap
from support.native import FaultK
from support.oracle import HostSnapshot
from support.sweep import spread
from support.waits import Race, hook, is_asleep

pytestmark = pytest.mark.root
TERMINATED = 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("create", "createRuntime"),
        ("create", "createContainer"),
        ("run", "startContainer"),
        ("run", "poststart"),
    ],
)
def test_what_was_begun_is_undone(
    runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot, number: int, kind: str, verb: str
) -> None:
    """Before create and run wait for a hook, and for init."""
    mark = bundle.inside("/mark")
    entry = hook(mark)
    if kind == "startContainer":
        entry = {"path": "/probe", "args": ["probe", "seq", "create", "/mark", "x", "--", "sleep"]}
    bundle.patch({"hooks": {kind: [entry]}}).write()
    runtime.remember(bundle.id)
    pid_file = bundle.path / "pid"
    words = [verb, "--bundle", str(bundle.path), "--pid-file", str(pid_file), bundle.id]
    if kind == "poststart":
        words[1:1] = ["--detach"]  # else the signal would be for the process
    result = Race(runtime, bundle.path / "calls", *words).run(number, mark.exists, mark.unlink)
    assert (result.rc, result.stderr) == (128 + number, "")
    runtime.call("state", bundle.id).refused("does not exist")
    assert not pid_file.exists()
    oracle.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_events(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, number: int) -> None:
    """Before events waits, as long as the container lives."""
    container = runtime.create(sleeper).start()
    container.line()
    words = ("events", "--interval", "1h", container.id)
    result = Race(runtime, workdir / "calls", *words).run(number, lambda: True)
    assert (result.rc, result.stderr) == (128 + number, "")
    assert container.status() == "running"


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_hooks_of_start_and_delete(
    runtime: RuntimeCommand, sleeper: Bundle, oracle: HostSnapshot, kind: str
) -> None:
    """The hook that start or delete waits for ends with it."""
    mark = sleeper.path / "mark"
    sleeper.patch({"hooks": {kind: [hook(mark)]}})
    verb = "start" if kind == "poststart" else "delete"

    def prepare() -> None:
        mark.unlink(missing_ok=True)
        runtime.call("delete", "--force", sleeper.id)
        container = runtime.create(sleeper)
        if verb == "delete":
            container.kill().ok()  # so that delete waits for nothing else
            container.wait()

    prepare()
    result = Race(runtime, sleeper.path / "calls", verb, sleeper.id).run(signal.SIGTERM, mark.exists, prepare)
    assert (result.rc, result.stderr) == (TERMINATED, "")
    if verb == "delete":
        runtime.call("state", sleeper.id).refused("does not exist")
    runtime.call("delete", "--force", sleeper.id).ok()
    oracle.assert_clean()


@pytest.fixture
def full_socket(workdir: Path) -> Iterator[Path]:
    """A socket that nobody accepts connections of, nor has room for one more."""
    path = workdir / "console.sock"
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as clients:
        listening.bind(str(path))
        listening.listen(0)
        try:
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        except BlockingIOError:
            yield path


def test_connecting(runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot, full_socket: Path) -> None:
    """Before create waits for whoever takes the terminal, and while it does."""
    bundle.process(terminal=True).write()
    runtime.remember(bundle.id)
    words = ("create", "--bundle", str(bundle.path), "--console-socket", str(full_socket), bundle.id)
    result = Race(runtime, bundle.path / "calls", *words, only="connect").run(signal.SIGTERM, lambda: True)
    assert (result.rc, result.stderr) == (TERMINATED, "")
    oracle.assert_clean()


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_is_forwarded(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, verb: str) -> None:
    """Before run and exec wait for the end of the process, the signal is for that."""
    program = ["seq", "create", "/mark", "x", "--", "sleep"]
    if verb == "run":
        sleeper.namespaces(without=("pid",)).args(*program).write()  # else it would ignore the signal
        words = ["run", "--bundle", str(sleeper.path), sleeper.id]
        runtime.remember(sleeper.id)
    else:
        container = runtime.create(sleeper).start()
        container.line()
        words = ["exec", container.id, "/probe", *program]
    mark = sleeper.inside("/mark")
    result = Race(runtime, workdir / "calls", *words).run(signal.SIGUSR1, mark.exists, mark.unlink)
    assert (result.rc, result.stderr) == (128 + signal.SIGUSR1, "")


@pytest.mark.parametrize("verb", ["update", "mounts"])
def test_reading_the_document(runtime: RuntimeCommand, sleeper: Bundle, verb: str) -> None:
    """A document that nobody types at the terminal, or writes to a pipe, is not waited for."""
    container = runtime.create(sleeper)
    words = ("update", "--resources", "-", container.id) if verb == "update" else ("mounts", "add", container.id, "-")
    reader, writer = os.pipe()
    with subprocess.Popen(runtime.command(*words), stdin=reader, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        os.close(reader)
        until(lambda: reads(process.pid), "it reads")
        process.terminate()
        try:
            assert process.wait(60) == -signal.SIGTERM
        finally:
            os.close(writer)


def reads(pid: int) -> bool:
    """Say whether a process waits for what comes through its standard input."""
    return Path(f"/proc/{pid}/wchan").read_text().endswith("pipe_read") and is_asleep(pid)


def test_two_at_once(runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot) -> None:
    """One of them ends the command, and the other is no news."""
    mark = bundle.path / "mark"
    bundle.patch({"hooks": {"createRuntime": [hook(mark)]}}).write()
    runtime.remember(bundle.id)
    command = runtime.command("create", "--bundle", str(bundle.path), bundle.id)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        until(lambda: mark.exists() and is_asleep(process.pid), "the hook runs")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) in ((128 + signal.SIGINT, b""), (TERMINATED, b""))
    oracle.assert_clean()


@pytest.mark.parametrize("fails", [None, "create", "start"])
def test_before_any_call(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, oracle: HostSnapshot, fails: str | None
) -> None:
    """Whenever it comes, also while a run that failed undoes what it did, all is there or nothing is."""
    faultk = FaultK(workdir / "calls", only="changing,poll,ppoll", by="parent")
    bundle.file("/garbage", "#", 0o755).seq("ready", "sleep")
    if fails == "start":
        bundle.process(args=["/garbage"])
    pid_file = workdir / ("nowhere/pid" if fails == "create" else "pid")

    def run(*wrapper: str) -> Result:
        bundle.again().write()
        runtime.remember(bundle.id)
        words = ("run", "--detach", "--bundle", str(bundle.path), "--pid-file", str(pid_file), bundle.id)
        return runtime.under(*wrapper).call(*words)

    run(*faultk.count())
    total = len(faultk.calls())
    runtime.cleanup()
    ended = []
    for number in spread(total):
        result = run(*faultk.signal(number, signal.SIGTERM))
        ended.append((number, result.rc, result.stderr))
        if result.rc == 0:
            runtime.call("delete", "--force", bundle.id, orphans=True).ok()
        runtime.call("state", bundle.id).refused("does not exist")
        reap()
        oracle.assert_clean()
    # Put off to the end where no wait was left.
    assert {code for _, code, _ in ended} <= {TERMINATED, 1 if fails else 0}, ended
    assert not [each for each in ended if each[1] == TERMINATED and each[2]], ended
