# SPDX-License-Identifier: Apache-2.0
"""Which ids a caller may map, on imagined hosts; and the files that say so.

Spec: config-linux.md#user-namespace-mappings; Kernel: user_namespaces(7); Source: subuid(5)
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.bundle import default_spec

from ocirun import HostFacts, InvalidConfig
from ocirun.spec.id_maps import OWN_ID, POWER, PROGRAM, gid_map_writer, uid_map_writer
from ocirun.spec.model import IdMapping
from ocirun.subids import covers, decided_by_files, find_program, parse_ranges
from ocirun.validate import validate_document

ALL = [[0, 1000, 1], [1, 100000, 65536]]


def mappings(*lines: list[int]) -> list[dict[str, int]]:
    """Return mappings as config.json has them."""
    return [dict(zip(("containerID", "hostID", "size"), line, strict=True)) for line in lines]


def user(**facts: Any) -> HostFacts:
    """A host seen by uid 1000, gid 1000, with subordinate ids."""
    return HostFacts.of(
        **{
            "euid": 1000,
            "egid": 1000,
            "effective_capabilities": 0,
            "subordinate_uids": ((100000, 65536),),
            "subordinate_gids": ((100000, 65536),),
        }
        | facts
    )


def pointers(facts: HostFacts, uids: list[list[int]], gids: list[list[int]] | None = None, **more: Any) -> list[str]:
    """Return the pointers of the host gate's problems."""
    spec = default_spec()
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = mappings(*uids)
    spec["linux"]["gidMappings"] = mappings(*(uids if gids is None else gids))
    for key, value in more.items():
        spec[key].update(value) if isinstance(value, dict) and key in spec else spec.update({key: value})
    try:
        validate_document(json.dumps(spec).encode(), facts)
    except InvalidConfig as error:
        return [f"{each.gate} {each.pointer}" for each in error.problems]
    return []


@pytest.mark.parametrize(
    ("lines", "facts", "expected"),
    [
        ([[0, 1000, 1]], user(), OWN_ID),
        ([[5, 1000, 1]], user(), OWN_ID),
        ([[0, 1001, 1]], user(), PROGRAM),
        ([[0, 1000, 2]], user(), PROGRAM),
        (ALL, user(), PROGRAM),
        (ALL, user(effective_capabilities=1 << 6 | 1 << 7), POWER),
        ([[0, 1000, 1]], HostFacts.of(), POWER),
    ],
)
def test_who_writes(lines: list[list[int]], facts: HostFacts, expected: str) -> None:
    """The kernel's rule: power over the parent namespace, or one's own id alone."""
    maps = [IdMapping(each) for each in mappings(*lines)]
    assert uid_map_writer(maps, facts) == expected
    assert gid_map_writer(maps, facts) == expected


def test_each_id_has_its_own_capability() -> None:
    """CAP_SETUID writes uids, CAP_SETGID gids."""
    maps = [IdMapping(each) for each in mappings(*ALL)]
    assert uid_map_writer(maps, user(effective_capabilities=1 << 7)) == POWER
    assert gid_map_writer(maps, user(effective_capabilities=1 << 7)) == PROGRAM
    assert gid_map_writer(maps, user(effective_capabilities=1 << 6)) == POWER


@pytest.mark.parametrize(
    ("facts", "uids", "expected"),
    [
        (user(), ALL, []),
        (user(), [[0, 1000, 1]], []),
        (user(newuidmap="", newgidmap=""), [[0, 1000, 1]], []),
        (user(newuidmap=""), ALL, ["host /linux/uidMappings"]),
        (user(newgidmap=""), ALL, ["host /linux/gidMappings"]),
        (user(), [[0, 100000, 65536]], []),
        (user(), [[0, 100000, 65537]], ["host /linux/uidMappings/0/hostID", "host /linux/gidMappings/0/hostID"]),
        (
            user(subordinate_gids=()),
            [[0, 1000, 1], [1, 165535, 1]],
            ["host /linux/gidMappings/1/hostID"],
        ),
        (user(subordinate_uids=None, subordinate_gids=None), [[0, 1, 1000]], []),  # a name service knows
        (HostFacts.of(), [[0, 100000, 65536]], []),
        (
            HostFacts.of(in_user_namespace=True, uid_map=((0, 1000, 1), (1, 100000, 65536)), gid_map=((0, 0, 70000),)),
            [[0, 0, 65537]],
            [],
        ),
        (
            HostFacts.of(in_user_namespace=True, uid_map=((0, 1000, 1), (2, 100000, 9)), gid_map=((0, 0, 70000),)),
            [[0, 0, 3]],
            ["host /linux/uidMappings/0/hostID"],
        ),
    ],
)
def test_ids_that_may_be_mapped(facts: HostFacts, uids: list[list[int]], expected: list[str]) -> None:
    """Every mapping that the kernel or newuidmap would refuse is a problem of its own."""
    assert pointers(facts, uids) == expected


def test_groups() -> None:
    """A list of groups needs setgroups: not with one's own id alone, not where it is denied already."""
    process = {"user": {"uid": 0, "gid": 0, "additionalGids": [0]}}
    refused = ["host /process/user/additionalGids"]
    assert pointers(user(), [[0, 1000, 1]], process=process) == refused
    assert pointers(user(), ALL, process=process) == []
    assert pointers(HostFacts.of(may_set_groups=False), ALL, process=process) == refused
    keep = {"annotations": {"run.oci.keep_original_groups": "1"}}
    assert pointers(user(), [[0, 1000, 1]], process=process, **keep) == []


def test_what_takes_power_over_the_host() -> None:
    """Things of root's are refused by their pointers, before anything is tried."""
    idmap = {"destination": "/m", "source": "/", "type": "bind", "options": ["bind", "idmap"]}
    more = {"linux": {"netDevices": {"eth0": {}}, "intelRdt": {"closID": "x"}}, "mounts": [idmap]}
    assert pointers(user(resctrl="/sys/fs/resctrl"), ALL, **more) == [
        "host /linux/netDevices",
        "host /mounts/0",
        "host /linux/intelRdt",
    ]
    assert pointers(HostFacts.of(resctrl="/sys/fs/resctrl"), ALL, **more) == []


def test_a_user_namespace_is_needed_without_power() -> None:
    """Whoever cannot unshare anything else."""
    document = json.dumps(default_spec()).encode()
    with pytest.raises(InvalidConfig, match="/linux/namespaces: without root"):
        validate_document(document, user())
    validate_document(document, user().as_root())
    validate_document(document, HostFacts.of(in_user_namespace=True, uid_map=((0, 1000, 1),)))


TEXT = "alice:100000:65536\n1000:300000:10\nbob:1:2\nalice:400000\nalice:x:y\nalice:500000:1:2\n\nalice:600000:5\n"


def test_ranges_of_a_file() -> None:
    """By name or by number; what is no entry is passed over."""
    assert parse_ranges(TEXT, 1000, "alice") == ((100000, 65536), (300000, 10), (600000, 5))
    assert parse_ranges(TEXT, 1000, "") == ((300000, 10),)
    assert parse_ranges(TEXT, 5, "eve") == ()


def test_coverage() -> None:
    """Wholly in one range; two that touch are not one."""
    ranges = ((100, 10), (110, 10))
    assert covers(ranges, 100, 10)
    assert covers(ranges, 115, 5)
    assert not covers(ranges, 105, 10)
    assert not covers(ranges, 99, 2)
    assert not covers((), 0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("passwd: files systemd\n", True),
        ("subid: files\n", True),
        ("subid:\tsss\n", False),
        ("# subid: sss\nsubid: files # as ever\n", True),
        (" subid : files sss\n", False),
    ],
)
def test_who_decides(text: str, expected: bool) -> None:
    """/etc/nsswitch.conf may name a name service in place of the files."""
    assert decided_by_files(text) is expected


def test_program_is_found_in_known_places(tmp_path: Any) -> None:
    """An executable file of the first directory that has one."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert find_program("newuidmap", [str(first), str(second)]) == ""
    (second / "newuidmap").touch(mode=0o755)
    assert find_program("newuidmap", [str(first), str(second)]) == str(second / "newuidmap")
    (first / "newuidmap").touch(mode=0o755)
    assert find_program("newuidmap", [str(first), str(second)]) == str(first / "newuidmap")
