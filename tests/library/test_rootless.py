# SPDX-License-Identifier: Apache-2.0
"""The library in the process of an ordinary user (`tests/run --user`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.oracle import own_process
from support.report import parse_lines

from ocirun import HostFacts, InvalidConfig, Runtime, validate_bundle

pytestmark = pytest.mark.rootless
MkBundle = Callable[..., Bundle]


def subordinate(bundle: Bundle) -> Bundle:
    """Map the user to root, and its subordinate ids."""
    facts = HostFacts()
    for name, own, ranges in (
        ("uidMappings", facts.euid, facts.subordinate_uids),
        ("gidMappings", facts.egid, facts.subordinate_gids),
    ):
        assert ranges
        first, size = ranges[0]
        mappings = [
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": first, "size": size},
        ]
        bundle.linux(**{name: mappings})
    return bundle.namespaces("user")


def test_life_in_process(mkbundle: MkBundle, workdir: Path) -> None:
    """Create, start, wait and delete, with newuidmap, and nothing of the process is different afterwards."""
    bundle = subordinate(mkbundle()).args("report").write()
    before = own_process()
    with Runtime(str(workdir / "state")) as runtime:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        container = runtime.create(bundle.id, str(bundle.path), stdout=writer)
        os.close(writer)
        assert container.state().status == "created"
        container.start()
        with open(reader, "rb") as output:
            (report,) = parse_lines(output.read())
        assert container.wait() == 0
        container.delete()
        container.close()
        assert report["uids"] == [0] * 4
        assert runtime.list() == []
    assert own_process() == before


def test_refusal_in_process(mkbundle: MkBundle, workdir: Path) -> None:
    """Ids of others are problems of the host gate, in `validate_bundle` and in create."""
    bundle = subordinate(mkbundle())
    bundle.spec["linux"]["uidMappings"][1]["hostID"] -= 1
    bundle.write()
    assert [(each.gate, each.pointer) for each in validate_bundle(str(bundle.path))] == [
        ("host", "/linux/uidMappings/1/hostID")
    ]
    with Runtime(str(workdir / "state")) as runtime, pytest.raises(InvalidConfig, match="/etc/subuid has"):
        runtime.create(bundle.id, str(bundle.path))
    assert not (workdir / "state" / bundle.id).exists()
