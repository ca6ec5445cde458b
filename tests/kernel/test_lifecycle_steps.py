# SPDX-License-Identifier: Apache-2.0
"""runtime.md#lifecycle: what holds at each of its steps, as a hook that runs there sees it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import RuntimeCommand, started
from support.oracle import descendants
from support.report import parse_lines
from support.upstream import REPOSITORY

from ocirun import Runtime
from ocirun.errors import Busy, ContainerExists, ContainerNotRunning, InvalidStatus
from ocirun.version import SPEC_VERSION

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("to the letter of 1.3, which 1.1.5 and 1.8.1 are not")]
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
STATE = json.loads((REPOSITORY / "schemas/state.json").read_text())


class Script:
    """Hooks that are shell scripts of the host; `$pid` is the pid of the state, `$log` what `text` returns."""

    def __init__(self, runtime: RuntimeCommand, bundle: Bundle) -> None:
        self.log = bundle.path / "script.log"
        self._runtime = runtime
        self._bundle = bundle

    def add(self, kind: str, script: str, **members: Any) -> Script:
        """Append a hook that runs a script."""
        begin = f"state=$(cat); pid=$(echo \"$state\" | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); log={self.log}\n"
        runtime = f"ocirun() {{ {shlex.join(self._runtime.command())} \"$@\"; }}\nid={self._bundle.id}\n"
        args = ["sh", "-c", begin + runtime + script]
        hook = {"path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin"], **members}
        self._bundle.spec.setdefault("hooks", {}).setdefault(kind, []).append(hook)
        return self

    def text(self) -> str:
        """Return what the scripts wrote so far."""
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def script(runtime: RuntimeCommand, bundle: Bundle) -> Script:
    """Scripts as hooks of the bundle."""
    return Script(runtime, bundle)


# ---- the state on stdin ----------------------------------------------------------------------------


def test_state_of_hooks_is_a_state(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """config.md: the state, the whole of it: valid by the schema, with the version, and the pid of the hook's side."""
    bundle.patch({"annotations": {"org.example.key": "a \"b\" \\ c\n✓"}})
    logs = {}
    for kind in KINDS:
        inside = kind == "startContainer"
        logs[kind] = bundle.inside(f"/{kind}") if inside else bundle.path / f"{kind}.log"
        path = "/probe" if inside else str(bundle.rootfs / "probe")
        log = f"/{kind}" if inside else str(logs[kind])
        bundle.patch({"hooks": {kind: [{"path": path, "args": ["probe", "hook", log, "--tag", kind]}]}})
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    container.delete("--force").ok()
    for kind, log in logs.items():
        (record,) = parse_lines(log.read_bytes())
        state = json.loads(record["stdin"])
        jsonschema.validate(state, STATE)
        assert state["ociVersion"] == SPEC_VERSION
        assert set(state) == {"ociVersion", "id", "status", "pid", "bundle", "annotations"}, kind
        assert state["annotations"] == bundle.spec["annotations"]
        wanted = {"poststop": 0, "createContainer": 1, "startContainer": 1}.get(kind, container.pid)
        assert state["pid"] == wanted, kind


def test_no_annotations_in_the_state(runtime: RuntimeCommand, bundle: Bundle, script: Script) -> None:
    """runtime.md: without annotations the member may be absent, and is."""
    script.add("createRuntime", 'echo "$state" > $log')
    runtime.run(bundle.args("exit", "0")).ok()
    assert "annotations" not in json.loads(script.text())


# ---- steps 2 to 5 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_environment_is_there_before_the_pivot(
    runtime: RuntimeCommand, bundle: Bundle, script: Script, kind: str
) -> None:
    """Steps 3 and 4: namespaces and mounts are made, the root is not changed yet, no program has run."""
    script.add(kind, "cat /proc/$pid/mountinfo > $log; stat -L -c %i /proc/$pid/root/ >> $log")
    bundle.mount("/marked", "tmpfs", "tmpfs").args("create", "/ran", "x")
    runtime.create(bundle).delete("--force").ok()
    lines = script.text().splitlines()
    assert any("/marked " in line and " tmpfs " in line for line in lines)
    assert int(lines[-1]) != bundle.rootfs.stat().st_ino
    assert not bundle.inside("/ran").exists()


def test_network_made_by_a_hook(runtime: RuntimeCommand, bundle: Bundle, script: Script) -> None:
    """config.md: what prestart and createRuntime hooks do to the namespaces is there for the program."""
    script.add("createRuntime", "nsenter -t $pid -u hostname from-the-hook")
    bundle.seq("report")
    assert runtime.run(bundle).ok().report["hostname"] == "from-the-hook"


def test_status_creating(
    runtime: RuntimeCommand, bundle: Bundle, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before create returns the status is "creating", and no operation has an effect: each is an error."""
    os.mkfifo(bundle.path / "go")
    os.mkfifo(bundle.path / "there")
    script.add("createRuntime", f"echo > {bundle.path}/there; cat {bundle.path}/go > /dev/null")
    bundle.args("exit", "0").write()
    runtime.remember(bundle.id)
    words = runtime.command("create", "--bundle", str(bundle.path), bundle.id)
    with started(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as creator:
        (bundle.path / "there").read_text()
        assert runtime.state(bundle.id)["status"] == "creating"
        assert runtime.state(bundle.id)["pid"] == 0
        (listed,) = json.loads(runtime.call("list", "--format", "json").ok().stdout)
        assert listed["status"] == "creating"
        monkeypatch.setattr("ocirun.store.Entry.lock.__defaults__", (0.1,))
        with Runtime(str(runtime.root)) as library:
            container = library.load(bundle.id)
            with pytest.raises(ContainerNotRunning):
                container.kill(signal.SIGKILL)
            for refused in (container.start, container.delete):
                with pytest.raises(InvalidStatus) as failure:  # at once: create may take as long as its hooks do
                    refused()
                assert failure.value.status == "creating"
            for refused in (container.pause, container.resume):
                with pytest.raises(Busy):
                    refused()
            with pytest.raises(Busy):
                library.delete(bundle.id, force=True)
            with pytest.raises(ContainerExists):
                library.create(bundle.id, str(bundle.path))
        assert runtime.state(bundle.id)["status"] == "creating"
        (bundle.path / "go").write_text("")
        assert creator.wait(60) == 0
    assert runtime.state(bundle.id)["status"] == "created"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_failed_hook_ends_its_list(runtime: RuntimeCommand, bundle: Bundle, script: Script, kind: str) -> None:
    """Steps 3, 4, 5, 7: an error, the container is stopped and destroyed, then all poststop hooks run, in order."""
    if kind == "startContainer":
        fails = {"path": "/probe", "args": ["probe", "exit", "4"]}
        bundle.patch({"hooks": {kind: [fails, {"path": "/probe", "args": ["probe", "create", "/second", "x"]}]}})
    else:
        script.add(kind, "exit 4").add(kind, "echo second >> $log")
    script.add("poststop", "echo stop one >> $log; ocirun state $id 2>> $log; exit 1")
    script.add("poststop", 'echo stop two >> $log; echo "$state" | grep -q \'"status":"stopped"\' && echo yes >> $log')
    result = runtime.run(bundle.args("create", "/ran", "x")).refused(f"/hooks/{kind}/0", "exit status 4")
    assert script.text().splitlines() == [
        "stop one",
        *[line for line in script.text().splitlines() if "does not exist" in line],
        "stop two",
        "yes",
    ]
    assert "does not exist" in script.text()
    # What poststop hooks did wrong is said as well, and does not take the place of the first error.
    assert "/hooks/poststop/0" in result.stderr
    assert not bundle.inside("/second").exists()
    assert not bundle.inside("/ran").exists()


# ---- steps 8 to 10 -------------------------------------------------------------------------------------


def test_poststart_sees_the_program(runtime: RuntimeCommand, bundle: Bundle, script: Script) -> None:
    """Step 9: poststart hooks come after the program was executed and before start returns; the status is running."""
    script.add("poststart", "readlink /proc/$pid/exe > $log; ocirun state $id >> $log")
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    program, _, state = script.text().partition("\n")
    assert program == "/probe"
    assert json.loads(state)["status"] == "running"
    container.line()


def test_poststart_failure_ends_its_list(runtime: RuntimeCommand, bundle: Bundle, script: Script) -> None:
    """Step 9: an error, the process is stopped, the container destroyed, and poststop hooks run."""
    script.add("poststart", "echo one >> $log; exit 3").add("poststart", "echo two >> $log")
    script.add("poststop", "echo stop >> $log; test -e /proc/$pid || echo ended >> $log")
    container = runtime.create(bundle.seq("ready", "sleep"))
    runtime.call("start", container.id).refused("/hooks/poststart/0", "exit status 3")
    assert container.wait() in (-1, 137)
    runtime.call("state", container.id).refused("does not exist")
    assert script.text().splitlines()[:2] == ["one", "stop"]
    assert "two" not in script.text()


# ---- steps 11 to 13 ------------------------------------------------------------------------------------


def test_poststop_comes_after_the_container(runtime: RuntimeCommand, bundle: Bundle, script: Script) -> None:
    """Steps 12 and 13: when poststop hooks run the container is gone: its ID, its process, its cgroups."""
    bundle.linux(cgroupsPath=f"/{bundle.id}")
    script.add("poststop", f"ocirun state $id 2>> $log; ls -d /sys/fs/cgroup/*/{bundle.id} >> $log 2>/dev/null; exit 0")
    container = runtime.create(bundle.args("exit", "0")).start()
    container.wait()
    container.delete().ok()
    (line,) = script.text().splitlines()
    assert "does not exist" in line


def test_poststop_warnings_are_logged(runtime: RuntimeCommand, bundle: Bundle, script: Script, workdir: Path) -> None:
    """Step 13: each failure is a warning in the log, the other hooks run, delete succeeds."""
    for number in range(3):
        script.add("poststop", f"echo {number} >> $log; echo why {number} >&2; exit {number}")
    script.add("poststop", "sleep 1000", timeout=1)
    container = runtime.create(bundle.args("exit", "0")).start()
    container.wait()
    log = workdir / "log"
    runtime.call("delete", container.id, options=["--log", str(log), "--log-format", "json"]).ok()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["level"] for record in records] == ["warning"] * 3
    for number, record in zip((1, 2), records, strict=False):
        assert f"/hooks/poststop/{number}" in record["msg"]
        assert f"why {number}" in record["msg"]
    assert "timed out" in records[2]["msg"]
    assert script.text().split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("kind", "pid_namespace"),
    [*((kind, True) for kind in KINDS), ("createContainer", False), ("startContainer", False)],
)
def test_timeout_of_every_kind(
    runtime: RuntimeCommand, bundle: Bundle, kind: str, pid_namespace: bool
) -> None:
    """A hook that times out ends with everything that it started, on either side; for poststop that is a warning."""
    if not pid_namespace:
        bundle.namespaces(without=("pid",))
    path = "/probe" if kind == "startContainer" else str(bundle.rootfs / "probe")
    log = "/log" if kind == "startContainer" else str(bundle.path / "log")
    hook = {"path": path, "args": ["probe", "hook", log, "--tag", "x", "--daemon", "--hang"], "timeout": 1}
    bundle.patch({"hooks": {kind: [hook]}})
    result = runtime.run(bundle.args("exit", "0"))
    if kind == "poststop":
        result.ok()
    else:
        result.refused()
    assert f"/hooks/{kind}/0" in result.stderr
    assert "timed out" in result.stderr
    until(lambda: "probe" not in descendants().values(), "what the hook started is gone")


@pytest.mark.parametrize("operation", ["state", "create", "start", "kill", "delete"])
def test_operations_need_an_id(runtime: RuntimeCommand, operation: str) -> None:
    """runtime.md: each operation is an error without the ID of a container."""
    runtime.call(operation).refused()
