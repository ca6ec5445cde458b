# SPDX-License-Identifier: Apache-2.0
"""Frozen containers on every version of cgroups: they can be ended, and no error leaves one frozen.

What each status allows is in test_lifecycle.py, `pause` and `resume` killed at any call in test_crashes.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.cgroup import PURE, directory, until
from support.command import TIMEOUT, Container, RuntimeCommand

from ocirun.cgroups import CgroupManager, legacy, open_manager, unified
from ocirun.cgroups.hierarchies import Hierarchy
from ocirun.errors import CgroupError
from ocirun.host import HostFacts

pytestmark = [pytest.mark.root, pytest.mark.vm]
FREEZERS = ["unified"] if PURE else ["unified", "freezer"]


@pytest.fixture
def running(runtime: RuntimeCommand, bundle: Bundle) -> Container:
    """A container whose program answers signals."""
    container = runtime.create(bundle.seq(["on-signal", "10", "-1"], "ready", "sleep")).start()
    container.line()
    container.line()
    return container


def freezer_file(pid: int, freezer: str) -> tuple[Path, str, str]:
    """Return the file of a process's cgroup, and what freezes and thaws it."""
    if freezer == "freezer":
        return directory(pid, "freezer") / "freezer.state", "FROZEN", "THAWED"
    return directory(pid, "") / "cgroup.freeze", "1", "0"


@pytest.mark.parametrize("status", ["created", "running"])
@pytest.mark.parametrize("end", ["kill", "kill --all", "delete --force"])
def test_end_of_a_paused_container(runtime: RuntimeCommand, running: Container, bundle: Bundle, status: str, end: str) -> None:
    """SIGKILL and delete --force reach what is frozen, started or not."""
    container = running
    if status == "created":
        container.delete("--force").ok()
        container = runtime.create(bundle.again())
    runtime.call("pause", container.id).ok()
    assert container.status() == "paused"
    verb, *options = end.split()
    runtime.call(verb, *options, container.id, *(["KILL"] if verb == "kill" else [])).ok()
    assert container.wait() == 128 + signal.SIGKILL
    if verb == "kill":
        assert container.status() == "stopped"
        container.delete().ok()


def test_signals_wait_for_resume(runtime: RuntimeCommand, running: Container) -> None:
    """Other signals are delivered when the container goes on."""
    runtime.call("pause", running.id).ok()
    running.kill("USR1").ok()
    assert running.status() == "paused"
    runtime.call("resume", running.id).ok()
    assert running.line()["signal"] == signal.SIGUSR1
    assert running.status() == "running"


@pytest.mark.ocirun_only("the peers look at one freezer of a hybrid host")
@pytest.mark.parametrize("then", ["resume", "kill", "delete"])
@pytest.mark.parametrize("freezer", FREEZERS)
def test_frozen_from_outside(runtime: RuntimeCommand, running: Container, freezer: str, then: str) -> None:
    """Whoever froze it, with whichever freezer: it is paused, and can be resumed and ended."""
    file, frozen, thawed = freezer_file(running.pid, freezer)
    try:
        file.write_text(frozen)
        until(lambda: running.status() == "paused", "paused")
        runtime.call("pause", running.id).refused("paused")
        if then == "resume":
            runtime.call("resume", running.id).ok()
            assert running.status() == "running"
            running.kill("USR1").ok()
            assert running.line()["signal"] == signal.SIGUSR1
        elif then == "kill":
            running.kill().ok()
            assert running.wait() == 128 + signal.SIGKILL
        else:
            running.delete("--force").ok()
    finally:
        if file.exists():
            file.write_text(thawed)


@pytest.mark.ocirun_only("the peers fail")
@pytest.mark.parametrize("freezer", FREEZERS)
def test_container_that_froze_itself(runtime: RuntimeCommand, running: Container, freezer: str) -> None:
    """A container with cgroups of its own can freeze itself below its own; delete --force ends it all the same."""
    file, frozen, _ = freezer_file(running.pid, freezer)
    nested = file.parent / "nested"
    nested.mkdir()
    (nested / "cgroup.procs").write_text(str(running.pid))
    (nested / file.name).write_text(frozen)
    assert running.status() == "running"
    running.delete("--force").ok()
    assert running.wait() == 128 + signal.SIGKILL


class Frozen:
    """A process in a cgroup of its own, and what freezes that."""

    def __init__(self, hierarchy: Hierarchy, manager: CgroupManager) -> None:
        self.manager = manager
        self.module = unified if hierarchy.version == 2 else legacy
        self.path = hierarchy.directory
        self.fd = os.open(hierarchy.directory, os.O_RDONLY | os.O_DIRECTORY)
        self.process = subprocess.Popen(["sleep", "1000"])
        Path(f"{hierarchy.directory}/cgroup.procs").write_text(str(self.process.pid))

    def is_frozen(self) -> bool:
        """Say whether it was asked to freeze."""
        return self.module.is_frozen("", self.fd)

    def close(self) -> None:
        """End the process and remove the cgroup."""
        self.module.thaw(self.fd)
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        self.manager.remove()
        self.manager.close()


@pytest.fixture(params=FREEZERS)
def member(request: pytest.FixtureRequest, peer: str | None) -> Iterator[Frozen]:
    """A process that is to be frozen in one of the hierarchies."""
    if peer is not None:
        pytest.skip("peer: the library")
    name = unique("pause")
    manager = open_manager("cgroupfs", HostFacts().cgroup_layout, name, f"/{name}")
    manager.record()
    manager.create()
    version = 2 if request.param == "unified" else 1
    (hierarchy,) = (
        each for each in manager.paths() if each.version == version and (version == 2 or "freezer" in each.controllers)
    )
    frozen = Frozen(hierarchy, manager)
    yield frozen
    frozen.close()


@pytest.mark.parametrize("error", [CgroupError, KeyboardInterrupt, OSError])
def test_no_error_leaves_it_frozen(
    member: Frozen, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The deadline, a signal of the caller's, a file that cannot be read: thawed again each time."""

    def fail(*_: object) -> None:
        raise error("planted")

    monkeypatch.setattr(member.module, "wait_for_event" if member.module is unified else "read_file", fail)
    with pytest.raises(CgroupError if error is OSError else error):
        member.module.freeze(member.fd, 0.01)
    monkeypatch.undo()
    assert not member.is_frozen()
    member.module.freeze(member.fd, TIMEOUT)
    assert member.is_frozen()
    member.module.thaw(member.fd)


def test_deadline_thaws(member: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not freeze in time goes on, and the error says so."""
    name, answer = ("wait_for_event", lambda *_: False) if member.module is unified else ("read_file", lambda *_: "FREEZING")
    monkeypatch.setattr(member.module, name, answer)
    with pytest.raises(CgroupError, match="did not freeze within"):
        member.module.freeze(member.fd, 0.01)
    monkeypatch.undo()
    assert not member.is_frozen()


def test_freezing_what_dies(member: Frozen) -> None:
    """A cgroup whose processes end meanwhile is frozen at once."""
    member.process.kill()
    member.process.wait()
    member.module.freeze(member.fd, TIMEOUT)
    assert member.is_frozen()
    member.module.thaw(member.fd)


def test_frozen_files_are_those_of_both_freezers(member: Frozen) -> None:
    """`state` looks at what was asked for, not at how far it got: a `pause` that was killed can be resumed."""
    from ocirun.intent import _frozen_files

    words: Callable[[str], str] = lambda path: Path(path).read_text().strip()  # noqa: E731
    pairs = [pair for pair in _frozen_files(member.manager) if pair[0].startswith(f"{member.path}/")]
    assert len(pairs) == 1
    assert words(pairs[0][0]) != pairs[0][1]
    member.module.freeze(member.fd, TIMEOUT)
    assert words(pairs[0][0]) == pairs[0][1]
    member.module.thaw(member.fd)
