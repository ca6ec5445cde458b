# SPDX-License-Identifier: Apache-2.0
"""events, statistics and ps of real containers, on both versions of cgroups."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import PURE, directory, flat, until, words
from support.command import ENVIRONMENT, RuntimeCommand

from ocirun import Container, ContainerNotRunning, Runtime
from ocirun.cgroups.oom import watch_oom
from ocirun.errors import CgroupError

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]
MEBIBYTE = 1 << 20
DISABLED = ("--cgroup-manager", "disabled")
# It gives up on user-mode Linux, which does not say when it was booted.
HAS_PS = shutil.which("ps") is not None and subprocess.run(["ps", "-ef"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def sleeper(bundle: Bundle) -> Bundle:
    """A bundle whose program says that it runs and then waits."""
    return bundle.seq("ready", "sleep")


@pytest.fixture
def glutton(bundle: Bundle) -> Bundle:
    """A bundle whose program survives two children that need more memory than there is."""
    bundle.linux(resources={"memory": {"limit": 16 * MEBIBYTE, "swap": 16 * MEBIBYTE}})
    return bundle.seq(*[["run", "/probe", "touch-memory", "64"]] * 2, "ready", "sleep")


@pytest.fixture
def load(runtime: RuntimeCommand) -> Callable[[str], Container]:
    """Return a container of the runtime under test as the library has it."""
    if runtime.name != "ocirun":
        pytest.skip("peer: the library")
    return Runtime(str(runtime.root)).load


@contextlib.contextmanager
def events(runtime: RuntimeCommand, *arguments: str, **keywords: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `events` in the background, with pipes."""
    command = runtime.command("events", *arguments)
    with subprocess.Popen(
        # Unbuffered: what was read ahead of a line would be lost to communicate().
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=ENVIRONMENT, **keywords
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_event(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    event: dict[str, Any] = json.loads(line)
    return event


def wait_watching(process: subprocess.Popen[bytes]) -> None:
    """Wait until `events` has a pidfd of the container's process."""

    def has_pidfd() -> bool:
        for name in os.listdir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if "pidfd" in os.readlink(f"/proc/{process.pid}/fd/{name}"):
                    return True
        return False

    until(has_pidfd, "events has begun")


def stats_of(runtime: RuntimeCommand, container_id: str) -> dict[str, Any]:
    """Return what `events --stats` says."""
    event = json.loads(runtime.call("events", "--stats", container_id).ok().stdout)
    assert event["type"] == "stats"
    assert event["id"] == container_id
    data: dict[str, Any] = event["data"]
    return data


# ---- statistics ----------------------------------------------------------------------------------


def test_statistics(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """W24: what the kernel counts, in runc's shape: limits as set, use as it is."""
    limits = {"memory": {"limit": 64 * MEBIBYTE}, "pids": {"limit": 50}, "cpu": {"quota": 50000, "period": 100000}}
    bundle.linux(resources=limits).seq(["fork", "3"], ["burn", "30"], ["touch-memory", "8"], "ready", "sleep")
    container = runtime.create(bundle).start()
    for _ in range(4):
        container.line()
    stats = stats_of(runtime, container.id)
    assert stats["pids"]["limit"] == 50
    assert stats["pids"]["current"] == 4
    assert stats["memory"]["usage"]["limit"] == 64 * MEBIBYTE
    assert 0 < stats["memory"]["usage"]["usage"] <= 64 * MEBIBYTE
    assert stats["memory"]["usage"]["failcnt"] == 0
    place = directory(container.pid, "memory")
    assert stats["memory"]["raw"].keys() == flat(place / "memory.stat").keys()
    cpu = stats["cpu"]
    assert cpu["usage"]["total"] >= 30_000_000
    assert cpu["usage"]["kernel"] + cpu["usage"]["user"] <= cpu["usage"]["total"] + 20_000_000
    assert cpu["throttling"].keys() <= {"periods", "throttledPeriods", "throttledTime"}
    if not PURE:
        assert sum(cpu["usage"]["percpu"]) >= 30_000_000
    assert stats["cpuset"]["cpus"] == sorted(os.sched_getaffinity(container.pid))
    for key in ("blkio", "hugetlb", "intel_rdt"):
        assert isinstance(stats[key], dict)


@pytest.mark.ocirun_only("runc 1.1 knows no pressure")
def test_pressure_and_events(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Pressure where the kernel has it, on a hybrid host too, and memory.events."""
    container = runtime.create(sleeper)
    stats = stats_of(runtime, container.id)
    unified = directory(container.pid, "")
    for key, name in (("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")):
        try:
            has_pressure = bool((unified / f"{name}.pressure").read_text())
        except OSError:
            has_pressure = False
        assert ("psi" in stats.get(key, {})) == has_pressure
        if has_pressure:
            assert stats[key]["psi"]["some"].keys() == {"avg10", "avg60", "avg300", "total"}
    assert stats["memory"]["event_count"]["oom_kill"] == 0
    if PURE:
        assert stats["memory"]["event_count"] == {
            key: int(value) for key, value in flat(unified / "memory.events").items()
        }


@pytest.mark.ocirun_only("runc: those of veth devices that it made itself, which are none")
def test_network_interfaces(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """Those of the container's own network namespace; the host's are not its."""
    own = runtime.create(mkbundle().seq("ready", "sleep"))
    shared = runtime.create(mkbundle().namespaces(without=("network",)).seq("ready", "sleep"))
    assert isinstance(stats_of(runtime, own.id)["network_interfaces"], list)
    assert stats_of(runtime, shared.id)["network_interfaces"] is None


@pytest.mark.unified
@pytest.mark.ocirun_only("runc fails without a controller")
def test_controllers_that_are_off(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """A controller that is off gives no key and no error; events says that it cannot tell of lack of memory."""
    parent = Path("/sys/fs/cgroup") / sleeper.id
    container = runtime.create(sleeper.linux(cgroupsPath=f"/{sleeper.id}/c1"))
    (parent / "cgroup.subtree_control").write_text("-memory -io -pids -cpu")
    stats = stats_of(runtime, container.id)
    for key in ("memory", "blkio", "pids"):
        assert stats.get(key, {}).keys() <= {"psi"}
    assert stats["cpu"].keys() <= {"usage", "psi"}
    with events(runtime, "--interval", "1h", container.id) as process:
        assert process.stderr is not None
        assert b"no events of type oom" in process.stderr.readline()
    container.delete("--force").ok()


def flattened(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("memory.usage.limit", value) for every number, string and list of a document."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.peers
@pytest.mark.ocirun_only("compares ocirun with runc")
def test_shape_is_that_of_runc(runtime: RuntimeCommand, mkbundle: MkBundle, workdir: Path) -> None:
    """Every key that runc prints is there and means the same: limits are equal, counters of one order."""
    limits = {"memory": {"limit": 64 * MEBIBYTE, "swap": 64 * MEBIBYTE}, "pids": {"limit": 50}}
    runc = RuntimeCommand("runc", ("runc",), workdir / "runc")
    (workdir / "runc").mkdir()
    found = []
    # So much CPU time and memory that what the runtimes' own inits used, runc's more than ours, is little beside it.
    for each in (runtime, runc):
        bundle = mkbundle().linux(resources=limits).seq(["burn", "400"], ["touch-memory", "32"], "ready", "sleep")
        container = each.create(bundle).start()
        for _ in range(3):
            container.line()
        found.append(stats_of(each, container.id))
        container.delete("--force").ok()
    runc.cleanup()
    ours, theirs = (dict(flattened(each)) for each in found)
    # runc's own init may use the disk in the container's cgroup; and with version 2 runc shows 0 for what is not known.
    lacking = {key for key in theirs if not (key.startswith("blkio.io") or (PURE and theirs[key] == 0))} - ours.keys()
    assert lacking == set()
    for key, value in theirs.items():
        if key not in ours:
            continue
        # With version 2, runc 1.1 counts swap alone; since 1.2 it adds the memory, as version 1 does.
        if key.endswith(".limit") and not (PURE and key == "memory.swap.limit"):
            assert ours[key] == value, key
    assert ours["cpuset.cpus"] == theirs.get("cpuset.cpus", ours["cpuset.cpus"])
    for key in ("cpu.usage.total", "memory.usage.usage", "pids.current"):
        assert theirs[key] / 4 <= ours[key] <= theirs[key] * 4, key


@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped", "missing"])
def test_events_in_status(runtime: RuntimeCommand, sleeper: Bundle, status: str) -> None:
    """3.3: of everything but what is stopped or not there."""
    container = runtime.create(sleeper)
    if status != "created":
        container.start().line()
    if status == "paused":
        runtime.call("pause", container.id).ok()
    if status == "stopped":
        container.kill().ok()
        container.wait()
    if status == "missing":
        container.delete("--force").ok()
    result = runtime.call("events", "--stats", container.id)
    if status in ("created", "running", "paused"):
        assert json.loads(result.ok().stdout)["data"]["pids"]["current"] == 1
    else:
        result.refused("not running" if status == "stopped" else "does not exist")
        runtime.call("events", container.id).refused("not running" if status == "stopped" else "does not exist")
    runtime.call("resume", container.id)


@pytest.mark.parametrize("interval", ["0s", "-1s", "0", "5", "x"])
def test_interval_that_cannot_be(runtime: RuntimeCommand, sleeper: Bundle, interval: str) -> None:
    """An interval is a duration, and more than nothing."""
    container = runtime.create(sleeper)
    result = runtime.call("events", f"--interval={interval}", container.id).refused()
    assert result.stdout == b"" or runtime.name == "runc"


# ---- events --------------------------------------------------------------------------------------


def test_lack_of_memory_is_an_event(runtime: RuntimeCommand, glutton: Bundle) -> None:
    """A real OOM kill, whether events began before start or not; and events ends with the container."""
    container = runtime.create(glutton)
    with events(runtime, "--interval", "50ms", container.id) as process:
        assert next_event(process)["type"] == "stats"  # it watches
        container.start()
        event = next_event(process)
        while event["type"] == "stats":
            event = next_event(process)
        assert (event["type"], event["id"]) == ("oom", container.id)
        for _ in range(2):
            assert container.line()["status"] == 128 + signal.SIGKILL
        if runtime.name == "ocirun":
            assert stats_of(runtime, container.id)["memory"]["event_count"]["oom_kill"] == 2
        container.kill().ok()
        container.wait()
        container.delete()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors == b"" or runtime.name == "runc"


def test_death_by_lack_of_memory(load: Callable[[str], Container], runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What happens between the subscription and the first look is not lost, not even where init is who dies."""
    bundle.linux(resources={"memory": {"limit": 16 * MEBIBYTE, "swap": 16 * MEBIBYTE}}).args("touch-memory", "64")
    container = runtime.create(bundle)
    with load(container.id).events(None) as stream:
        container.start()
        assert container.wait() == 128 + signal.SIGKILL
        event = stream.get(0)
        assert event is not None
        assert event.type == "oom"
        assert event.data.keys() == {"oom_kill" if PURE else "oom"}
        assert list(event.data.values()) == [1] or not PURE  # version 1 tells of each round of the OOM killer
        assert stream.get(0) is None
        assert list(stream) == []


def test_every_kill_is_counted(load: Callable[[str], Container], runtime: RuntimeCommand, glutton: Bundle) -> None:
    """Of several kills before somebody looks, none is lost."""
    container = runtime.create(glutton)
    with load(container.id).events(None) as stream:
        container.start()
        for _ in range(3):
            container.line()
        assert container.status() == "running"
        event = stream.get(60)
        assert event is not None
        total = sum(event.data.values())  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            while (event := stream.get(0)) is not None:
                total += sum(event.data.values())  # type: ignore[arg-type]
        assert total >= 2
        assert total == 2 or not PURE  # version 1 tells of each round of the OOM killer


@pytest.mark.ocirun_only("runc ends with the cgroup")
def test_events_ends_with_the_process(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Not when the next statistics are due, and whoever deletes the container."""
    container = runtime.create(sleeper).start()
    container.line()
    with events(runtime, "--interval", "1h", container.id) as process:
        wait_watching(process)
        container.kill().ok()
        assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == 0


@pytest.mark.ocirun_only("runc goes on")
def test_events_ends_with_its_reader(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Nobody reads any more: events ends at once, without a word."""
    container = runtime.create(sleeper).start()
    container.line()
    with events(runtime, "--interval", "1h", container.id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


@pytest.mark.ocirun_only("runc: by the default action")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_read", [True, False])
def test_events_ends_by_a_signal(runtime: RuntimeCommand, sleeper: Bundle, number: int, is_read: bool) -> None:
    """At once, also while the reader does not read; whole lines before, no traceback."""
    container = runtime.create(sleeper).start()
    container.line()
    with events(runtime, "--interval", "50ms" if is_read else "1ms", container.id) as process:
        next_event(process)
        if not is_read:
            until(lambda: is_stuck(process), "a full pipe")
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert errors == b""
        assert process.returncode == 128 + number
        if is_read:
            assert all(json.loads(line)["type"] == "stats" for line in output.splitlines())


def is_stuck(process: subprocess.Popen[bytes]) -> bool:
    """Say whether there is something in the pipe, and nothing is added."""
    assert process.stdout is not None
    levels = set()
    for _ in range(10):
        count = array.array("i", [0])
        fcntl.ioctl(process.stdout, termios.FIONREAD, count)
        levels.add(count[0])
        time.sleep(0.02)
    return len(levels) == 1 and levels != {0}


@pytest.mark.ocirun_only("the library")
def test_stream_in_threads(load: Callable[[str], Container], runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """A deadline ends a wait, close() from another thread too, and both leave no descriptor."""
    container = load(runtime.create(sleeper).id)
    before = os.listdir("/proc/self/fd")
    stream = container.events(None)
    with pytest.raises(TimeoutError):
        stream.get(0)
    with pytest.raises(TimeoutError):
        stream.get(0.01)
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(stream.get(60)))
    waiting.start()
    # Two threads at once: the second has its own deadline.
    with pytest.raises(TimeoutError):
        while not got:
            stream.get(0)
    closing = [threading.Thread(target=stream.close) for _ in range(4)]
    for thread in closing:
        thread.start()
    for thread in (*closing, waiting):
        thread.join(60)
        assert not thread.is_alive()
    assert got == [None]
    assert stream.get() is None
    stream.close()
    with container.events(0.01) as second:
        assert [event.type for _, event in zip(range(3), second, strict=False)] == ["stats"] * 3
    assert os.listdir("/proc/self/fd") == before


def test_stream_of_what_does_not_run(load: Callable[[str], Container], runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A stopped container has no events, and leaves no descriptor."""
    container = runtime.create(bundle.args("exit", "0")).start()
    container.wait()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ContainerNotRunning):
        load(container.id).events()
    with pytest.raises(ValueError, match="greater than 0"):
        load(container.id).events(0)
    assert os.listdir("/proc/self/fd") == before
    assert load(container.id).stats()["memory"]["usage"]["usage"] >= 0


@pytest.mark.ocirun_only("the library")
def test_watch_of_a_removed_cgroup(load: Callable[[str], Container], runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """The end of a cgroup is no lack of memory, though version 1 signals both alike."""
    from ocirun.usage import cgroup_places

    container = runtime.create(sleeper)
    watch = watch_oom(cgroup_places(load(container.id)._record(), "watch"))
    try:
        assert watch.take() == {}
        container.delete("--force").ok()
        until(lambda: watch.take() is None, "the end of the watch")
    finally:
        watch.close()


@pytest.mark.ocirun_only("runc has no such manager")
def test_without_cgroups(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """What cannot be is refused with the reason; events tells of the end at least."""
    container = runtime.create(sleeper, options=DISABLED).start()
    container.line()
    for command in (["ps"], ["ps", "-f", "json"], ["events", "--stats"], ["pause"]):
        runtime.call(*command, container.id).refused("the container has no cgroup", "'disabled'")
    assert container.status() == "running"
    with events(runtime, "--interval", "1h", container.id) as process:
        assert process.stderr is not None
        assert b"no events of type oom" in process.stderr.readline()
        container.kill().ok()
        assert process.wait(60) == 0


# ---- ps ------------------------------------------------------------------------------------------


def members(pid: int) -> set[int]:
    """Return the pids in the cgroup of a process."""
    return set(map(int, words(pid, "pids", "cgroup.procs", "cgroup.procs")))


def test_ps(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All processes of the container and no other, as numbers and as ps(1) shows them."""
    container = runtime.create(bundle.seq(["fork", "3"], "ready", "sleep")).start()
    container.line()
    container.line()
    pids = json.loads(runtime.call("ps", "--format", "json", container.id).ok().stdout)
    assert set(pids) == members(container.pid)
    assert len(pids) == 4
    if not HAS_PS:
        return
    heading, *lines = runtime.call("ps", container.id).ok().stdout.decode().splitlines()
    assert heading.split()[:2] == ["UID", "PID"]
    assert {int(line.split()[1]) for line in lines} == set(pids)
    table = runtime.call("ps", container.id, "-o", "pid,comm", "-e").ok().stdout.decode().splitlines()
    assert table[0].split() == ["PID", "COMMAND"]
    assert {int(line.split()[0]) for line in table[1:]} == set(pids)
    assert {line.split()[1] for line in table[1:]} == {"probe"}
    runtime.call("ps", container.id, "-o", "comm").refused("PID")
    runtime.call("ps", container.id, "--no-such-option").refused()
    runtime.call("ps", "nosuch").refused("does not exist")


@pytest.mark.parametrize("status", ["created", "paused", "stopped"])
def test_ps_in_status(runtime: RuntimeCommand, sleeper: Bundle, status: str) -> None:
    """Init is there from create on, and nobody when it has ended."""
    container = runtime.create(sleeper)
    if status == "paused":
        container.start().line()
        runtime.call("pause", container.id).ok()
    if status == "stopped":
        container.kill().ok()
        container.wait()
    pids = json.loads(runtime.call("ps", "-f", "json", container.id).ok().stdout) or []
    assert pids == ([] if status == "stopped" else [container.pid])
    runtime.call("resume", container.id)


@pytest.mark.ocirun_only("runc prints 0")
def test_ps_from_another_pid_namespace(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Processes that the caller cannot see have no number there, and 0 is none."""
    container = runtime.create(sleeper)
    inside = runtime.under("unshare", "--pid", "--fork", "--mount-proc")
    assert json.loads(inside.call("ps", "-f", "json", container.id).ok().stdout) == []
    if HAS_PS:
        assert len(inside.call("ps", container.id).ok().stdout.splitlines()) == 1


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="machine: no setpriv")
def test_ps_without_ps(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Where there is no ps(1), the error says so; JSON needs none."""
    container = runtime.create(sleeper)
    runtime.call("ps", container.id, env={"PATH": "/nowhere"}).refused("ps")
    runtime.call("ps", "-f", "json", container.id, env={"PATH": "/nowhere"}).ok()


def test_no_cgroup_of_the_memory_controller() -> None:
    """A watch that cannot be is an error with the reason."""
    with pytest.raises(CgroupError, match="memory controller"):
        watch_oom([])
