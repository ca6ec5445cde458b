# SPDX-License-Identifier: Apache-2.0
"""state and list: the shapes that engines parse."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand

pytestmark = pytest.mark.root
KEYS = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]


def test_no_containers(ocirun: RuntimeCommand) -> None:
    """Without a state root there is nothing to list, and nothing is made."""
    assert ocirun.call("list").ok().stdout.split() == [b"ID", b"PID", b"STATUS", b"BUNDLE", b"CREATED", b"OWNER"]
    assert json.loads(ocirun.call("list", "-f", "json").ok().stdout) == []
    assert ocirun.call("list", "-q").ok().stdout == b""
    assert not ocirun.root.exists()


def test_state_and_list_agree(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """list --format json is an array of what state prints, in runc's order of keys."""
    runtime.create(sleeper)
    state = json.loads(runtime.call("state", sleeper.id).ok().stdout)
    assert list(state) == KEYS
    assert json.loads(runtime.call("list", "--format", "json").ok().stdout) == [state]
    assert state["owner"] == "root"


def test_annotations_are_kept_apart(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """1.7: an annotation called "bundle" is an annotation, and not the bundle."""
    annotations = {"bundle": "/elsewhere", "a/b~c": "", "é": "\u2028\x7f"}
    runtime.create(sleeper.patch({"annotations": annotations}))
    state = runtime.state(sleeper.id)
    assert list(state) == [*KEYS[:-1], "annotations", "owner"]
    assert state["annotations"] == annotations
    assert state["bundle"] == str(sleeper.path)


def test_table(runtime: RuntimeCommand, sleeper: Bundle, mkbundle: Callable[..., Bundle]) -> None:
    """One line for each container, the columns one below the other."""
    container = runtime.create(sleeper)
    runtime.create(mkbundle().seq("ready", "sleep"))
    header, *rows = runtime.call("list").ok().stdout.decode().splitlines()
    assert len(rows) == 2
    (row,) = [row for row in rows if row.startswith(sleeper.id + " ")]
    assert row.split()[:4] == [sleeper.id, str(container.pid), "created", str(sleeper.path)]
    assert row.split()[-1] == "root"
    for word in header.split():
        at = header.index(word)
        assert all(line[at] != " " and (at == 0 or line[at - 1] == " ") for line in rows)


def test_broken_record_does_not_hide_the_others(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """runc #999: a record that cannot be read is listed as unknown, with the reason."""
    runtime.create(sleeper)
    broken = runtime.root / "broken"
    broken.mkdir()
    try:
        (broken / "state.json").write_text("{")
        listed = {each["id"]: each for each in json.loads(runtime.call("list", "-f", "json").ok().stdout)}
        assert listed.keys() == {sleeper.id, "broken"}
        assert listed[sleeper.id]["status"] == "created"
        assert listed["broken"]["status"] == "unknown"
        assert "state.json" in listed["broken"]["error"]
        result = runtime.call("list").ok()
        assert b"unknown" in result.stdout
        assert "broken" in result.stderr
        assert sleeper.id in runtime.call("list", "-q").ok().stdout.decode()
    finally:
        (broken / "state.json").unlink()
        broken.rmdir()


def test_names_of_the_bundle_act_on_no_terminal(runtime: RuntimeCommand, sleeper: Bundle) -> None:
    """A bundle's path with control characters is shown escaped in the table and whole in JSON."""
    odd = sleeper.path.with_name("od\x1b[2J\nd")
    os.rename(sleeper.path, odd)
    sleeper.path = odd
    sleeper.rootfs = odd / "rootfs"
    runtime.create(sleeper)
    table = runtime.call("list").ok().stdout
    assert b"\x1b" not in table
    assert len(table.splitlines()) == 2
    assert runtime.state(sleeper.id)["bundle"] == str(odd)


def test_regular_expressions(runtime: RuntimeCommand, mkbundle: Callable[..., Bundle], workdir: Path) -> None:
    """crun's --regex: kill and delete several containers at once."""
    bundles = [mkbundle().seq("ready", "sleep") for _ in range(3)]
    containers = [runtime.create(bundle).start() for bundle in bundles]
    for container in containers:
        container.line()
    runtime.call("kill", "--regex", f"^({bundles[0].id}|{bundles[1].id})$", "KILL").ok()
    assert [container.wait() for container in containers[:2]] == [137, 137]
    assert containers[2].status() == "running"
    runtime.call("delete", "-r", "^nosuch$").refused("does not exist")
    runtime.call("delete", "-r", "-f", "^nosuch$").ok()
    runtime.call("delete", "--force", "--regex", "c[0-9]+$").ok()
    assert json.loads(runtime.call("list", "-f", "json").ok().stdout) == []
