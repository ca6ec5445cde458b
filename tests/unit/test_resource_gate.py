# SPDX-License-Identifier: Apache-2.0
"""`validate` knows what the cgroups of a host cannot do, by the functions that `create` acts by."""

from __future__ import annotations

from typing import Any

import pytest

from ocirun.cgroups.host_rules import check_resources
from ocirun.errors import InvalidConfig
from ocirun.host import HostFacts
from ocirun.spec.resources import Resources
from ocirun.validate import validate_document, validate_resources

UNIFIED = HostFacts.of(cgroup_layout="unified")
LEGACY = HostFacts.of(cgroup_layout="legacy")
# As on the hosts of the time between: version 2 has what version 1 has not mounted.
HYBRID = HostFacts.of(
    cgroup_layout="hybrid",
    legacy_controllers=frozenset({"cpu", "memory", "devices", "pids"}),
    unified_controllers=frozenset({"hugetlb"}),
)


def found(facts: HostFacts, **source: Any) -> list[tuple[str, str]]:
    """Return (gate, pointer) of each problem."""
    return [
        (problem.gate, problem.pointer.removeprefix("/linux/resources"))
        for problem in check_resources(Resources(source), facts)
    ]


def hosts(pointer: str) -> list[tuple[str, str]]:
    """Return what `found` returns for one thing that the host cannot do."""
    return [("host", pointer)]


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({"memory": {"kernelTCP": 1}}, "/memory/kernelTCP"),
        ({"memory": {"swappiness": 60}}, "/memory/swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller"),
        ({"memory": {"swap": 1}}, "/memory/swap"),
        ({"cpu": {"realtimeRuntime": 1}}, "/cpu/realtimeRuntime"),
        ({"network": {"classID": 1}}, "/network/classID"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "/network/priorities/0"),
    ],
)
def test_what_only_version_1_has(source: dict[str, Any], pointer: str) -> None:
    """Refused where version 2 is all there is, and good where version 1 is."""
    assert found(UNIFIED, **source) == hosts(pointer)
    assert found(LEGACY, **source) == []


@pytest.mark.parametrize("facts", [LEGACY, UNIFIED])
def test_leaf_weights_are_gone(facts: HostFacts) -> None:
    """`validate` says so too: no kernel that is supported has their files, whatever the version of its cgroups."""
    device = {"major": 8, "minor": 0, "leafWeight": 10}
    assert found(facts, blockIO={"leafWeight": 10}) == hosts("/blockIO/leafWeight")
    assert found(facts, blockIO={"weightDevice": [device]}) == hosts("/blockIO/weightDevice/0/leafWeight")


def test_swap_below_a_limit_that_is_there() -> None:
    """What the cgroup has now is the host's state; two numbers of one document that contradict each other are not."""
    now = {"memory.max": "1000"}
    assert [each.gate for each in check_resources(Resources({"memory": {"swap": 10}}), UNIFIED, now=now)] == ["host"]
    assert found(UNIFIED, memory={"limit": 1000, "swap": 10}) == [("rule", "/memory/swap")]


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({"unified": {"memory.high": "1"}}, "/unified/memory.high"),
        (
            {
                "devices": [
                    {"allow": True, "type": "c", "access": "rwm"},
                    {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"},
                ]
            },
            "/devices/1",
        ),
    ],
)
def test_what_only_version_2_has(source: dict[str, Any], pointer: str) -> None:
    """The map `unified`, and an exception from an exception in the device rules."""
    assert found(LEGACY, **source) == hosts(pointer)
    assert found(UNIFIED, **source) == []


def test_controller_that_is_not_there() -> None:
    """The error names the controller; files of the core need none."""
    facts = HostFacts.of(unified_controllers=frozenset({"memory"}))
    source = {
        "pids": {"limit": 5},
        "rdma": {"mlx": {"hcaHandles": 1}},
        "unified": {"misc.max": "res_a 1\nres_b 2", "memory.high": "1", "cgroup.max.depth": "3"},
    }
    problems = check_resources(Resources(source), facts)
    assert [(each.pointer, each.message) for each in problems] == [
        ("/linux/resources/pids/limit", "the pids controller is not available here"),
        ("/linux/resources/rdma/mlx", "the rdma controller is not available here"),
        ("/linux/resources/unified/misc.max", "the misc controller is not available here"),
    ]
    assert found(HostFacts.of(cgroup_layout="none"), pids={"limit": 5}) == hosts("/pids/limit")


def test_hybrid_is_judged_controller_by_controller() -> None:
    """memory by version 1, hugetlb by version 2, and net_cls by neither."""
    assert found(HYBRID, memory={"swappiness": 1}, hugepageLimits=[{"pageSize": "2MB", "limit": 0}]) == []
    [problem] = check_resources(Resources({"network": {"classID": 1}}), HYBRID)
    assert "net_cls controller of version 1 is not mounted" in problem.message


def test_limit_of_kernel_memory_that_would_have_no_effect() -> None:
    """Since Linux 5.16 the file is there and does nothing."""
    memory = {"kernel": 1 << 20}
    old = HostFacts.of(cgroup_layout="legacy", kernel=(5, 15))
    assert found(LEGACY, memory=memory) == hosts("/memory/kernel")
    assert found(old, memory=memory) == []
    assert found(LEGACY, memory={"kernel": -1}) == []


def test_rules_for_every_host() -> None:
    """What contradicts itself is no matter of the version."""
    source = {
        "memory": {"limit": 100, "swap": 99},
        "hugepageLimits": [{"pageSize": "2M", "limit": 1}],
        "devices": [{"allow": True}],
    }
    for facts in (UNIFIED, LEGACY):
        assert found(facts, **source) == [
            ("rule", "/memory/swap"),
            ("rule", "/hugepageLimits/0/pageSize"),
            ("rule", "/devices/0/access"),
        ]


def test_validate_reports_them_with_the_others_of_the_gate() -> None:
    """All at once, each with its pointer; for update relative to its own document."""
    resources = b'{"network":{"classID":1},"memory":{"limit":-1,"kernel":1}}'
    document = (
        b'{"ociVersion":"1.0.0","root":{"path":"r"},"linux":{"namespaces":[],"resources":%b}}' % resources
    )
    with pytest.raises(InvalidConfig) as caught:
        validate_document(document, UNIFIED)
    assert [problem.pointer for problem in caught.value.problems] == [
        "/linux/namespaces",
        "/linux/resources/memory/kernel",
        "/linux/resources/network/classID",
    ]
    with pytest.raises(InvalidConfig) as caught:
        validate_resources(resources, UNIFIED)
    assert [problem.pointer for problem in caught.value.problems] == ["/memory/kernel", "/network/classID"]
