# SPDX-License-Identifier: Apache-2.0
"""A user namespace that is joined: who opens it."""

from __future__ import annotations

import json

import pytest

from ocirun.host import HostFacts
from ocirun.plan.build import build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.plan import Plan
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.model import IdMapping
from ocirun.validate import validate_document

PATH = "/proc/7/ns/user"
MAPPINGS = [IdMapping({"containerID": 0, "hostID": 150000, "size": 65536})]


def plan(maps: IdMaps | None) -> Plan:
    document = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}},
        "linux": {
            "namespaces": [
                {"type": "mount"},
                {"type": "network", "path": "/proc/7/ns/net"},
                {"type": "user", "path": PATH},
            ]
        },
    }
    config = validate_document(json.dumps(document).encode(), HostFacts.of())
    return build(config, Circumstances("/bundle", "c1", joined_maps=maps))


@pytest.mark.parametrize("known", [False, True])
def test_it_is_an_input_where_its_maps_are_known(known: bool) -> None:
    """The descriptor that the maps were read from is the one joined; the path is shown in both cases."""
    made = plan(IdMaps(MAPPINGS, MAPPINGS, "/linux/namespaces/2/path") if known else None)
    opened = {op.texts[0]: op.slots[0] for op in made.ops if op.name == "OPEN_NAMESPACE"}
    joined = [op.slots[0] for op in made.ops if op.name == "JOIN"]
    assert ("user" in made.inputs) == known
    assert joined == [opened["/proc/7/ns/net"], opened[PATH]]
    assert (opened[PATH] < len(made.inputs)) == known
    assert opened["/proc/7/ns/net"] >= len(made.inputs)
    if known:
        assert opened[PATH] == made.inputs.index("user")
    assert f"open namespace {PATH} (user) as #{opened[PATH]}" in made.explain()
