# SPDX-License-Identifier: Apache-2.0
"""Every call that was recorded from real engines, made as they make it: words, descriptors, environment, parent.

A life of a container for each caller, with each of its recorded lines once: exit status, what the log says, and that
nothing of the caller's reaches the container.  checkpoint and restore have tests of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.engine import Conmon, Engine, Shim
from support.oracle import HostSnapshot
from support.report import Json, parse_lines
from support.terminal import ConsoleSocket, read_terminal

pytestmark = pytest.mark.root


class Debugging(Shim):
    """dockerd with runtime arguments of its own in front."""

    options = ("--debug", "--log", "{log}", "--log-format", "json")


class Podman(Engine):
    """podman itself, which calls everything but create and exec, with no log."""

    env = {"XDG_RUNTIME_DIR": "/run/user/0"}


class Build(Engine):
    """podman build, and buildah: a dozen pipes are open, 3 is one of them."""

    env = {"XDG_RUNTIME_DIR": "/run/user/0"}
    stray = (3, 8, 9, 10, 11, 12, 13, 14, 15)


#: Each recorded line between create and the end: what is called, and the exit status that was recorded.
#: {id} is the container, {process} a process document, {pid} a file for a pid, {limits} a document of limits.
CALLS: dict[type[Engine], tuple[tuple[str, int], ...]] = {
    Shim: (
        ("ps --format json {id}", 0),
        ("update --resources - {id}", 0),
        ("exec --process {process} --detach --pid-file {pid} {id}", 0),
        ("exec --process {nosuch} --detach --pid-file {pid} {id}", 255),
        ("pause {id}", 0),
        ("resume {id}", 0),
        ("resume {id}", 1),
        ("kill {id} 15", 0),
        ("kill --all {id} 9", 0),
        ("delete {id}", 0),
        ("delete {id}", 1),
        ("delete --force {id}", 0),
    ),
    Debugging: (
        ("kill {id} 15", 0),
        ("delete {id}", 0),
        ("delete {id}", 1),
        ("delete --force {id}", 0),
        ("start {id}", 1),
    ),
    Podman: (
        ("update --resources={limits} {id}", 0),
        ("pause {id}", 0),
        ("resume {id}", 0),
        ("kill --all {id} 15", 0),
        ("delete --force {id}", 0),
        ("delete --force {id}", 0),
    ),
    Conmon: (
        ("exec --pid-file {pid} --process {process} --detach {id}", 0),
        ("exec --pid-file {pid} --process {nosuch} --detach {id}", 255),
        ("exec --pid-file {pid} --process {process} --detach --preserve-fds 0 {id}", 0),
        ("delete --force {id}", 0),
    ),
    Build: (
        ("state {id}", 0),
        ("kill {id} 15", 0),
        ("state {id}", 0),
        ("delete {id}", 0),
    ),
}  # fmt: skip
#: What an engine writes for its user's limits: zeros are what he did not name (docker update).
LIMITS = {
    "memory": {"limit": 67108864, "reservation": 0, "swap": -1, "kernel": 0},
    "cpu": {"shares": 512, "quota": 0, "period": 0, "cpus": "", "mems": ""},
    "pids": {"limit": 100},
    "blockIO": {"weight": 0},
}
#: 64 hexadecimal digits, as docker and containerd's CRI service name containers.
LONG = "0123456789abcdef" * 4


class Life:
    """One container in the hands of one engine."""

    def __init__(self, engine: Engine, workdir: Path) -> None:
        self.engine = engine
        self.words = {"id": engine.bundle.id}
        capabilities = engine.bundle.spec["process"]["capabilities"]
        process = {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/"], "capabilities": capabilities}
        documents = {
            "process": {**process, "args": ["/probe", "report"]},
            "nosuch": {**process, "args": ["nosuch"]},
            "limits": LIMITS,
        }
        for name, document in documents.items():
            self.words[name] = str(workdir / f"{name}.json")
            Path(self.words[name]).write_text(json.dumps(document))
        self.words["pid"] = str(workdir / "exec.pid")
        self.executed = workdir / "executed"

    def call(self, line: str, expect: int) -> bytes:
        """Make a recorded call; what exec starts writes into a file."""
        words = line.format(**self.words).split()
        engine = self.engine
        engine.stdin = json.dumps(LIMITS).encode() if words[-2] == "-" else None
        if words[0] != "exec":
            return engine.call(*words, expect=expect, stdout=subprocess.PIPE)
        with self.executed.open("wb") as out:
            engine.call(*words, expect=expect, stdout=out)
        if expect == 0:
            os.waitid(os.P_PID, int(Path(self.words["pid"]).read_text()), os.WEXITED)
            (report,) = parse_lines(self.executed.read_bytes())
            check_nothing_passed(report)
        else:
            assert "executable file not found in $PATH" in engine.last_message()
        return b""


def check_nothing_passed(report: Json, *, fds: Sequence[int] = (0, 1, 2)) -> None:
    """Fail if something of the caller has come into the container."""
    assert [entry["fd"] for entry in report["fds"]] == list(fds)
    names = {entry.partition("=")[0] for entry in report["environ"]}
    assert names <= {"PATH", "HOME", "TEST", "TERM"}
    assert report["pdeathsig"] == 0
    assert report["raw_cwd"] == "/"
    assert not report["signals"]["ignored"]
    assert not report["signals"]["blocked"]
    assert not report["subreaper"]


@pytest.mark.parametrize("kind", CALLS, ids=lambda kind: kind.__name__)
def test_recorded_calls(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, kind: type[Engine], oracle: HostSnapshot
) -> None:
    """create, start, and each of the caller's other lines: the recorded exit status, and a log with no word unasked."""
    bundle.id = f"{bundle.id}-{LONG}"[-64:] if kind is Shim else bundle.id
    bundle.seq("report", ["on-signal", "15", "0"], "ready", "sleep")
    engine = kind(runtime, bundle, workdir)
    life = Life(engine, workdir)
    engine.create()
    engine.call("start", bundle.id)
    engine.wait_for_output(b'"verb":"ready"')
    check_nothing_passed(engine.report())
    failed = 0
    for line, expect in CALLS[kind]:
        if line.startswith("delete {id}"):
            wait_stopped(life)
        said = life.call(line, expect)
        failed += expect != 0
        if line.startswith("ps"):
            assert json.loads(said) == [int(engine.pid_file.read_text())]
        elif line.startswith("state"):
            assert json.loads(said)["id"] == bundle.id
        else:
            assert said == b"", line
    runtime.call("delete", "--force", bundle.id)
    if engine.options:
        records = [json.loads(line) for line in engine.log.read_text().splitlines()] if engine.log.exists() else []
        assert all(list(record)[:3] == ["level", "msg", "time"] for record in records)
        assert len([record for record in records if record["level"] == "error"]) == failed
    oracle.assert_clean()


def wait_stopped(life: Life) -> None:
    """Wait for the process of the container, which is our child: it was told to end."""
    try:
        os.waitid(os.P_PID, int(life.engine.pid_file.read_text()), os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # the container is gone


def test_buildahs_terminal(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """buildah run -t: 0 to 2 of create are its own terminal, and the container gets another by the socket."""
    ours, theirs = os.openpty()
    try:
        with ConsoleSocket(workdir / "console") as console:
            bundle.process(terminal=True).seq("report")
            engine = Build(runtime, bundle, workdir)
            engine.stdin = theirs
            engine.create("--console-socket", str(console.path))
            main = console.receive()
            engine.call("start", bundle.id)
            (report,) = parse_lines(read_terminal(main))
    finally:
        os.close(ours)
        os.close(theirs)
    check_nothing_passed(report)


@pytest.mark.parametrize("more", [(), ("--no-pivot",), ("--no-new-keyring",)], ids=" ".join)
def test_standard_input_of_create(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, more: tuple[str, ...]) -> None:
    """ctr run, podman build: the container reads from the pipe that create was given, to its end."""
    engine = Shim(runtime, bundle.args("digest"), workdir)
    engine.stdin = b"standard input\n" * 1000  # less than a pipe holds: nobody reads before start
    engine.create(*more)
    engine.call("start", bundle.id)
    os.waitid(os.P_PID, int(engine.pid_file.read_text()), os.WEXITED | os.WNOWAIT)
    engine.call("delete", bundle.id)
    assert engine.output.read_bytes()


@pytest.mark.parametrize("words", [("--version",), ("-v",), ("-version",)])
def test_version(runtime: RuntimeCommand, workdir: Path, words: tuple[str, ...]) -> None:
    """dockerd and podman: one line with "version", then commit and spec, to standard output."""
    result = runtime.call(*words).ok()
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith(f"{runtime.name} version ")
    found = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    assert found["spec"].startswith("1.")
    assert found["commit"]
    assert result.stderr == ""


# ---- the words by which engines know what has happened -----------------------------------------------------

#: In which state a command is given, and what the last error of the log must have in it.
REFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "missing": (
        ("start {id}", "container does not exist"),
        ("state {id}", "container does not exist"),
        ("kill {id} 15", "container does not exist"),
        ("kill --all {id} 9", "container does not exist"),
        ("delete {id}", "container does not exist"),
        ("exec --process {process} --detach --pid-file {pid} {id}", "container does not exist"),
        ("pause {id}", "container does not exist"),
        ("resume {id}", "container does not exist"),
        ("ps --format json {id}", "container does not exist"),
        ("update --resources {limits} {id}", "container does not exist"),
    ),
    "created": (("delete --nosuch {id}", "nosuch"), ("resume {id}", "not paused")),
    "running": (
        ("start {id}", "cannot start"),
        ("delete {id}", "not stopped"),
        ("resume {id}", "not paused"),
        ("exec --process {nosuch} --detach --pid-file {pid} {id}", "executable file not found in $PATH"),
    ),
    "paused": (("exec --process {process} --detach --pid-file {pid} {id}", "paused"), ("pause {id}", "paused")),
    "stopped": (
        ("start {id}", "cannot start"),
        ("kill {id} 15", "container not running"),
        ("exec --process {process} --detach --pid-file {pid} {id}", "container not running"),
        ("pause {id}", "container not running"),
    ),
}  # fmt: skip


@pytest.mark.ocirun_only("each peer has some words of its own")
@pytest.mark.parametrize("status", REFUSED)
def test_words_of_refusals(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, status: str, oracle: HostSnapshot
) -> None:
    """For each state of a container: what cannot be done then says so in the words that engines look for."""
    engine = Shim(runtime, bundle.seq("report", "ready", "sleep"), workdir)
    life = Life(engine, workdir)
    if status != "missing":
        engine.create()
    if status in ("running", "paused"):
        engine.call("start", bundle.id)
        engine.wait_for_output(b'"verb":"ready"')
    if status == "paused":
        engine.call("pause", bundle.id)
    if status == "stopped":
        engine.call("kill", bundle.id, "9")
        wait_stopped(life)
    for number, (line, words) in enumerate(REFUSED[status], 1):
        engine.call(*line.format(**life.words).split(), expect=255 if line.startswith("exec") else 1)
        assert words in engine.last_message(), line
        assert len(engine.log.read_text().splitlines()) == number, "one line for each"
        assert not Path(life.words["pid"]).exists()
    engine.call("delete", "--force", bundle.id)
    oracle.assert_clean()


@pytest.mark.parametrize("call", ["create", "run", "exec"])
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], "executable file not found in $PATH"),
        (["/nosuch"], "no such file or directory"),
        (["/dir/../nosuch/x"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_words_for_126_and_127(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, call: str, args: list[str], words: str
) -> None:
    """Whatever was to execute a program that is not there or none: what engines turn into 127 and 126."""
    engine = Shim(runtime, bundle, workdir)
    if call != "exec":
        bundle.process(args=args).write()
        more = ["--pid-file", str(engine.pid_file)]
        engine.call(call, "--bundle", str(bundle.path), *more, bundle.id, expect=1)
        assert not engine.pid_file.exists()
        runtime.call("state", bundle.id).refused()
    else:
        bundle.seq("report", "ready", "sleep").write()
        engine.create()
        engine.call("start", bundle.id)
        life = Life(engine, workdir)
        process = {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/"], "args": args}
        Path(life.words["process"]).write_text(json.dumps(process))
        engine.call("exec", "--process", life.words["process"], "--detach", "--pid-file", life.words["pid"], bundle.id, expect=255)
    assert words in engine.last_message().lower().replace("$path", "$PATH")

