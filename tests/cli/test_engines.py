# SPDX-License-Identifier: Apache-2.0
"""The calls that engines make, recorded from them: words, descriptors, environment and all.

Recorded: docker 20.10, containerd 1.6, podman 4.3 with conmon 2.1, buildah 1.28.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.engine import Buildah, Conmon, Engine, Shim
from support.oracle import HostSnapshot
from support.report import parse_lines
from support.terminal import ConsoleSocket, read_terminal

pytestmark = pytest.mark.root
@pytest.fixture(params=[Shim, Conmon, Buildah], ids=lambda engine: engine.__name__)
def engine(request: pytest.FixtureRequest, runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> Engine:
    """Each engine, with a container that reports and then waits."""
    bundle.seq("report", ["on-signal", "15", "12"], "ready", "sleep")
    made: Engine = request.param(runtime, bundle, workdir)
    return made


def test_life_of_a_container(engine: Engine, oracle: HostSnapshot) -> None:
    """create, start, kill, delete, and delete --force of what is gone: no word, no descriptor, nothing left."""
    name = engine.bundle.id
    engine.create()
    pid = int(engine.pid_file.read_text())
    state = json.loads(engine.call("state", name, stdout=subprocess.PIPE))
    assert (state["status"], state["pid"]) == ("created", pid)
    engine.call("start", name)
    engine.wait_for_output(b'"verb":"ready"')
    report = engine.report()
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    assert not any(entry.startswith(("GOMAXPROCS", "_OCI", "XDG", "LISTEN", "NOTIFY")) for entry in report["environ"])
    pidfd = os.pidfd_open(pid)
    try:
        engine.call("kill", name, "15")
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        os.close(pidfd)
    engine.call("kill", "--all", name, "9")
    assert json.loads(engine.call("state", name, stdout=subprocess.PIPE))["status"] == "stopped"
    engine.call("delete", name)
    engine.call("delete", "--force", name)
    assert not engine.log.exists() or engine.log.read_text() == ""
    oracle.assert_clean()


def test_delete_force_of_a_running_container(engine: Engine, oracle: HostSnapshot) -> None:
    """podman rm -f, and the shim's clean-up after a crash."""
    engine.create()
    engine.call("start", engine.bundle.id)
    engine.call("delete", "--force", engine.bundle.id)
    engine.call("delete", "--force", engine.bundle.id)
    oracle.assert_clean()


def test_errors_reach_the_engine(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """What the engine asks of a container that is not there, or no longer runs, it reads in the log."""
    engine = Shim(runtime, bundle, workdir)
    for words in (["start", "nosuch"], ["kill", "nosuch", "9"], ["delete", "nosuch"], ["state", "nosuch"]):
        engine.call(*words, expect=1)
        assert engine.last_message() == "container does not exist"
    engine.create()
    engine.call("kill", bundle.id, "9")
    os.waitid(os.P_PID, int(engine.pid_file.read_text()), os.WEXITED | os.WNOWAIT)
    engine.call("kill", bundle.id, "15", expect=1)
    assert engine.last_message() == "container not running"
    engine.call("delete", bundle.id)


def test_the_container_outlives_its_shim(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """The shim's parent-death signal and oom_score_adj end with the command."""
    engine = Shim(runtime, bundle.seq("report", "ready", "sleep"), workdir)
    engine.create()
    engine.call("start", bundle.id)
    engine.wait_for_output(b'"verb":"ready"')
    pid = int(engine.pid_file.read_text())
    assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text()
    assert json.loads(engine.call("state", bundle.id, stdout=subprocess.PIPE))["status"] == "running"


class Executing:
    """What an engine does to execute a process: a document in a file, and the words of each."""

    words = {
        "Shim": ("--process", "{process}", "--detach", "--pid-file", "{pid}"),
        "Conmon": ("--pid-file", "{pid}", "--process", "{process}", "--detach"),
    }

    def __init__(self, engine: Engine, workdir: Path) -> None:
        self.engine = engine
        self.process = workdir / "process.json"
        self.pid_file = workdir / "exec.pid"
        self.output = workdir / "exec.output"

    def call(self, *more: str, args: Sequence[str] = ("/probe", "report"), expect: int = 0, **members: Any) -> None:
        """exec, with the output of the process in a file."""
        document = {
            "user": {"uid": 0, "gid": 0}, "args": list(args), "cwd": "/", "env": ["PATH=/"], "noNewPrivileges": False,
            "capabilities": self.engine.bundle.spec["process"]["capabilities"], **members,
        }  # fmt: skip
        self.process.write_text(json.dumps(document))
        words = [
            word.format(process=self.process, pid=self.pid_file) for word in self.words[type(self.engine).__name__]
        ]
        with self.output.open("wb") as out:
            self.engine.call("exec", *words, *more, self.engine.bundle.id, stdout=out, expect=expect)

    def wait(self) -> int:
        """Reap the process, which is the subreaper's child now; returns its status."""
        found = os.waitid(os.P_PID, int(self.pid_file.read_text()), os.WEXITED)
        assert found is not None
        return int(found.si_status)


@pytest.fixture(params=[Shim, Conmon], ids=lambda engine: engine.__name__)
def executing(request: pytest.FixtureRequest, runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> Executing:
    """An engine that executes, with a container that runs."""
    engine: Engine = request.param(runtime, bundle.seq("report", "ready", "sleep"), workdir)
    engine.create()
    engine.call("start", bundle.id)
    engine.wait_for_output(b'"verb":"ready"')
    return Executing(engine, workdir)


def test_exec(oracle: HostSnapshot, executing: Executing) -> None:
    """docker exec, podman exec, ctr task exec, crictl exec: detached, the pid in the file, the status to be waited for."""
    executing.call(args=["/probe", "exit", "5"])
    assert executing.wait() == 5
    executing.call()
    assert executing.wait() == 0
    (report,) = parse_lines(executing.output.read_bytes())
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]
    assert report["environ"] == ["PATH=/", "HOME=/root"]
    engine = executing.engine
    assert not engine.log.exists() or engine.log.read_text() == ""
    engine.call("delete", "--force", engine.bundle.id)
    oracle.assert_clean()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("nosuch", "executable file not found in $PATH"),
        ("/nosuch", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_exec_that_fails(executing: Executing, program: str, words: str) -> None:
    """255, and what the engine turns into 127 and 126 in the last error of the log."""
    executing.call(args=[program], expect=255)
    assert words in executing.engine.last_message()
    assert not executing.pid_file.exists()


def test_exec_with_a_terminal(executing: Executing, workdir: Path) -> None:
    """docker exec -t, podman exec -t: conmon says --tty as well."""
    with ConsoleSocket(workdir / "exec.sock") as console:
        more = ["--tty"] if isinstance(executing.engine, Conmon) else []
        executing.call(*more, "--console-socket", str(console.path), terminal=True, consoleSize={"height": 20, "width": 30})
        (report,) = parse_lines(read_terminal(console.receive()))
        assert report["has_ctty"]
        assert (report["stdio"][0]["rows"], report["stdio"][0]["cols"]) == (20, 30)
    assert executing.wait() == 0


def test_exec_with_a_preserved_descriptor(executing: Executing) -> None:
    """podman exec --preserve-fds 1."""
    executing.engine.stray = (3, 4)
    executing.call("--preserve-fds", "1")
    assert executing.wait() == 0
    (report,) = parse_lines(executing.output.read_bytes())
    assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2, 3]


def test_console_socket_of_an_engine(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """create with a terminal: the socket gets it before create returns."""
    with ConsoleSocket(workdir / "console") as console:
        engine = Shim(runtime, bundle.process(terminal=True).seq("report"), workdir)
        engine.create("--console-socket", str(console.path))
        main = console.receive()
        engine.call("start", bundle.id)
        (report,) = parse_lines(read_terminal(main))
        assert report["has_ctty"]
        assert [entry["fd"] for entry in report["fds"]] == [0, 1, 2]


def test_buildkit(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, oracle: HostSnapshot) -> None:
    """docker build: run in the foreground, its status is the step's."""
    engine = Shim(runtime, bundle.args("exit", "9"), workdir)
    engine.dies_with_parent = False
    engine.call("run", "--bundle", str(bundle.path), bundle.id, expect=9)
    oracle.assert_clean()


def test_preserved_descriptor_of_conmon(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """podman run --preserve-fds 1."""
    engine = Conmon(runtime, bundle.seq("report", "ready", "sleep"), workdir)
    engine.stray = (3, 4)
    engine.create("--preserve-fds", "1")
    engine.call("start", bundle.id)
    engine.wait_for_output(b'"verb":"ready"')
    assert [entry["fd"] for entry in engine.report()["fds"]] == [0, 1, 2, 3]


def test_more_options_of_create(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """--no-new-keyring of buildah, --no-pivot of ctr and conmon, --systemd-cgroup=false, single dashes."""
    for number, more in enumerate((["--no-new-keyring"], ["--no-pivot"], ["-no-new-keyring", "-preserve-fds=0"])):
        engine = Buildah(runtime, bundle.again(), workdir / str(number))
        (workdir / str(number)).mkdir()
        engine.create(*more)
        engine.call("start", bundle.id)
        os.waitid(os.P_PID, int(engine.pid_file.read_text()), os.WEXITED | os.WNOWAIT)
        engine.call("delete", bundle.id)
        assert engine.report()["pid"] == 1
    for options in (["--systemd-cgroup=false"], ["--rootless=auto"], ["--cgroup-manager=cgroupfs"], ["--debug"]):
        runtime.call("list", options=options).ok()
