# SPDX-License-Identifier: Apache-2.0
"""The library in a process that is somebody else's (D6, V-24): fds, children, signals, forks and threads of the host."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from library.attributes import of_this_process
from support.bundle import Bundle, unique

from ocirun import HookError, Runtime
from ocirun.identity import wait_exit_code

pytestmark = pytest.mark.root
HERE = Path(__file__).resolve().parent


def live(runtime: Runtime, bundle: str, **keywords: int) -> int:
    """Run a container from create to delete; returns its exit code."""
    with runtime.create(unique(), bundle, **keywords) as container:
        container.start()
        code = container.wait(60)
        container.delete()
    return code


def test_importing_changes_nothing() -> None:
    """`import ocirun` and the use of its names have no effect on the process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from library.attributes import of_this_process\n"
        "before = of_this_process()\n"
        "import ocirun\n"
        "for name in ocirun.__all__: getattr(ocirun, name)\n"
        "ocirun.Runtime('/nowhere').list()\n"
        "assert of_this_process() == before\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(HERE.parent)], check=True)


def test_attributes_of_this_process(library: Runtime, ready: str) -> None:
    """S-80 reduced: create, start, wait and delete leave every attribute as it was; so do failures."""
    live(library, ready)
    before = of_this_process()
    for _ in range(3):
        live(library, ready)
    with pytest.raises(Exception, match="does not exist"):
        library.load("nosuch")
    assert of_this_process() == before


def test_no_work_for_the_garbage_collector(library: Runtime, ready: str, workdir: Path) -> None:
    """R-25: a container's life leaves no cycle of objects, which only a collection of the host's would free."""

    def lives() -> None:
        live(library, ready)
        with library.create(unique(), ready, pid_file=str(workdir / "pid")) as container:
            container.delete(force=True)

    lives()
    gc.collect()
    gc.disable()
    try:
        lives()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_host_children_see_none_of_our_descriptors(library: Runtime, ready: str) -> None:
    """S-81: programs that other threads start meanwhile, with inheritable descriptors and all, inherit nothing of ours."""
    script = "ls -l /proc/self/fd | sed -n 's/.* -> //p'"
    seen: set[str] = set()
    stop = threading.Event()
    started = [0] * 16

    def start_programs(number: int) -> None:
        while not stop.is_set():
            done = subprocess.run(["sh", "-c", script], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
            seen.update(done.stdout.decode().splitlines())
            started[number] += 1

    threads = [threading.Thread(target=start_programs, args=(number,)) for number in range(16)]
    inherited = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_inheritable(int(fd))}
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            live(library, ready)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(started) > 16
    ours = [
        link for link in seen
        if link not in inherited and not link.startswith(("pipe:", "/dev/null")) and "/fd" not in link
    ]  # fmt: skip
    assert ours == []
    for word in ("memfd:ocirun", "anon_inode:[pidfd]", "socket:", str(library.store.root), "cgroup"):
        assert not [link for link in seen - inherited if word in link]


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_containers_see_none_of_the_hosts_descriptors(library: Runtime, bundle: Bundle) -> None:
    """S-81: inheritable descriptors that other threads open and close at any moment never get into a container."""
    bundle.args("report").write()
    stop = threading.Event()

    def open_files() -> None:
        while not stop.is_set():
            fds = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(20)]
            for fd in fds:
                os.set_inheritable(fd, True)
            for fd in fds:
                os.close(fd)

    threads = [threading.Thread(target=open_files) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            reader, writer = os.pipe()
            with library.create(unique(), str(bundle.path), stdin=reader, stdout=writer, stderr=writer) as container:
                container.start()
                assert container.wait(60) == 0
                container.delete()
            os.close(writer)
            report = json.loads(os.read(reader, 1 << 20))
            os.close(reader)
            assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_hosts_reaper(
    bundle: Bundle, mkbundle: Callable[..., Bundle], workdir: Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """S-82, R-39: a host with a SIGCHLD handler and a thread that reaps whatever it can gets the right exit codes."""
    bundle.args("exit", "7").write()
    two_steps = mkbundle().userns().args("exit", "8")
    two_steps.write()
    result = program("reaping_host.py", "thread", workdir / "state", bundle.path, two_steps.path)
    out, _ = result.communicate()
    assert result.returncode == 0
    seen = json.loads(out)
    # Before Linux 6.15 nobody can know: then it is an error with a code of its own, never a wrong number.
    assert seen["codes"] in ([7, 8] * 5, ["exit_status_unknown"] * 10)
    assert seen["codes"] == [7, 8] * 5 or not supports_exit_info()
    assert seen["left"] == []
    assert seen["zombies"] == []


def test_ignored_sigchld(
    bundle: Bundle, mkbundle: Callable[..., Bundle], workdir: Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """S-82, R-38: the same where the kernel reaps, because the host ignores SIGCHLD."""
    bundle.args("exit", "7").write()
    two_steps = mkbundle().userns().args("exit", "8")
    two_steps.write()
    result = program("reaping_host.py", "ignore", workdir / "state", bundle.path, two_steps.path)
    out, _ = result.communicate()
    assert result.returncode == 0
    seen = json.loads(out)
    assert seen["codes"] == [7, 8] * 5 or (not supports_exit_info() and seen["codes"] == ["exit_status_unknown"] * 10)
    assert seen["left"] == []


def supports_exit_info() -> bool:
    """Say whether the kernel tells the exit status to whoever holds a pidfd (Linux 6.15)."""
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)


@pytest.mark.kernel("6.15")
@pytest.mark.parametrize("late_s", [0.2, 1.5])
def test_a_parent_that_reaps_late(late_s: float) -> None:
    """R-39: what somebody else's child ended with is known when that one has reaped it, whatever signals come meanwhile."""
    code = (
        "import os, sys, time\n"
        "child = os.fork()\n"
        "if child == 0: os.read(0, 1); os._exit(7)\n"
        "print(child, flush=True)\n"
        "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n"
        "time.sleep(float(sys.argv[1]))\n"
        "os.waitpid(child, 0)\n"
    )
    command = [sys.executable, "-c", code, str(late_s)]
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            parent.stdin.close()
            assert wait_exit_code(pidfd, None, "c1") == 7
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.close(pidfd)


@pytest.mark.kernel("6.15")
def test_exit_code_after_delete(library: Runtime, sleeping: str) -> None:
    """R-39: delete does not wait for the parent to reap what it killed, wait after delete does."""
    code = (
        "import sys\n"
        "from ocirun import Runtime\n"
        "container = Runtime(sys.argv[1]).load(sys.argv[2])\n"
        "container.delete(force=True)\n"
        "print('deleted', flush=True)\n"
        "print(container.wait())\n"
    )
    with library.create(unique(), sleeping) as container:
        command = [sys.executable, "-P", "-c", code, library.store.root, container.id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "deleted\n"
            assert os.waitid(os.P_PID, container.pid, os.WEXITED)
            assert program.communicate(timeout=60)[0] == "137\n"


def test_hooks_are_judged_without_sigchld(library: Runtime, bundle: Bundle) -> None:
    """S-82: a hook that fails is a failure also where nobody may reap it."""
    bundle.args("exit", "0").patch({"hooks": {"createRuntime": [{"path": "/bin/false"}]}}).write()
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        if supports_exit_info():
            with pytest.raises(HookError):
                live(library, str(bundle.path))
    finally:
        signal.signal(signal.SIGCHLD, before)
    with pytest.raises(HookError) as info:
        live(library, str(bundle.path))
    assert (info.value.kind, info.value.index) == ("createRuntime", 0)


def in_fork(work: Callable[[int], None]) -> None:
    """Run *work* in a fork of this process, which may close all but the descriptor it is given; fails as it fails."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Whatever happens: this copy of the test run ends here.
        try:
            work(writer)
            os.write(writer, b"done")
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    said = os.read(reader, 65536).decode()
    os.close(reader)
    assert said == "done"


def test_after_a_fork(library: Runtime, ready: str) -> None:
    """R-36: a Runtime that was used before the host forked works in both processes."""
    assert live(library, ready) == 0

    def child(_: int) -> None:
        assert live(library, ready) == 0
        library.close()

    in_fork(child)
    assert live(library, ready) == 0


def test_after_a_fork_that_closed_everything(library: Runtime, ready: str) -> None:
    """R-36: daemons close all descriptors after the fork; ours is made anew, and no other one is taken for it."""
    assert live(library, ready) == 0

    def daemon(keep: int) -> None:
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd != keep:
                try:
                    os.close(fd)
                except OSError:
                    continue
        opened = [os.open("/dev/zero", os.O_RDONLY) for _ in range(40)]
        assert live(library, ready) == 0
        library.close()
        for fd in opened:
            os.fstat(fd)  # none of the host's descriptors was closed as if it were ours

    in_fork(daemon)
    assert live(library, ready) == 0


def test_the_creating_thread_ends(library: Runtime, sleeping: str) -> None:
    """R-37: the container lives on when the thread that created it does not."""
    made = []
    thread = threading.Thread(target=lambda: made.append(library.create(unique(), sleeping)))
    thread.start()
    thread.join()
    with made[0] as container:
        assert container.state().status == "created"
        starter = threading.Thread(target=container.start)
        starter.start()
        starter.join()
        assert container.state().status == "running"
        container.kill(9)
        assert container.wait(60) == 128 + 9
        container.delete()


def test_signal_storm(library: Runtime, ready: str) -> None:
    """R-34: a handler of the host that fires a thousand times a second, during creates, changes nothing for either."""
    fired: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(20):
            assert live(library, ready) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(fired) > 20


@pytest.mark.parametrize("options", [("-O",), ("-OO",), ("-bb", "-W", "error"), ("-X", "dev", "-W", "error"), ("-I",)])
def test_interpreter_options(options: tuple[str, ...], ready: str, workdir: Path, private_host: None) -> None:
    """S-69, R-35: a whole life under -O, -OO, -bb and in development mode, every warning an error."""
    code = (
        "import sys; from ocirun import Runtime\n"
        "with Runtime(sys.argv[1]) as runtime:\n"
        "    runtime.plan(sys.argv[2]).explain()\n"
        "    with runtime.create(sys.argv[3], sys.argv[2]) as container:\n"
        "        container.start()\n"
        "        if container.wait(60) != 0: raise SystemExit('wrong code')\n"
        "        container.delete()\n"
        "    if runtime.list(): raise SystemExit('left')\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", code, str(workdir / "state"), ready, unique()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
