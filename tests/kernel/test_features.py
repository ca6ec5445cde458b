# SPDX-License-Identifier: Apache-2.0
"""features.md, features-linux.md: nothing in the features document has a counter-example, and nothing is missing."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import capability_names, parse_lines
from support.upstream import REPOSITORY

from ocirun.features import features_document
from ocirun.plan.seccomp import compile_profile

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("about our own document")]
DOCUMENT = features_document()
LINUX = DOCUMENT["linux"]
SECCOMP = LINUX["seccomp"]
SCHEMA = json.loads((REPOSITORY / "schemas/config.json").read_text())["$defs"]
NOT_YET = "this build of ocirun cannot do it yet"


def words(name: str, *path: str) -> set[str]:
    """Return the words that the schema allows at a place."""
    found = SCHEMA[name]
    for key in path:
        found = found[key]
    return set(found["enum"])


def test_every_field_is_there() -> None:
    """The document of 1.3 has these members; what it could leave out is said."""

    def shape(value: object) -> object:
        return {key: shape(member) for key, member in value.items()} if isinstance(value, dict) else type(value)

    seccomp = dict.fromkeys(("actions", "operators", "archs", "knownFlags", "supportedFlags"), list)
    found = shape(DOCUMENT)
    assert isinstance(found, dict)
    annotations = found.pop("annotations")
    assert found == {
        "ociVersionMin": str,
        "ociVersionMax": str,
        "hooks": list,
        "mountOptions": list,
        "linux": {
            "namespaces": list,
            "capabilities": list,
            "cgroup": dict.fromkeys(("v1", "v2", "systemd", "systemdUser", "rdma"), bool),
            "seccomp": {"enabled": bool, **seccomp},
            "apparmor": {"enabled": bool},
            "selinux": {"enabled": bool},
            "intelRdt": dict.fromkeys(("enabled", "schemata", "monitoring"), bool),
            "memoryPolicy": {"modes": list, "flags": list},
            "mountExtensions": {"idmap": {"enabled": bool}},
            "netDevices": {"enabled": bool},
        },
        "potentiallyUnsafeConfigAnnotations": list,
    }
    assert all(value is str and "." in key for key, value in annotations.items())


def test_words_are_those_of_the_configuration() -> None:
    """What config.json may say is listed, and nothing else; no list names a thing twice."""
    assert set(DOCUMENT["hooks"]) == set(SCHEMA["hooks"]["properties"])
    assert set(LINUX["namespaces"]) == words("namespace", "properties", "type")
    assert set(SECCOMP["actions"]) == words("seccompAction")
    assert set(SECCOMP["operators"]) == words("seccompOperator")
    assert set(SECCOMP["archs"]) <= words("seccompArch")
    assert set(SECCOMP["knownFlags"]) == words("seccompFlag") >= set(SECCOMP["supportedFlags"])
    assert set(LINUX["memoryPolicy"]["modes"]) == words("memoryPolicy", "properties", "mode")
    assert set(LINUX["memoryPolicy"]["flags"]) == words("memoryPolicy", "properties", "flags", "items")
    assert len(LINUX["capabilities"]) == 41

    def lists(value: object) -> list[list[str]]:
        if isinstance(value, dict):
            return [each for member in value.values() for each in lists(member)]
        return [value] if isinstance(value, list) else []

    for each in lists(DOCUMENT):
        assert len(each) == len(set(each))


def test_the_command_prints_it(runtime: RuntimeCommand) -> None:
    """`ocirun features` is the document of the library, and no more."""
    assert json.loads(runtime.call("features").ok().stdout) == DOCUMENT


@pytest.mark.parametrize("which", ["ociVersionMin", "ociVersionMax"])
def test_feature_versions(runtime: RuntimeCommand, bundle: Bundle, which: str) -> None:
    """Both ends of the range are accepted, without a warning."""
    result = runtime.run(bundle.patch({"ociVersion": DOCUMENT[which]}).args("exit", "0")).ok()
    assert result.stderr == ""
    assert [int(part) for part in DOCUMENT["ociVersionMin"].split(".")] <= [
        int(part) for part in DOCUMENT["ociVersionMax"].split(".")
    ]


@pytest.mark.parametrize("kind", DOCUMENT["hooks"])
def test_feature_hooks(runtime: RuntimeCommand, bundle: Bundle, kind: str) -> None:
    """Each kind of hook runs."""
    inside = kind == "startContainer"
    log = "/hook.log" if inside else str(bundle.path / "hook.log")
    path = "/probe" if inside else str(bundle.rootfs / "probe")
    bundle.patch({"hooks": {kind: [{"path": path, "args": ["probe", "hook", log, "--tag", kind]}]}})
    runtime.run(bundle.args("exit", "0")).ok()
    (record,) = parse_lines((bundle.inside(log) if inside else Path(log)).read_bytes())
    assert record["tag"] == kind


@pytest.mark.parametrize("option", DOCUMENT["mountOptions"])
def test_feature_mount_options(runtime: RuntimeCommand, bundle: Bundle, option: str) -> None:
    """Each option is understood: applied, or refused by the kernel at its place, never handed to the file system."""
    if option in ("bind", "rbind"):
        bundle.mount("/here", "none", "/etc", option)
    elif option == "remount":
        bundle.mount("/here", "tmpfs", "tmpfs").mount("/here", "tmpfs", "tmpfs", option)
    else:
        bundle.mount("/here", "tmpfs", "tmpfs", option)
    if option in ("idmap", "ridmap"):
        mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
        bundle.spec["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    result = runtime.run(bundle.args("exit", "0"))
    if result.rc != 0:
        result.refused(f"/mounts/{len(bundle.spec['mounts']) - 1}")
        assert "fsconfig" not in result.stderr
        assert NOT_YET not in result.stderr


def test_feature_namespaces(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All kinds at once are new for the program."""
    bundle.userns().namespaces("time")
    assert {entry["type"] for entry in bundle.spec["linux"]["namespaces"]} == set(LINUX["namespaces"])
    found = runtime.report(bundle)["namespaces"]
    for kind in LINUX["namespaces"]:
        name = {"mount": "mnt", "network": "net"}.get(kind, kind)
        assert found[name] != os.stat(f"/proc/self/ns/{name}").st_ino, kind


def test_feature_capabilities(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Each is the program's, or a warning says that it cannot be had here."""
    result = runtime.run(bundle.capabilities(bounding=LINUX["capabilities"])).ok()
    got = capability_names(result.report["caps"]["bounding"])
    for name in LINUX["capabilities"]:
        assert (name in got) != (f"{name} is not known or not available here" in result.stderr), name


def test_feature_cgroup_managers(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The systemd manager is there: where systemd does not run, its absence is what is wrong."""
    assert LINUX["cgroup"]["systemd"]
    assert LINUX["cgroup"]["systemdUser"]
    bundle.write()
    result = runtime.call("run", "--bundle", str(bundle.path), bundle.id, options=["--systemd-cgroup"])
    if os.path.isdir("/run/systemd/system"):
        result.ok()
    else:
        result.refused("/linux/cgroupsPath: no systemd is running here")


def test_feature_rdma(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The rdma controller is used where there is one; without it the limit is refused at its place."""
    bundle.linux(resources={"rdma": {"mlx5_0": {"hcaHandles": 1}}})
    result = runtime.run(bundle.args("exit", "0"))
    if result.rc != 0:
        result.refused("/linux/resources/rdma")


@pytest.fixture
def agent(workdir: Path) -> Iterator[str]:
    """A seccomp agent that takes one connection and lets go of what it got."""
    path = str(workdir / "agent.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # shut down: nobody came
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            for fd in fds:
                os.close(fd)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("action", SECCOMP["actions"])
def test_feature_seccomp_actions(runtime: RuntimeCommand, bundle: Bundle, agent: str, action: str) -> None:
    """Each action is loaded, in a rule about a call that nobody makes."""
    rule = {"names": ["swapoff"], "action": action}
    seccomp: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    if action == "SCMP_ACT_NOTIFY":
        seccomp["listenerPath"] = agent
    assert runtime.report(bundle.linux(seccomp=seccomp))["seccomp"] == {"mode": 2, "filters": 1}


def test_feature_seccomp_operators(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All operators are loaded; what they do is shown in test_seccomp_filter.py."""
    rules = [
        {"names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": op}]}
        for op in SECCOMP["operators"]
    ]
    bundle.linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    assert runtime.report(bundle)["seccomp"] == {"mode": 2, "filters": 1}


def test_feature_seccomp_architectures(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Those that are listed are loaded, also together; of the others libseccomp is said not to know them."""
    rule = {"names": ["swapoff"], "action": "SCMP_ACT_ERRNO"}
    listed = SECCOMP["archs"]
    assert len(listed) >= 19  # those of libseccomp 2.5
    for arch in sorted(words("seccompArch")):
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch], "syscalls": [rule]}
        if arch in listed:
            compile_profile(profile, cache_dir=None)
        else:
            bundle.again().linux(seccomp=profile)
            runtime.run(bundle).refused("/linux/seccomp/architectures/0", "does not know this architecture")
    bundle.again().linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "architectures": listed, "syscalls": [rule]})
    assert runtime.report(bundle)["seccomp"] == {"mode": 2, "filters": 1}


@pytest.mark.parametrize("flag", SECCOMP["knownFlags"])
def test_feature_seccomp_flags(runtime: RuntimeCommand, bundle: Bundle, agent: str, flag: str) -> None:
    """A supported flag is loaded; one that is only known is refused by its name."""
    rule = {"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "listenerPath": agent, "syscalls": [rule]}
    result = runtime.run(bundle.linux(seccomp=seccomp))
    if flag in SECCOMP["supportedFlags"]:
        assert result.ok().report["seccomp"] == {"mode": 2, "filters": 1}
    else:
        result.refused(f"/linux/seccomp/flags/0: this kernel has no {flag}")


@pytest.mark.parametrize("mode", LINUX["memoryPolicy"]["modes"])
def test_feature_memory_policy_modes(runtime: RuntimeCommand, bundle: Bundle, mode: str) -> None:
    """Each mode is set, or refused by the kernel at its place."""
    nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
    result = runtime.run(bundle.linux(memoryPolicy={"mode": mode, **nodes}))
    if result.rc != 0:
        result.refused("/linux/memoryPolicy: set_mempolicy: E")


@pytest.mark.parametrize("flag", LINUX["memoryPolicy"]["flags"])
def test_feature_memory_policy_flags(runtime: RuntimeCommand, bundle: Bundle, flag: str) -> None:
    """Each flag is set, or refused by the kernel at its place."""
    result = runtime.run(bundle.linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}))
    if result.rc != 0:
        result.refused("/linux/memoryPolicy: set_mempolicy: E")


MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]
SWITCHES: dict[str, tuple[bool, dict[str, Any]]] = {
    "idmap": (
        LINUX["mountExtensions"]["idmap"]["enabled"],
        {"mounts": [{"destination": "/m", "type": "tmpfs", "uidMappings": MAPPING, "gidMappings": MAPPING}]},
    ),
    "netDevices": (LINUX["netDevices"]["enabled"], {"linux": {"netDevices": {"nosuchdevice0": {}}}}),
    "intelRdt": (LINUX["intelRdt"]["enabled"], {"linux": {"intelRdt": {"closID": "ocirunt"}}}),
    "intelRdt.schemata": (LINUX["intelRdt"]["schemata"], {"linux": {"intelRdt": {"schemata": ["MB:0=10"]}}}),
    "intelRdt.monitoring": (LINUX["intelRdt"]["monitoring"], {"linux": {"intelRdt": {"enableMonitoring": True}}}),
    "apparmor": (LINUX["apparmor"]["enabled"], {"process": {"apparmorProfile": "nosuchprofile"}}),
    "selinux": (LINUX["selinux"]["enabled"], {"process": {"selinuxLabel": "a:b:c:s0"}}),
}


@pytest.mark.parametrize("name", list(SWITCHES))
def test_enabled_is_built_in(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """What is enabled is tried, whatever the host says then; what is not is refused as not there yet."""
    enabled, patch = SWITCHES[name]
    result = runtime.run(bundle.patch(patch))
    if enabled:
        assert NOT_YET not in result.stderr
    else:
        result.refused()
        assert NOT_YET in result.stderr or "is not on here" in result.stderr


# ---- --probe -------------------------------------------------------------------------------------


def test_probe(runtime: RuntimeCommand) -> None:
    """The document is as before, with what this host can do beside it, each "no" with its reason."""
    found = json.loads(runtime.call("features", "--probe").ok().stdout)
    host = found.pop("host")
    assert found == DOCUMENT
    assert host["kernel"]["release"] == os.uname().release
    assert host["systemCalls"]["pidfd_open"] == {"available": True}
    assert host["cgroup"]["layout"] in ("unified", "hybrid", "legacy", "none")
    assert host["userNamespaces"]["available"]
    assert host["idmap"]["proc"]["available"] is False
    assert {name for name, answer in host["seccomp"]["flags"].items() if answer["available"]} == set(
        SECCOMP["supportedFlags"]
    )

    def answers(value: object) -> list[dict[str, Any]]:
        if not isinstance(value, dict):
            return []
        if "available" in value:
            return [value]
        return [each for member in value.values() for each in answers(member)]

    assert len(answers(host)) > 40
    for answer in answers(host):
        assert answer["available"] is True or answer["reason"], answer


def test_probe_says_what_containers_meet(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Where it says that tmpfs can be id-mapped a container can have that, else it cannot."""
    host = json.loads(runtime.call("features", "--probe").ok().stdout)["host"]
    bundle.patch({"mounts": [{"destination": "/m", "type": "tmpfs", "uidMappings": MAPPING, "gidMappings": MAPPING}]})
    result = runtime.run(bundle.args("exit", "0"))
    assert (result.rc == 0) == host["idmap"]["tmpfs"]["available"]


def test_probe_under_a_filter(runtime: RuntimeCommand) -> None:
    """Calls that a filter around us hides or forbids are not there, and the reason says which it is."""
    from support.native import compat

    for error in ("ENOSYS", "EPERM"):
        limited = runtime.under(*compat("all", error))
        calls = json.loads(limited.call("features", "--probe").ok().stdout)["host"]["systemCalls"]
        for name in ("openat2", "mount_setattr", "clone3", "memfd_create", "statx"):
            assert calls[name]["available"] is False
            assert calls[name]["reason"].startswith(error)
        assert calls["keyctl"]["available"]


def test_probe_leaves_nothing(runtime: RuntimeCommand, oracle: Any) -> None:
    """Neither a mount, nor a process, nor a namespace is left."""
    runtime.call("features", "--probe", "--format", "text").ok()
    oracle.assert_clean()


def test_probe_for_anybody(runtime: RuntimeCommand, workdir: Path) -> None:
    """Without root it works as well, and a missing privilege is a reason."""

    def drop() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    result = runtime.call("features", "--probe", before_exec=drop, cwd="/")
    if result.rc == 126 or "Permission denied" in result.stderr:
        pytest.skip("machine: others may not execute the command")
    host = json.loads(result.ok().stdout)["host"]
    assert host["caller"]["capabilities"] == []
    assert host["systemCalls"]["fsopen"]["available"] is False
    assert host["systemCalls"]["openat2"]["available"] is True


def test_probe_as_text(runtime: RuntimeCommand) -> None:
    """For people each fact is a line: yes, or no and why."""
    lines = runtime.call("features", "--probe", "--format", "text").ok().stdout.decode().splitlines()
    assert "linux.cgroup.v2: yes" in lines
    assert "host.systemCalls.openat2: yes" in lines
    assert any(line.startswith("host.idmap.proc: no: ") for line in lines)
    assert all(": " in line for line in lines)
