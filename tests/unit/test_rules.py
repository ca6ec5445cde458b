# SPDX-License-Identifier: Apache-2.0
"""Every configuration in bundles/invalid is refused for its reason; engines' ones are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.upstream import ENGINES_CONFIGS, REPOSITORY, SCHEMAS, needs_samples, needs_upstream

from ocirun.errors import InvalidConfig
from ocirun.host import HostFacts
from ocirun.spec import host_rules, mount_rules, rules
from ocirun.spec.model import Config, Mount
from ocirun.spec.sysctl import sysctl_namespace, sysctl_path
from ocirun.validate import validate_bundle, validate_document

INVALID = REPOSITORY / "bundles/invalid"
EXPECTED = {
    name: (gate, ["" if pointer == "(whole)" else pointer for pointer in pointers])
    for name, gate, *pointers in (
        line.split()
        for line in (INVALID / "expected.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}
BASE = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["/bin/true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def _check(**changes: object) -> list[str]:
    """Return the pointers that the rules refuse in a valid document with *changes*."""
    return [problem.pointer for problem in rules.check(Config.decode({**BASE, **changes}))]


def _check_linux(*kinds: str, **changes: object) -> list[str]:
    namespaces = [{"type": kind} for kind in ("mount", *kinds)]
    return _check(linux={"namespaces": namespaces, **changes})


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_invalid_configs_are_refused_by_their_gate(name: str) -> None:
    """The gate and all pointers are those of expected.txt, and every problem is one line."""
    gate, pointers = EXPECTED[name]
    with pytest.raises(InvalidConfig) as caught:
        validate_document((INVALID / name).read_bytes(), HostFacts.of())
    assert {problem.gate for problem in caught.value.problems} == {gate}
    assert sorted(problem.pointer for problem in caught.value.problems) == sorted(pointers)
    assert all(str(problem).isprintable() for problem in caught.value.problems)


def test_all_invalid_configs_are_expected() -> None:
    """No file is forgotten in the table, and no line of it has lost its file."""
    assert {path.name for path in INVALID.glob("*.json")} == EXPECTED.keys()


def test_every_rule_is_broken_by_a_file() -> None:
    """Each function of the rules gate refuses at least one of the files."""
    idle = {*rules._RULES, *rules._PROCESS_RULES, *rules.LINUX_RULES}
    for name, (gate, _) in EXPECTED.items():
        if gate == "rule":
            config = Config.decode(json.loads((INVALID / name).read_text()))
            parts = ((rules._RULES, config), (rules._PROCESS_RULES, config.process))
            for table, part in (*parts, (rules.LINUX_RULES, config.linux)):
                if part is not None:
                    idle -= {rule for rule in table if list(rule(part))}
    assert not idle


@needs_samples
@pytest.mark.parametrize("path", ENGINES_CONFIGS, ids=lambda path: path.stem)
def test_configs_of_engines_are_accepted(path: Path) -> None:
    """What podman, docker, containerd and buildah write passes all gates."""
    validate_document(path.read_bytes(), HostFacts.of())


@needs_upstream
@pytest.mark.parametrize("name", ["minimal.json", "minimal-for-start.json"])
def test_minimal_configs_pass_the_rules(name: str) -> None:
    """A config.json with next to nothing is valid; only the host gate misses a mount namespace."""
    config = Config.decode(json.loads((SCHEMAS / "test/config/good" / name).read_text()))
    assert rules.check(config) == []
    problems = host_rules.check(config, HostFacts.of())
    assert [problem.pointer for problem in problems] == ["/linux/namespaces"]


@pytest.mark.parametrize(
    "version", ["1.0.0", "1.3.0", "1.0.2-dev", "1.0.0-rc.1+build.5", "1.99.0", "1.0.0+00-x"]
)
def test_versions_are_accepted(version: str) -> None:
    """Every semantic version of the first major is."""
    assert _check(ociVersion=version) == []


@pytest.mark.parametrize(
    "version",
    [
        *("", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.00", "1.0.0-", "1.0.0-01"),
        *("1.0.0-é", "1.0.0+", "1.0.0-a..b", "1.0.0\n", " 1.0.0", "1.0.x", "1.0.0+a_b"),
        *("\u0661.0.0", "2.0.0", "0.5.0-dev"),
    ],
)
def test_other_versions_are_refused(version: str) -> None:
    """Whatever semver.org does not call a version, and other majors."""
    assert _check(ociVersion=version) == ["/ociVersion"]


def test_relative_mount_destination_is_accepted() -> None:
    """It is deprecated, not forbidden: it means relative to the container's root."""
    assert _check(mounts=[{"destination": "data", "type": "tmpfs"}]) == []


def test_mount_can_be_shared_and_slave() -> None:
    """The one pair of propagation types that a mount can have at once."""
    options = ["bind", "rslave", "rshared", "shared"]
    assert _check(mounts=[{"destination": "/a", "source": "/b", "options": options}]) == []


def test_capabilities_that_do_not_exist_are_accepted() -> None:
    """A newer engine may know more than this kernel: the runtime warns and goes on."""
    sets = {"permitted": ["CAP_FUTURE"], "effective": ["CAP_FUTURE"], "ambient": ["CAP_KILL"]}
    assert _check(process={"args": ["a"], "cwd": "/", "capabilities": sets}) == []


def test_same_device_twice_is_accepted() -> None:
    """Engines list a device twice; only another one at the same path is a contradiction."""
    device = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    assert _check_linux(devices=[device, {**device, "type": "u"}]) == []


def test_fifo_needs_no_numbers() -> None:
    """A fifo has no device numbers, and wrong ones mean nothing."""
    assert _check_linux(devices=[{"path": "/dev/fifo", "type": "p", "major": -1}]) == []


def test_joined_user_namespace_has_its_own_mappings() -> None:
    """With a path mappings may be absent, and ids are not held against the file's."""
    linux: dict[str, Any] = {
        "namespaces": [{"type": "mount"}, {"type": "user", "path": "/proc/1/ns/user"}]
    }
    process = {"args": ["a"], "cwd": "/", "user": {"uid": 5000, "gid": 5000}}
    assert _check(linux=linux, process=process) == []
    linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    assert _check(linux=linux, process=process) == []


def test_mapping_may_end_at_the_last_id() -> None:
    """The map of the first user namespace, all ids to themselves, is a map."""
    everything = [{"containerID": 0, "hostID": 0, "size": 4294967295}]
    assert _check_linux("user", uidMappings=everything, gidMappings=everything) == []


def test_every_overlap_is_found() -> None:
    """Ranges inside an earlier, larger one overlap it, also when they do not touch each other."""
    mappings = [
        {"containerID": first, "hostID": 1000 * i, "size": size}
        for i, (first, size) in enumerate([(0, 100), (10, 5), (20, 5), (100, 1)])
    ]
    problems = _check_linux("user", uidMappings=mappings, gidMappings=mappings[:1])
    assert problems == [f"/linux/uidMappings/{index}/containerID" for index in (1, 2)]


def test_too_many_mappings_are_refused() -> None:
    """The kernel takes 340."""
    mappings = [{"containerID": i, "hostID": i, "size": 1} for i in range(341)]
    assert _check_linux("user", uidMappings=mappings, gidMappings=mappings[:340]) == [
        "/linux/uidMappings"
    ]


def test_interface_templates_do_not_collide() -> None:
    """The kernel numbers names made from a template."""
    devices = {"eth0": {"name": "net%d"}, "eth1": {"name": "net%d"}}
    assert _check_linux("network", netDevices=devices) == []


@pytest.mark.parametrize("name", ["net%", "net%s", "%d%d", "a%db%"])
def test_other_interface_templates_are_refused(name: str) -> None:
    """The kernel knows one conversion, and that once."""
    assert _check_linux("network", netDevices={"eth0": {"name": name}}) == ["/linux/netDevices/eth0/name"]


def test_wildcard_device_rules_are_accepted() -> None:
    """Engines write -1 for all numbers, and no type for all types."""
    rule = {"allow": False, "major": -1, "minor": -1, "access": "rwm"}
    assert _check_linux(resources={"devices": [rule, {"allow": True}]}) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("kernel.shmmax", "kernel/shmmax"),
    ],
)
def test_sysctl_names_mean_paths(name: str, path: str) -> None:
    """As sysctl(8) has it: the first separator decides, the other one is part of names."""
    assert sysctl_path(name) == path


@pytest.mark.parametrize(
    "name",
    [
        *("", "kernel", "/net/ipv4/x", "net//x", "net..x", "net/../kernel/x", "net/./x", "../x"),
        *("net.ipv4.//.x", "net.", ".net.x", "net/", "net.ipv4.x\n", "net/a\x00b", "net./.x"),
    ],
)
def test_sysctl_names_that_lead_elsewhere_are_refused(name: str) -> None:
    """Nothing climbs, and nothing has an empty part."""
    with pytest.raises(ValueError, match="must"):
        sysctl_path(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("net.core.somaxconn", "network"),
        ("netfilter.x", None),
        ("kernel.sem", "ipc"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel.shm_next_id", None),
        ("fs.mqueue.queues_max", "ipc"),
        ("fs.file-max", None),
        ("fs.mqueuex.y", None),
        ("user.max_net_namespaces", "user"),
        ("kernel.domainname", "uts"),
        ("kernel.hostname", None),
        ("kernel.core_pattern", None),
        ("vm.swappiness", None),
    ],
)
def test_sysctls_belong_to_namespaces(name: str, kind: str | None) -> None:
    """Only what a namespace has for itself may be set."""
    assert sysctl_namespace(sysctl_path(name)) == kind
    assert bool(_check_linux(sysctl={name: "1"}))
    assert bool(_check_linux(*[kind] if kind else [], sysctl={name: "1"})) == (
        kind is None or kind == "user"  # the user namespace lacks mappings here
    )


def test_bundle_problems_are_listed_not_raised(tmp_path: Path) -> None:
    """validate_bundle reports a missing file, a bad file and a missing root, and raises nothing."""
    bundle = str(tmp_path)
    assert [problem.gate for problem in validate_bundle(bundle)] == ["json"]
    config = tmp_path / "config.json"
    config.mkdir()
    assert [problem.gate for problem in validate_bundle(bundle)] == ["json"]
    config.rmdir()
    config.write_bytes((INVALID / "six-mistakes.json").read_bytes())
    assert len(validate_bundle(bundle, HostFacts.of())) == 6
    config.write_text(json.dumps(BASE))
    problems = validate_bundle(bundle, HostFacts.of())
    assert [problem.pointer for problem in problems] == ["/root/path"]
    (tmp_path / "rootfs").mkdir()
    assert validate_bundle(bundle, HostFacts.of()) == []
    other = tmp_path / "other.json"
    other.write_text("{")
    assert len(validate_bundle(bundle, HostFacts.of(), config_path=str(other))) == 1


def test_mounts_compare_by_value() -> None:
    """Two parts of the same JSON are equal, and print what they hold."""
    source = {"destination": "/a", "type": "tmpfs"}
    assert Mount.decode(source) == Mount.decode(source)
    assert "destination='/a'" in repr(Mount.decode(source))


@pytest.mark.parametrize("name", ["context", "fscontext", "defcontext", "rootcontext"])
def test_quotes_in_labels(name: str) -> None:
    """A quote inside a label would end it on mount(2), and the rest would be options; those around it are taken off."""
    labels = {"a:b:c": True, '"a:b:c1,c2"': True, '"': False, 'a"b': False, '"a"b"': False, '"a" b': False, 'a"': False}
    for label, is_fine in labels.items():
        mount = {"destination": "/a", "type": "tmpfs", "options": ["size=1m", f"{name}={label}"]}
        found = mount_rules.check(Config.decode({**BASE, "mounts": [mount]}))
        assert [each.pointer for each in found] == ([] if is_fine else ["/mounts/0/options"]), label
    mount = {"destination": "/a", "type": "overlay", "options": ['lowerdir="/b"c']}
    assert mount_rules.check(Config.decode({**BASE, "mounts": [mount]})) == []


def test_quotes_in_the_mount_label() -> None:
    """linux.mountLabel is a label as it is, without quotes around it."""
    assert _check_linux(mountLabel="a:b:c:s0:c1,c2") == []
    for label in ('a"b', '"a:b"', '"'):
        assert _check_linux(mountLabel=label) == ["/linux/mountLabel"]
