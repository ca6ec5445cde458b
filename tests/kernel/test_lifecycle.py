# SPDX-License-Identifier: Apache-2.0
"""runtime.md: state, the operations, and which of them each status allows."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle, unique
from support.command import Container, RuntimeCommand, started
from support.native import FaultK

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
NOT_FOUND = "does not exist"


@pytest.fixture
def sleeper(bundle: Bundle) -> Bundle:
    """A bundle whose program says that it runs and then waits."""
    return bundle.seq("ready", "sleep")


def bring(runtime: RuntimeCommand, bundle: Bundle, status: str) -> Container:
    """Create a container and bring it into a status."""
    container = runtime.create(bundle)
    if status == "created":
        return container
    container.start()
    container.line()
    if status == "paused":
        runtime.call("pause", container.id).ok()
    if status == "stopped":
        container.kill(signal.SIGKILL).ok()
        container.wait()
    assert container.status() == status
    return container


# ---- state ---------------------------------------------------------------------------------------


@pytest.mark.peer_fails(crun="keeps the pid of a stopped container")
def test_state_document(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """state prints the members that the specification and the engines want."""
    sleeper.patch({"annotations": {"org.example.a": "1", "org.example.b": 'ž\n"'}})
    container = runtime.create(sleeper)
    state = runtime.state(container.id)
    assert state["id"] == sleeper.id
    assert state["status"] == "created"
    assert state["bundle"] == str(sleeper.path)
    assert state["annotations"] == sleeper.spec["annotations"]
    assert state["ociVersion"]
    assert Path(state["rootfs"]) == sleeper.rootfs
    assert state["pid"] == container.pid
    assert os.path.exists(f"/proc/{container.pid}")
    assert state["created"][:3] == "202"
    container.start()
    container.line()
    running = runtime.state(container.id)
    assert running | {"status": "created"} == state
    container.kill(signal.SIGKILL).ok()
    container.wait()
    stopped = runtime.state(container.id)
    assert (stopped["status"], stopped.get("pid", 0)) == ("stopped", 0)
    container.delete().ok()
    runtime.call("state", container.id).refused(NOT_FOUND)


def test_program_runs_at_start_and_not_before(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """create sets everything up but does not run the program; start does, once."""
    container = runtime.create(bundle.seq(["create", "/ran", "x"], "ready", "sleep"))
    assert container.status() == "created"
    assert not bundle.inside("/ran").exists()
    container.start()
    container.line()
    assert bundle.inside("/ran").exists()
    assert container.status() == "running"


def test_configuration_is_that_of_create(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Changing or removing the bundle's config.json after create has no effect."""
    container = runtime.create(bundle.seq("ready", "sleep"))
    (bundle.path / "config.json").unlink()
    container.start()
    container.line()
    assert container.status() == "running"
    container.kill(signal.SIGKILL).ok()
    container.wait()
    container.delete().ok()


def test_list(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """list shows every container with its status, as a table, as JSON and as names."""
    made = [runtime.create(mkbundle().seq("ready", "sleep")) for _ in range(3)]
    made[0].start().line()
    listed = json.loads(runtime.call("list", "--format", "json").ok().stdout)
    assert {(entry["id"], entry["status"], entry["pid"]) for entry in listed} == {
        (c.id, "running" if c is made[0] else "created", c.pid) for c in made
    }
    table = runtime.call("list").ok().stdout.decode()
    assert table.splitlines()[0].split()[1:3] == ["PID", "STATUS"]
    assert all(c.id in table for c in made)
    quiet = runtime.call("list", "-q").ok().stdout.decode().split()
    assert set(quiet) == {c.id for c in made}


# ---- status by operation --------------------------------------------------------------------------

TABLE: dict[str, dict[str, tuple[bool, tuple[str, ...]]]] = {
    "start": {
        "created": (True, ()),
        "running": (False, ()),
        "paused": (False, ()),
        "stopped": (False, ()),
        "missing": (False, (NOT_FOUND,)),
    },
    "kill": {
        "created": (True, ()),
        "running": (True, ()),
        "paused": (True, ()),
        "stopped": (False, ("not running",)),
        "missing": (False, (NOT_FOUND,)),
    },
    "delete": {
        "created": (True, ()),
        "running": (False, ()),
        "paused": (False, ()),
        "stopped": (True, ()),
        "missing": (False, (NOT_FOUND,)),
    },
    "delete --force": {
        "created": (True, ()),
        "running": (True, ()),
        "paused": (True, ()),
        "stopped": (True, ()),
        "missing": (True, ()),
    },
    "pause": {
        "created": (True, ()),
        "running": (True, ()),
        "paused": (False, ()),
        "stopped": (False, ()),
        "missing": (False, (NOT_FOUND,)),
    },
    "resume": {
        "created": (False, ()),
        "running": (False, ()),
        "paused": (True, ()),
        "stopped": (False, ()),
        "missing": (False, (NOT_FOUND,)),
    },
    "state": {
        "created": (True, ()),
        "running": (True, ()),
        "paused": (True, ()),
        "stopped": (True, ()),
        "missing": (False, (NOT_FOUND,)),
    },
}


@pytest.mark.parametrize(
    "status", ["created", "running", pytest.param("paused", marks=pytest.mark.vm), "stopped", "missing"]
)
@pytest.mark.parametrize("operation", list(TABLE))
def test_operation_in_status(runtime: RuntimeCommand, sleeper: Bundle, operation: str, status: str) -> None:
    """Each operation works or is refused with the right words, and a refusal changes nothing."""
    allowed, words = TABLE[operation][status]
    if runtime.name == "crun" and (operation, status) in {
        ("pause", "paused"),
        ("resume", "running"),
        ("resume", "created"),
    }:
        pytest.skip("peer: crun does not look at the status")
    container = None if status == "missing" else bring(runtime, sleeper, status)
    verb, *options = operation.split()
    extra = ["KILL"] if verb == "kill" else []
    result = runtime.call(verb, *options, sleeper.id, *extra)
    if allowed:
        result.ok()
        if verb == "delete":
            runtime.call("state", sleeper.id).refused(NOT_FOUND)
    else:
        result.refused(*(words if runtime.name != "crun" else ()))
        if container is not None:
            assert container.status() == status


def test_ids_are_unique(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """A second create with the same ID is refused and leaves the first container as it is."""
    container = runtime.create(sleeper)
    runtime.try_create(sleeper).refused("exist")
    assert container.status() == "created"
    container.start()
    container.line()
    runtime.try_create(sleeper).refused("exist")
    assert container.status() == "running"


def test_an_id_can_be_used_again(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """After delete the ID is free."""
    for _ in range(3):
        runtime.create(sleeper).delete("--force").ok()


# ---- kill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigusr1", 10),
        ("Usr2", 12),
        ("15", 15),
        ("64", 64),
        pytest.param(*("RTMIN+3", 37), marks=pytest.mark.peer_fails(runc="no names of real-time signals")),
        pytest.param(*("SIGRTMAX-1", 63), marks=pytest.mark.peer_fails(runc="no names of real-time signals")),
        pytest.param(*("RTMIN", 34), marks=pytest.mark.peer_fails(runc="no names of real-time signals")),
    ],
)
def test_kill_sends_the_signal(runtime: RuntimeCommand, bundle: Bundle, word: str, number: int) -> None:
    """S-74: signals by name, with and without SIG, in any case, by number, and real-time ones."""
    if runtime.name == "crun" and word in ("sigusr1", "Usr2", "RTMIN", "RTMIN+3", "SIGRTMAX-1"):
        pytest.skip("peer: crun wants upper case names")
    container = runtime.create(bundle.args("wait-signal")).start()
    assert container.line()["ready"]
    container.kill(word).ok()
    assert container.line()["signal"] == number
    assert container.wait() == 0


def test_kill_default_is_term(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """kill without a signal sends SIGTERM."""
    container = runtime.create(bundle.args("wait-signal")).start()
    container.line()
    runtime.call("kill", container.id).ok()
    assert container.line()["signal"] == signal.SIGTERM


@pytest.mark.parametrize(
    "word",
    ["NOSUCH", "-1", "65", "+9", "9 ", "٩", "0x9", "", "SIG", "SIGSIGTERM", "99999999999", "9\n"],
)
def test_kill_refuses_what_is_no_signal(runtime: RuntimeCommand, sleeper: Bundle, word: str) -> None:
    """S-74: anything else is an error, and the container lives."""
    if runtime.name != "ocirun" and word in ("+9", "9 ", "0x9", "-1", "9\n", ""):
        pytest.skip("peer: lax about numbers")
    container = runtime.create(sleeper).start()
    container.line()
    runtime.call("kill", "--", container.id, word).refused()
    assert container.status() == "running"


def test_kill_all(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """kill --all reaches every process of a container without a pid namespace."""
    bundle.namespaces(without=("pid",)).seq(["fork", "5"], "ready", "sleep")
    container = runtime.create(bundle).start()
    assert container.line()["made"] == 5
    container.line()
    container.kill(signal.SIGKILL, "--all").ok()
    assert container.wait() == 137
    container.rest()  # the end of the output: the last child is gone
    assert container.status() == "stopped"


@pytest.mark.parametrize("name", ["kill --all", "delete"])
def test_after_the_end(runtime: RuntimeCommand, sleeper: Bundle, name: str) -> None:
    """What engines call on a stopped container: kill --all is no error, delete removes it."""
    container = bring(runtime, sleeper, "stopped")
    if name == "delete":
        container.delete().ok()
        return
    result = container.kill(signal.SIGKILL, "--all")
    assert result.rc == 0 or "not running" in result.stderr


def test_kill_in_created_ends_the_container(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """A container killed before start is stopped, and start is then an error."""
    container = bring(runtime, sleeper, "created")
    container.kill(signal.SIGKILL).ok()
    container.wait()
    assert container.status() == "stopped"
    runtime.call("start", container.id).refused()
    container.delete().ok()


def test_init_killed_from_outside(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """R-16: an init that the host kills, in created and while paused, leaves a stopped container."""
    container = bring(runtime, sleeper, "created")
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    assert container.status() == "stopped"
    runtime.call("start", container.id).refused()
    container.delete().ok()


def test_zombie_init_is_stopped(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """R-13: while nobody reaps the dead init, state says stopped and delete works."""
    container = runtime.create(bundle.args("exit", "0")).start()
    container.rest()
    os.waitid(os.P_PID, container.pid, os.WEXITED | os.WNOWAIT)
    assert container.status() == "stopped"
    container.kill(signal.SIGKILL).refused("not running" if runtime.name != "crun" else "")
    container.delete().ok()
    assert container.wait() == 0


@pytest.mark.ocirun_only("about our own system calls")
def test_delete_waits_for_no_parent(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """R-13: that init is a zombie is enough; whoever is to reap it may be waiting for delete."""
    faultk = FaultK(workdir / "calls", only="poll,ppoll", by="parent")
    container = runtime.create(sleeper).start()
    # With the option in front nobody here reaps what delete kills.
    runtime.under(*faultk.count()).call("--log-format", "text", "delete", "--force", container.id).ok()
    assert os.waitid(os.P_PID, container.pid, os.WEXITED | os.WNOWAIT) is not None
    assert len(faultk.calls()) == 1
    assert container.wait() == 137


def test_zombies_in_the_container(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Children that the program never reaps do not keep delete from working."""
    container = runtime.create(bundle.seq(["zombie", "20"], "ready", "sleep")).start()
    assert container.line()["made"] == 20
    container.line()
    container.delete("--force").ok()


@pytest.mark.ocirun_only("about our own start socket")
@pytest.mark.parametrize("count", [1, 3, 20])
def test_silent_clients_of_the_start_socket(runtime: RuntimeCommand, sleeper: Bundle, count: int) -> None:
    """Whoever connects to a created container and says nothing, or nonsense, keeps nobody from starting it."""
    container = runtime.create(sleeper)
    path = str(runtime.root / container.id / "start.sock")
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
    try:
        for client in clients:
            client.connect(path)
            client.settimeout(60)
        clients[-1].send(b"nonsense")
        assert clients[-1].recv(1) == b""
        assert container.status() == "created"
        container.start()
        container.line()
        assert container.status() == "running"
        for client in clients:
            assert client.recv(1) == b""
    finally:
        for client in clients:
            client.close()


@pytest.mark.ocirun_only("about our own start socket")
def test_silent_clients_that_take_the_last_descriptors(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """Nor does it where RLIMIT_NOFILE leaves room for few of them."""
    sleeper.process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 7, "hard": 7}])
    container = runtime.create(sleeper)
    with ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.connect(str(runtime.root / container.id / "start.sock"))
        container.start()
        container.line()


@pytest.mark.ocirun_only("about our own start socket")
def test_too_few_descriptors_to_start(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """What is missing to start a container that has few descriptors is said, and start neither hangs nor guesses."""
    for limit, call in {2: "signalfd4: EMFILE", 3: "signalfd4: EMFILE", 5: "poll: EINVAL", 6: "fcntl: EINVAL"}.items():
        sleeper.again().process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": limit, "hard": limit}])
        container = runtime.create(sleeper)
        result = runtime.call("start", container.id).refused(call)
        assert "RLIMIT_NOFILE" in result.stderr
        container.wait()
        container.delete().ok()


@pytest.mark.ocirun_only("about our own start socket")
@pytest.mark.parametrize("error", [errno.ENFILE, errno.EMFILE])
def test_connection_that_cannot_be_accepted(
    runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, oracle: Any, error: int
) -> None:
    """The call that failed is named, over the connection that was to be accepted by it."""
    faultk = FaultK(workdir / "calls", sleeper.inside("/probe"), only="accept4")
    result = runtime.under(*faultk.fail(0, error)).run(sleeper)
    result.refused(f"accept4: {errno.errorcode[error]}")
    oracle.assert_clean()


@pytest.mark.ocirun_only("about our own start socket")
def test_signals_beside_a_silent_client(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """SIGTERM ends a created container, also while somebody is connected to it and says nothing."""
    container = runtime.create(sleeper)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(runtime.root / container.id / "start.sock"))
        container.kill("TERM").ok()
        assert container.wait() == 128 + signal.SIGTERM
    assert container.status() == "stopped"


# ---- files and options ---------------------------------------------------------------------------


def test_pid_file(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """The pid file holds the pid, without a newline, when create returns."""
    path = workdir / "pid"
    container = runtime.create(sleeper, "--pid-file", str(path))
    assert path.read_text() == str(container.pid)
    assert [name for name in os.listdir(workdir) if name.startswith((".pid", "pid"))] == ["pid"]


@pytest.mark.parametrize("kind", ["missing-directory", "directory", "read-only"])
def test_pid_file_that_cannot_be_written(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, kind: str) -> None:
    """S-63: when the pid file cannot be written create fails and nothing is left."""
    path = workdir / "d"
    if kind == "missing-directory":
        path = workdir / "nosuch/pid"
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/proc/pid-file")
    runtime.try_create(sleeper, "--pid-file", str(path)).refused()
    runtime.call("state", sleeper.id).refused(NOT_FOUND)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_pid_file_does_not_follow(
    runtime: RuntimeCommand, sleeper: Bundle, workdir: Path, canary: Any, kind: str
) -> None:
    """S-63: a link or a pipe in the place of the pid file is replaced, not written to."""
    path = workdir / "pid"
    if kind == "link":
        path.symlink_to(canary.file)
    else:
        os.mkfifo(path)
    container = runtime.create(sleeper, "--pid-file", str(path))
    canary.assert_untouched()
    assert path.read_text() == str(container.pid)
    assert not path.is_symlink()


def test_bundle_defaults_to_the_working_directory(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without --bundle the bundle is the working directory, and state has its absolute path."""
    bundle.args("exit", "7").write()
    assert runtime.call("run", bundle.id, cwd=bundle.path).rc == 7


@pytest.mark.parametrize("what", ["nothing", "empty", "no-json", "directory"])
def test_bundle_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, what: str) -> None:
    """A bundle without a readable config.json is refused, and nothing is left."""
    bundle.write()
    config = bundle.path / "config.json"
    if what == "nothing":
        config.unlink()
    elif what == "directory":
        config.unlink()
        config.mkdir()
    else:
        config.write_text("" if what == "empty" else "{'a': 1}")
    runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused()
    runtime.call("state", bundle.id).refused(NOT_FOUND)


def test_detached_run(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """run --detach returns while the program runs."""
    sleeper.write()
    runtime.remember(sleeper.id)
    path = workdir / "pid"
    words = runtime.command("run", "--detach", "--bundle", str(sleeper.path), "--pid-file", str(path), sleeper.id)
    reader, writer = os.pipe()
    with (
        open(reader, "rb") as output,
        started(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL) as process,
    ):
        os.close(writer)
        assert process.wait(60) == 0
        assert b"ready" in output.readline()
        assert runtime.state(sleeper.id)["status"] == "running"
        assert runtime.state(sleeper.id)["pid"] == int(path.read_text())


def test_run_forwards_signals(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """R-28: a foreground run hands signals on to the program."""
    bundle.seq(["on-signal", "15", "33"], ["on-signal", "10", "-1"], "ready", "sleep").write()
    runtime.remember(bundle.id)
    words = runtime.command("run", "--bundle", str(bundle.path), bundle.id)
    with started(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output = process.stdout
        assert output is not None
        while b"ready" not in (line := output.readline()):
            assert line
        process.send_signal(signal.SIGUSR1)
        assert b'"signal":10' in output.readline()
        process.send_signal(signal.SIGTERM)
        assert b'"signal":15' in output.readline()
        assert process.wait(60) == 33


@pytest.mark.ocirun_only("with runc 1.1.5 all of them may fail")
def test_two_creates_of_one_id(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """R-03: of several concurrent creates of one ID exactly one wins."""
    name = unique("race")
    bundles = [mkbundle().seq("ready", "sleep").write() for _ in range(4)]
    codes: list[int] = []

    def create(bundle: Bundle) -> None:
        codes.append(runtime.call("create", "--bundle", str(bundle.path), name).rc)

    threads = [threading.Thread(target=create, args=(bundle,)) for bundle in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.remember(name)
    assert min(codes) == 0
    assert codes.count(0) == 1, codes
    assert runtime.state(name)["status"] == "created"


@pytest.mark.ocirun_only("runc leaves the parents of its cgroup")
def test_everything_is_undone_when_create_fails(runtime: RuntimeCommand, bundle: Bundle, oracle: Any) -> None:
    """An error late in create leaves no process, mount, cgroup or directory."""
    bundle.linux(sysctl={"net.ipv4.nosuch": "1"}, cgroupsPath=f"/{bundle.id}/deep/er")
    runtime.try_create(bundle).refused()
    oracle.assert_clean()
    runtime.call("state", bundle.id).refused(NOT_FOUND)
