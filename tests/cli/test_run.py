# SPDX-License-Identifier: Apache-2.0
"""run: the exit code, signals, descriptors and options of a container in the foreground or detached."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import ENVIRONMENT, RuntimeCommand
from support.oracle import HostSnapshot
from support.report import mount_at, parse_lines

pytestmark = pytest.mark.root


@contextmanager
def running(
    runtime: RuntimeCommand, bundle: Bundle, *words: str, until: bytes | None = b"ready", **keywords: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """`run` a bundle in the foreground, from when it has printed `until`."""
    bundle.write()
    runtime.remember(bundle.id)
    process = subprocess.Popen(
        runtime.command("run", "--bundle", str(bundle.path), *words, bundle.id),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=ENVIRONMENT | keywords.pop("env", {}),
        **keywords,
    )
    assert process.stdout is not None
    try:
        while until is not None and until not in (line := process.stdout.readline()):
            assert line, process.stderr.read() if process.stderr else ""
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()  # not read to its end: a container that is left has it too


@pytest.mark.parametrize("code", [0, 1, 7, 127, 128, 255])
def test_exit_code(runtime: RuntimeCommand, bundle: Bundle, code: int) -> None:
    """The status of a foreground run is that of the process."""
    result = runtime.run(bundle.args("exit", str(code)))
    assert (result.rc, result.stderr) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMAX])
def test_killed_by_a_signal(runtime: RuntimeCommand, bundle: Bundle, number: int) -> None:
    """128 + N after signal N, as a shell has it."""
    bundle.seq("ready", "sleep")
    bundle.namespaces(without=("pid",))  # else only KILL would end the first process of its namespace
    with running(runtime, bundle) as process:
        pid = int(json.loads(runtime.call("state", bundle.id).ok().stdout)["pid"])
        os.kill(pid, number)
        assert process.wait(60) == 128 + number


def test_container_is_gone_afterwards(runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot) -> None:
    """A foreground run deletes its container, and its pid file is the engine's."""
    runtime.run(bundle).ok()
    runtime.call("state", bundle.id).refused("does not exist")
    oracle.assert_clean()


def test_keep(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """--keep leaves the stopped container for whoever wants to look at it."""
    assert runtime.run(bundle.args("exit", "3"), "--keep").rc == 3
    assert runtime.state(bundle.id)["status"] == "stopped"
    runtime.call("delete", bundle.id).ok()


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_adopts_orphans(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Orphans of a container without a pid namespace become children of run, which reaps them."""
    bundle.namespaces(without=("pid",)).seq(["run", "/probe", "fork", "2"], "ready", "sleep")
    with running(runtime, bundle) as process:
        adopted = set(children(process.pid)) - {runtime.state(bundle.id)["pid"]}
        assert len(adopted) == 2
        for pid in adopted:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while adopted & set(children(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        runtime.call("kill", bundle.id, "KILL").ok()
        assert process.wait(60) == 137


@pytest.mark.parametrize("option", ["--no-subreaper", "-no-subreaper"])
def test_no_subreaper(runtime: RuntimeCommand, bundle: Bundle, option: str) -> None:
    """With --no-subreaper (containerd writes it with one dash) orphans are somebody else's."""
    bundle.namespaces(without=("pid",)).seq(["run", "/probe", "fork", "2"], "ready", "sleep")
    with running(runtime, bundle, option) as process:
        assert children(process.pid) == [runtime.state(bundle.id)["pid"]]
        runtime.call("kill", "--all", bundle.id, "KILL").ok()
        assert process.wait(60) == 137


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
               signal.SIGALRM, signal.SIGCONT, signal.SIGIO, signal.SIGXCPU, signal.SIGRTMIN, signal.SIGRTMAX],
)  # fmt: skip
def test_signals_are_forwarded(runtime: RuntimeCommand, bundle: Bundle, number: int) -> None:
    """R-28: signals that are for the container reach it, and its handler decides."""
    bundle.seq(["on-signal", str(int(number)), "33"], "ready", "sleep")
    with running(runtime, bundle) as process:
        process.send_signal(number)
        assert process.wait(60) == 33


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGPIPE])
def test_signals_that_are_ours(runtime: RuntimeCommand, bundle: Bundle, number: int) -> None:
    """R-28: what concerns the command itself does not reach the container, and does not end the command."""
    bundle.seq(["on-signal", str(int(number)), "33"], ["on-signal", "15", "44"], "ready", "sleep")
    with running(runtime, bundle) as process:
        process.send_signal(number)
        time.sleep(0.05)  # a signal that is not forwarded leaves nothing to wait for
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 44


def test_many_signals(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """R-28: none of many signals in a row hangs or ends the command."""
    bundle.seq(["on-signal", "10", "-1"], ["on-signal", "15", "21"], "ready", "sleep")
    with running(runtime, bundle) as process:
        for _ in range(300):
            process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 21


def test_signals_that_the_caller_blocks(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A caller that blocks every signal while it starts us does not keep them from the container."""
    bundle.seq(["on-signal", "15", "33"], "ready", "sleep")
    with running(
        runtime, bundle, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    ) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 33


def test_signals_that_the_caller_ignores(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Under nohup a hang-up stays ignored."""
    bundle.seq(["on-signal", "1", "33"], ["on-signal", "15", "44"], "ready", "sleep")
    with running(
        runtime, bundle, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 44


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("create", "createRuntime"),
        ("create", "createContainer"),
        ("run", "createRuntime"),
        ("run", "createContainer"),
        ("run", "startContainer"),
        ("run", "poststart"),
    ],
)
def test_interrupted_before_the_process_runs(
    runtime: RuntimeCommand, bundle: Bundle, probe: Path, oracle: HostSnapshot, number: int, kind: str, verb: str
) -> None:
    """R-28: a signal while a hook keeps create or run waiting undoes everything."""
    started = bundle.path / "started"
    path = "/probe" if kind == "startContainer" else str(probe)
    where = "/started" if kind == "startContainer" else str(started)
    if kind == "startContainer":
        started = bundle.rootfs / "started"
    hook = {"path": path, "args": ["probe", "seq", "create", where, "x", "--", "sleep"]}
    bundle.patch({"hooks": {kind: [hook]}}).write()
    runtime.remember(bundle.id)
    pid_file = bundle.path / "pid"
    process = subprocess.Popen(
        runtime.command(verb, "--bundle", str(bundle.path), "--pid-file", str(pid_file), bundle.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    while kind == "poststart" and runtime.state(bundle.id)["status"] != "stopped":
        assert time.monotonic() < deadline  # while it runs the signal would be its own
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    assert b"Traceback" not in errors
    runtime.call("state", bundle.id).refused("does not exist")
    assert not pid_file.exists()
    oracle.assert_clean()


def test_detach(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """--detach returns 0 while the process runs, with the pid in the file."""
    pid_file = workdir / "pid"
    runtime.run(sleeper, "--detach", "--pid-file", str(pid_file)).ok()
    state = runtime.state(sleeper.id)
    assert (state["status"], state["pid"]) == ("running", int(pid_file.read_text()))


def test_detach_with_a_terminal_needs_a_socket(
    runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot
) -> None:
    """Nobody would own the terminal of a detached container."""
    runtime.run(bundle.process(terminal=True), "-d").refused("terminal", "console")
    oracle.assert_clean()


def test_run_that_cannot_start(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, oracle: HostSnapshot) -> None:
    """A program that does not exist is status 1 with the words that engines look for, and leaves nothing."""
    pid_file = workdir / "pid"
    result = runtime.run(bundle.process(args=["nosuch"]), "--pid-file", str(pid_file))
    result.refused("executable file not found in $PATH")
    assert result.rc == 1
    assert not pid_file.exists()
    runtime.call("state", bundle.id).refused("does not exist")
    oracle.assert_clean()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], "executable file not found in $PATH"),
        (["/nosuch"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
        (["/bad"], "exec format error"),
    ],
)
def test_words_that_engines_look_for(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, args: list[str], words: str
) -> None:
    """podman and docker turn these words in the log into 127 and 126."""
    bundle.file("/bad", "no program\n", 0o755).process(args=args)
    log = workdir / "log"
    result = runtime.run(bundle, options=["--log", str(log), "--log-format", "json"])
    result.refused(words)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    last = [record for record in records if record["level"] == "error"][-1]
    assert words.lower() in last["msg"].lower()


def test_preserve_fds_and_activation(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The descriptors of socket activation come first, those of --preserve-fds after them."""

    def fill() -> None:
        for number in (3, 4, 5):
            os.dup2(os.open("/dev/null", os.O_RDONLY), number, inheritable=True)

    activated = runtime.under("sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "sh")
    report = activated.report(bundle, "--preserve-fds", "1", before_exec=fill, close_fds=False)
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2, 3, 4, 5]
    assert {"LISTEN_FDS=2", "LISTEN_PID=1"} <= set(report["environ"])


@pytest.mark.parametrize(("words", "terminal"), [(["create"], False), (["run"], False), (["run"], True), (["run", "--detach"], False)])
@pytest.mark.parametrize("kind", ["preserved", "activation"])
def test_no_descriptor_of_ours_is_preserved(
    runtime: RuntimeCommand, bundle: Bundle, words: list[str], terminal: bool, kind: str
) -> None:
    """What is to be preserved is the caller's, or there is an error: what the command has open is not the container's."""
    bundle.process(terminal=terminal).write()
    given, env = (["--preserve-fds", "1"], {}) if kind == "preserved" else ([], {"LISTEN_FDS": "1"})
    result = runtime.call(*words, *given, "--bundle", str(bundle.path), bundle.id, env=env)
    result.refused("descriptor 3", "not open")
    assert not (runtime.root / bundle.id).exists()


def test_activation_of_somebody_else(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """LISTEN_FDS that was inherited from the service which started us is not for the container."""
    report = runtime.report(bundle, env={"LISTEN_FDS": "3", "LISTEN_PID": "1"})
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    assert not any(entry.startswith("LISTEN_") for entry in report["environ"])


@pytest.fixture
def supervisor(workdir: Path) -> Iterator[socket.socket]:
    """The socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(workdir / "notify"))
        made.settimeout(60)
        yield made


def test_notify_in_the_foreground(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, supervisor: socket.socket
) -> None:
    """sd_notify: READY=1 of the container reaches the supervisor, with the pid to watch."""
    bundle.seq(["sdnotify", "STATUS=nearly"], ["sdnotify", "READY=1"], "ready", "sleep")
    with running(runtime, bundle, env={"NOTIFY_SOCKET": str(workdir / "notify")}) as process:
        lines = supervisor.recv(4096).decode().split("\n")
        assert "READY=1" in lines
        assert f"MAINPID={runtime.state(bundle.id)['pid']}" in lines
        runtime.call("kill", bundle.id, "KILL").ok()
        assert process.wait(60) == 137


def test_notify_detached(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, supervisor: socket.socket
) -> None:
    """create and start with NOTIFY_SOCKET: start returns when the container is ready."""
    bundle.seq(["sdnotify", "READY=1"], "ready", "sleep")
    env = {"NOTIFY_SOCKET": str(workdir / "notify")}
    container = runtime.create(bundle, env=env)
    runtime.call("start", bundle.id, env=env).ok()
    assert "READY=1" in supervisor.recv(4096).decode().split("\n")
    assert container.line()["verb"] == "sdnotify"


@pytest.mark.parametrize("userns", [False, True])
def test_notify_directory_is_not_the_containers(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, supervisor: socket.socket, oracle: HostSnapshot, userns: bool
) -> None:
    """V-23: the container can write to the socket, but neither fill our state root nor keep delete from emptying it."""
    if userns:
        bundle.userns().dir("/run/notify")
    bundle.seq(["create", "/run/notify/x", "x"], ["sdnotify", "READY=1"], "report")
    result = runtime.run(bundle, env={"NOTIFY_SOCKET": str(workdir / "notify")}).ok()
    assert result.outcomes("create") == {"/run/notify/x": "EROFS"}
    assert "READY=1" in supervisor.recv(4096).decode().split("\n")
    assert {"ro", "nosuid", "nodev", "noexec"} <= mount_at(result.report["mountinfo"], "/run/notify").options
    oracle.assert_clean()


def test_notify_of_a_container_that_ends(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, supervisor: socket.socket, oracle: HostSnapshot
) -> None:
    """A container that ends without being ready does not keep run waiting."""
    result = runtime.run(bundle.args("exit", "5"), env={"NOTIFY_SOCKET": str(workdir / "notify")})
    assert result.rc == 5
    supervisor.setblocking(False)
    with pytest.raises(BlockingIOError):
        supervisor.recv(4096)
    oracle.assert_clean()


def test_pidfd_socket(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """--pidfd-socket gets one descriptor, which is a pidfd of the container's process."""
    path = workdir / "pidfd"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(60)
        container = runtime.create(sleeper, "--pidfd-socket", str(path))
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    (pidfd,) = fds
    try:
        assert f"Pid:\t{container.pid}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("option", ["--console-socket", "--pidfd-socket"])
def test_sockets_that_vanished(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, oracle: HostSnapshot, option: str
) -> None:
    """A socket that is no longer there is a clear error within its deadline, and nothing is left."""
    path = workdir / "gone"
    if option == "--console-socket":
        bundle.process(terminal=True)
    pid_file = workdir / "pid"
    result = runtime.try_create(bundle, option, str(path), "--pid-file", str(pid_file))
    result.refused(str(path))
    assert not pid_file.exists()
    oracle.assert_clean()


def test_closed_output(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """run with all standard descriptors closed works and ends as the process does."""

    def close() -> None:
        for number in (0, 1, 2):
            os.close(number)

    bundle.args("exit", "9").write()
    runtime.remember(bundle.id)
    done = subprocess.run(
        runtime.command("run", "--bundle", str(bundle.path), bundle.id), preexec_fn=close, check=False, timeout=60
    )
    assert done.returncode == 9


def test_detached_run_is_not_killed_with_its_caller(
    runtime: RuntimeCommand, sleeper: Bundle, before_death: Callable[[], None]
) -> None:
    """engines.md: the shim calls with PDEATHSIG=KILL, which must not be passed to the container."""
    sleeper.write()
    runtime.remember(sleeper.id)
    words = runtime.command("run", "-d", "--bundle", str(sleeper.path), sleeper.id)
    code = f"import subprocess; subprocess.run({words!r}, check=True, preexec_fn=None, stdout=subprocess.DEVNULL)"
    subprocess.run([sys.executable, "-c", code], preexec_fn=before_death, check=True, timeout=60)
    assert runtime.state(sleeper.id)["status"] == "running"


@pytest.fixture
def before_death() -> Callable[[], None]:
    """Ask for SIGKILL when our parent dies, as containerd's shim does."""
    import ctypes

    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL, 0, 0, 0)


def test_output_of_the_probe_is_untouched(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Nothing of ours is mixed into the container's output."""
    result = runtime.run(bundle.args("echo", "hello")).ok()
    assert result.stdout == b"hello\n"
    assert result.stderr == ""
    assert parse_lines(result.stdout) == []
