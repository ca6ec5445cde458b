# SPDX-License-Identifier: Apache-2.0
"""The host gate on imagined hosts, and the facts about this one."""

from __future__ import annotations

import os
import platform
from typing import Any

import pytest

from ocirun.cgroups.hierarchies import discover
from ocirun.errors import InvalidConfig
from ocirun.host import NAMESPACE_FILES, HostFacts
from ocirun.spec import host_rules
from ocirun.spec.model import Config, Linux, Process
from ocirun.validate import validate_document, validate_process, validate_resources

MOUNT = {"type": "mount"}


def _check(facts: HostFacts, *namespaces: dict[str, str], **changes: Any) -> list[str]:
    document = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [MOUNT, *namespaces], **changes.pop("linux", {})},
        **changes,
    }
    return [problem.pointer for problem in host_rules.check(Config.decode(document), facts)]


def test_missing_namespaces_are_refused() -> None:
    """Each kind that the kernel lacks, new or joined."""
    facts = HostFacts.of(namespaces=frozenset({"mount", "pid"}))
    time, pid = {"type": "time"}, {"type": "pid"}
    joined = {"type": "cgroup", "path": "/proc/1/ns/cgroup"}
    assert _check(facts, time, pid, joined) == [
        "/linux/namespaces/1/type",
        "/linux/namespaces/3/type",
    ]


def test_user_namespaces_can_be_forbidden() -> None:
    """A limit of none forbids new ones, not joining one."""
    facts = HostFacts.of(user_namespace_limit=0)
    assert _check(facts, {"type": "user"}) == ["/linux/namespaces/1/type"]
    assert _check(facts, {"type": "user", "path": "/proc/1/ns/user"}) == []


def test_labels_need_their_module() -> None:
    """A label that would not be in force is refused: each property asks for its own module."""
    process = {"cwd": "/", "apparmorProfile": "a", "selinuxLabel": "b"}
    linux = {"mountLabel": "c"}
    pointers = ["/process/apparmorProfile", "/process/selinuxLabel", "/linux/mountLabel"]
    assert _check(HostFacts.of(), process=process, linux=linux) == pointers
    on = HostFacts.of(lsms=frozenset({"apparmor", "selinux", "yama"}))
    assert _check(on, process=process, linux=linux) == []
    assert _check(HostFacts.of(lsms=frozenset({"apparmor"})), process=process, linux=linux) == pointers[1:]
    assert _check(HostFacts.of(lsms=frozenset({"selinux"})), process=process, linux=linux) == pointers[:1]
    assert _check(HostFacts.of(), process={**process, "apparmorProfile": ""}) == pointers[1:2]


def test_seccomp_needs_the_kernel() -> None:
    """Without seccomp a profile is refused, not left out."""
    profile = {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}
    assert _check(HostFacts.of(seccomp_actions=frozenset()), linux=profile) == ["/linux/seccomp"]
    assert _check(HostFacts.of(), linux=profile) == []


@pytest.mark.parametrize(
    ("kind", "changes", "pointer"),
    [
        ("network", {"linux": {"sysctl": {"net.core.somaxconn": "1"}}}, "net.core.somaxconn"),
        ("ipc", {"linux": {"sysctl": {"kernel.sem": "1"}}}, "kernel.sem"),
        ("uts", {"hostname": "a"}, "/hostname"),
        ("uts", {"domainname": "a"}, "/domainname"),
    ],
)
def test_joined_namespace_of_the_host_is_not_changed(
    kind: str, changes: dict[str, Any], pointer: str
) -> None:
    """A path to the runtime's own namespace does not make the host's settings the container's."""
    own = f"/proc/self/ns/{NAMESPACE_FILES[kind]}"
    [found] = _check(HostFacts(), {"type": kind, "path": own}, **changes)
    assert found.endswith(pointer)
    status = os.stat(own)
    other = HostFacts.of(namespace_ids={kind: (status.st_dev, status.st_ino + 1)})
    assert _check(other, {"type": kind, "path": own}, **changes) == []
    assert _check(HostFacts(), {"type": kind, "path": "/proc/self/ns/none"}, **changes) == []


def test_intel_rdt_needs_resctrl() -> None:
    """Without a mounted resctrl file system the property is an error, also when it is empty."""
    for settings in ({"closID": "a"}, {}):
        assert _check(HostFacts.of(), linux={"intelRdt": settings}) == ["/linux/intelRdt"]
        assert _check(HostFacts.of(resctrl="/sys/fs/resctrl"), linux={"intelRdt": settings}) == []


def test_empty_settings_ask_for_nothing() -> None:
    """An empty map of devices, and the affinity of later exec calls, are no reason to refuse."""
    process = {"cwd": "/", "execCPUAffinity": {"initial": "0"}}
    assert _check(HostFacts.of(), process=process, linux={"netDevices": {}}) == []


def test_host_mount_namespace_is_refused() -> None:
    """Without a mount namespace the container's mounts would be the host's."""
    for document in ({"ociVersion": "1.0.0"}, {"ociVersion": "1.0.0", "linux": {}}):
        [problem] = host_rules.check(Config.decode(document), HostFacts.of())
        assert (problem.gate, problem.pointer) == ("host", "/linux/namespaces")


def test_process_and_resources_pass_the_gates_alone() -> None:
    """exec and update get documents of their own, judged by the same gates."""
    facts = HostFacts.of()
    linux = Linux.decode({})
    process = validate_process({"args": ["a"], "cwd": "/"}, facts, linux)
    assert process == Process.decode({"args": ["a"], "cwd": "/"})
    assert validate_resources(b'{"pids":{"limit":0}}', facts).pids is not None
    mapped = [{"containerID": 0, "hostID": 1000, "size": 10}]
    in_user = Linux.decode({"namespaces": [{"type": "user"}], "uidMappings": mapped, "gidMappings": mapped})
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    asking = Linux.decode({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}})
    deadline = {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 5000}
    documents: list[tuple[Any, Linux, str, str]] = [
        ([], linux, "schema", ""),
        ({"args": ["a"]}, linux, "schema", "/cwd"),
        ({"cwd": "/"}, linux, "rule", "/args"),
        ({"args": ["a"], "cwd": "/", "apparmorProfile": "x"}, linux, "host", "/apparmorProfile"),
        ({"args": ["a"], "cwd": "/", "user": {"uid": 10, "gid": 0}}, in_user, "rule", "/user/uid"),
        ({"args": ["a"], "cwd": "/", "scheduler": deadline}, asking, "rule", "/scheduler/flags"),
    ]
    for document, about, gate, pointer in documents:
        for above in ("", "/process"):
            with pytest.raises(InvalidConfig) as caught:
                validate_process(document, facts, about, above)
            assert [(p.gate, p.pointer) for p in caught.value.problems] == [(gate, above + pointer)]
    for data, gate, pointer in (
        (b"[]", "schema", ""),
        (b'{"unified":{"cgroup.procs":"1"}}', "rule", "/unified/cgroup.procs"),
    ):
        with pytest.raises(InvalidConfig) as caught:
            validate_resources(data, facts)
        assert [(p.gate, p.pointer) for p in caught.value.problems] == [(gate, pointer)]


def test_gates_are_passed_in_order() -> None:
    """A document with mistakes for every gate is refused by the first one alone."""
    layers = [
        ('"x":1,"x":2,', "json"),
        ('"hostname":5,', "schema"),
        ('"domainname":"d",', "rule"),
        ('"linux":{},', "host"),
    ]
    for start, (_, gate) in enumerate(layers):
        text = "".join(extra for extra, _ in layers[start:])
        data = f'{{{text}"ociVersion":"1.0.0","root":{{"path":"r"}}}}'.encode()
        with pytest.raises(InvalidConfig) as caught:
            validate_document(data, HostFacts.of())
        assert {problem.gate for problem in caught.value.problems} == {gate}


def test_facts_of_this_host() -> None:
    """They agree with what other sources say."""
    facts = HostFacts()
    assert ".".join(map(str, facts.kernel)) == ".".join(platform.release().split(".")[:2])
    assert facts.euid == os.geteuid()
    assert facts.namespaces == {
        kind for kind, file in NAMESPACE_FILES.items() if os.path.exists(f"/proc/self/ns/{file}")
    }
    status = os.stat("/proc/self/ns/mnt")
    assert facts.namespace_ids["mount"] == (status.st_dev, status.st_ino)
    assert facts.cgroup_layout in ("unified", "hybrid", "legacy", "none")
    assert facts.legacy_controllers == {
        name
        for hierarchy in discover(facts.cgroup_layout, None, "x")
        for name in hierarchy.controllers
        if not name.startswith("name=")
    }
    assert facts.unified_controllers.isdisjoint(facts.legacy_controllers)
    assert facts.seccomp == bool(facts.seccomp_actions)
    assert facts.cap_last_cap >= 36
    assert facts.has_capability(0) == bool(facts.effective_capabilities & 1)
    assert isinstance(facts.in_user_namespace, bool)
    assert facts.user_namespace_limit >= 0
    assert facts.lsms >= set()


def test_facts_are_read_once_and_frozen() -> None:
    """A fact does not change under its reader, and nobody can change it."""
    facts = HostFacts()
    assert facts.namespaces is facts.namespaces
    with pytest.raises(AttributeError):
        facts.euid = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        facts.extra = 5  # type: ignore[attr-defined]
    assert "euid=7" in repr(HostFacts.of(euid=7))


def test_layers_below_are_free_of_heavy_imports() -> None:
    """A config.json that is accepted costs no import of json, re, typing and the like."""
    import subprocess
    import sys
    from pathlib import Path

    import ocirun

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ocirun.validate import validate_document\n"
        "from ocirun.host import HostFacts\n"
        'data = b\'{"ociVersion":"1.0.0","root":{"path":"r"},'
        '"linux":{"namespaces":[{"type":"mount"}]}}\'\n'
        "validate_document(data, HostFacts())\n"
        "heavy = ('json', 're', 'typing', 'enum', 'collections', 'functools', 'dataclasses',\n"
        "         'contextlib', 'inspect', 'pathlib', 'jsonschema', 'subprocess')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(Path(ocirun.__file__).parents[1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
