# SPDX-License-Identifier: Apache-2.0
"""The model has one attribute for each property of the schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.upstream import SAMPLES, needs_samples

from ocirun.spec import model, resources
from ocirun.spec.model import Config, Hook, Linux, Namespace, Part, Process
from ocirun.spec.schema import load_schema

SCHEMA = load_schema("config.json")
CLASSES: dict[str, type[Part]] = {
    **{name: getattr(model, name[0].upper() + name[1:]) for name in ("root", "mount", "process")},
    "consoleSize": model.ConsoleSize,
    "user": model.User,
    "capabilities": model.Capabilities,
    "rlimit": model.Rlimit,
    "scheduler": model.Scheduler,
    "ioPriority": model.IoPriority,
    "execCPUAffinity": model.ExecCpuAffinity,
    "hooks": model.Hooks,
    "hook": model.Hook,
    "linux": model.Linux,
    "namespace": model.Namespace,
    "idMapping": model.IdMapping,
    "timeOffsets": model.TimeOffsets,
    "timeOffset": model.TimeOffset,
    "device": model.Device,
    "netDevice": model.NetDevice,
    "personality": model.Personality,
    "intelRdt": model.IntelRdt,
    "memoryPolicy": model.MemoryPolicy,
    "resources": resources.Resources,
    "deviceRule": resources.DeviceRule,
    "memory": resources.Memory,
    "cpu": resources.Cpu,
    "pids": resources.Pids,
    "blockIO": resources.BlockIo,
    "weightDevice": resources.WeightDevice,
    "throttleDevice": resources.ThrottleDevice,
    "hugepageLimit": resources.HugepageLimit,
    "network": resources.Network,
    "interfacePriority": resources.InterfacePriority,
    "rdma": resources.Rdma,
}
KEPT_AS_JSON = {"seccomp", "syscall", "syscallArg"}
NOT_KEPT = {"username", "commandLine", "freebsd", "solaris", "vm", "windows", "zos"}


def _attribute(name: str) -> str:
    """Return the attribute's name: camelCase becomes snake_case, abbreviations stay one word."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return {"class": "class_", "mem_bw_schema": "mem_bw_schema"}.get(snake, snake)


def _value(schema: dict[str, Any]) -> Any:
    """Return a value that obeys a schema and is not the default of anything."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "enum" in schema:
        return schema["enum"][-1]
    match schema["type"]:
        case "boolean":
            return True
        case "integer":
            return 1
        case "string":
            return "text"
        case "array":
            return [_value(schema["items"])]
    if "additionalProperties" in schema:
        return {"key": _value(schema["additionalProperties"])}
    return {name: _value(member) for name, member in schema.get("properties", {}).items()}


def _objects() -> dict[str, dict[str, Any]]:
    objects = {name: schema for name, schema in SCHEMA["$defs"].items() if "properties" in schema}
    return {"": SCHEMA, **objects}


@pytest.mark.parametrize("name", sorted(_objects().keys() - KEPT_AS_JSON))
def test_attributes_are_properties(name: str) -> None:
    """Each property has the attribute of its name, and each attribute is a property."""
    part = CLASSES[name] if name else Config
    schema = _objects()[name]
    expected = {_attribute(key) for key in schema["properties"] if key not in NOT_KEPT}
    assert set(part.__slots__) == expected


@pytest.mark.parametrize("name", sorted(_objects().keys() - KEPT_AS_JSON))
def test_every_property_is_decoded(name: str) -> None:
    """A property that is there changes the attribute of its name and no other one."""
    schema = _objects()[name]
    part = CLASSES[name] if name else Config
    full = {key: _value(member) for key, member in schema["properties"].items()}
    least = {key: full[key] for key in schema.get("required", ())}
    without = part.decode(least)
    for key in schema["properties"].keys() - NOT_KEPT:
        decoded = part.decode({**least, key: full[key]})
        if key in least:
            assert getattr(decoded, _attribute(key)) == full[key]
        else:
            changed = [a for a in part.__slots__ if getattr(decoded, a) != getattr(without, a)]
            assert changed == [_attribute(key)]


def test_absent_properties_have_defaults() -> None:
    """None for scalars and objects, empty for lists and maps, root for the user."""
    config = Config.decode({"ociVersion": "1.0.0"})
    assert (config.process, config.root, config.linux, config.hooks) == (None, None, None, None)
    assert (config.mounts, config.annotations, config.hostname) == ((), {}, None)
    process = Process.decode({"cwd": "/"})
    assert (process.terminal, process.no_new_privileges, process.oom_score_adj) == (
        False,
        False,
        None,
    )
    assert (process.user.uid, process.user.gid, process.user.umask) == (0, 0, None)
    linux = Linux.decode({})
    assert (linux.namespaces, linux.sysctl, linux.seccomp, linux.net_devices) == ((), {}, None, {})
    assert Hook.decode({"path": "/x"}).timeout is None


def test_null_and_empty_strings_mean_absent() -> None:
    """As in the engines' encoders; zero and false are values."""
    assert Namespace.decode({"type": "pid", "path": ""}).path is None
    assert Config.decode({"ociVersion": "1.0.0", "hostname": "", "mounts": None}).hostname is None
    memory = resources.Memory.decode({"limit": 0, "disableOOMKiller": False})
    assert (memory.limit, memory.disable_oom_killer, memory.swap) == (0, False, None)


def test_seccomp_and_annotations_stay_json() -> None:
    """What is handed on as it is keeps its form."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    config = Config.decode(
        {"ociVersion": "1.0.0", "annotations": {"a": "b"}, "linux": {"seccomp": profile}}
    )
    assert config.linux is not None
    assert (config.linux.seccomp, config.annotations) == (profile, {"a": "b"})


@needs_samples
def test_parts_have_value_semantics() -> None:
    """Two decodings of one document are equal and print the same; different ones are not equal."""
    documents = [json.loads(path.read_text()) for path in SAMPLES.glob("*.json")]
    configs = [Config.decode(document) for document in documents]
    for document, config in zip(documents, configs, strict=True):
        assert Config.decode(document) == config
        assert repr(Config.decode(document)) == repr(config)
    assert configs[0] != configs[1]
    assert configs[0] != "a string"
    with pytest.raises(TypeError):
        hash(configs[0])
