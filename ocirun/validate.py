# SPDX-License-Identifier: Apache-2.0
"""The four gates that every document from outside passes, in order (design D8).

1. json: strict JSON, `ocirun.strict_json`
2. schema: the shapes of `schemas/`, `ocirun.spec.schema`
3. rule: what no schema can say, `ocirun.spec.rules`
4. host: what this host and this build can do, `ocirun.spec.host_rules` and `ocirun.cgroups.host_rules`

A gate reports everything that it finds; the next one is asked only if it found nothing.
"""

from __future__ import annotations

import os

from ocirun import strict_json
from ocirun.cgroups.host_rules import check_resources as check_resources_here
from ocirun.errors import InternalError, InvalidConfig, Problem, errno_text
from ocirun.host import HostFacts
from ocirun.spec import _validator, host_rules, mount_rules, rules
from ocirun.spec.id_map_rules import CAP_SYS_ADMIN
from ocirun.spec.linux_rules import check_resources
from ocirun.spec.model import Config, IntelRdt, Linux, Process
from ocirun.spec.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Of the members of `memory`, in an update.
_ZERO_IS_UNSET = ("limit", "reservation", "swap", "kernel", "kernel_tcp")


def validate_document(data: bytes, facts: HostFacts, cgroup_manager: str = "cgroupfs") -> Config:
    """Decode the bytes of a config.json for the host that *facts* describes, and the cgroup manager that will be used.

    Errors: InvalidConfig with all problems of the first gate that found any.
    """
    config = _decode(data)
    _check_host(config, facts, cgroup_manager)
    return config


def validate_for_anybody(
    data: bytes, facts: HostFacts, cgroup_manager: str = "cgroupfs"
) -> tuple[Config, HostFacts]:
    """Decode the bytes of a config.json, and return it with the facts that it was held to.

    They are root's where the container has no user namespace, since nobody else could create it, and the caller's
    otherwise.  Errors: InvalidConfig, as above.
    """
    config = _decode(data)
    namespaces = config.linux.namespaces if config.linux is not None else ()
    if not facts.has_capability(CAP_SYS_ADMIN) and all(each.type != "user" for each in namespaces):
        facts = facts.as_root()
    _check_host(config, facts, cgroup_manager)
    return config, facts


def _decode(data: bytes) -> Config:
    config = Config.decode(_load(data, "config.json"))
    _refuse_any([*rules.check(config), *mount_rules.check(config)])
    return config


def _check_host(config: Config, facts: HostFacts, cgroup_manager: str) -> None:
    problems = host_rules.check(config, facts)
    if config.linux is not None and config.linux.resources is not None:
        problems += check_resources_here(config.linux.resources, facts)
    if cgroup_manager == "systemd":
        from ocirun.cgroups.systemd_rules import check_systemd

        problems += check_systemd(config, facts)
    _refuse_any(problems)


def validate_process(document: dict[str, Any], facts: HostFacts, linux: Linux, pointer: str = "") -> Process:
    """Decode an object `process` for a container with the configuration *linux*, as exec takes it.

    *pointer* is where the object stands in its document.  Errors: InvalidConfig
    """
    process = Process.decode(check_shape(document, "process", pointer))
    _refuse_any(rules.check_joining(process, linux, pointer))
    _refuse_any(host_rules.check_process(process, facts, pointer))
    return process


def check_shape(source: bytes | dict[str, Any], part: str, pointer: str = "", *, what: str = "") -> dict[str, Any]:
    """Return a document that is only a part of config.json if it passes the schema.

    *what* is its name in messages about its syntax, *pointer* where it stands.  Errors: InvalidConfig
    """
    try:
        return _load(source, what, part)
    except InvalidConfig as error:
        problems = [Problem(each.gate, pointer + each.pointer, each.message) for each in error.problems]
        raise InvalidConfig(problems) from None


def validate_resources(
    source: bytes | dict[str, Any],
    facts: HostFacts,
    *,
    what: str = "resources.json",
    now: Mapping[str, str] | None = None,
) -> Resources:
    """Decode a document that is only the object `linux.resources`, as update takes it; or one that is decoded already.

    Pointers are relative to that document.  *now* is what the cgroup has (`CgroupManager.limits_now`).  Zero bytes
    mean "not set": docker sends them for what its user did not name, and a limit of 0 would kill.
    Errors: InvalidConfig
    """
    resources = Resources.decode(_load(source, what, "resources"))
    for name in _ZERO_IS_UNSET if resources.memory is not None else ():
        if getattr(resources.memory, name) == 0:
            setattr(resources.memory, name, None)
    _refuse_any(check_resources(resources, ""))
    _refuse_any(check_resources_here(resources, facts, "", now))
    return resources


def validate_mounts(config: dict[str, Any], given: bytes | list[dict[str, Any]], facts: HostFacts) -> Config:
    """Return *config*, which is valid, with *given* for its `mounts`: a list, as JSON or as its values.

    Errors: InvalidConfig with pointers relative to the list
    """
    mounts = strict_json.loads(given, what="the list of mounts") if isinstance(given, bytes) else given
    try:
        decoded = Config.decode(_load({**config, "mounts": mounts}, ""))
        _refuse_any([*rules.check(decoded), *mount_rules.check(decoded)])
        _refuse_any(each for each in host_rules.check(decoded, facts) if each.pointer.startswith("/mounts/"))
    except InvalidConfig as error:
        problems = [Problem(each.gate, each.pointer.removeprefix("/mounts"), each.message) for each in error.problems]
        raise InvalidConfig(problems) from None
    return decoded


def validate_rdt(document: dict[str, Any]) -> IntelRdt:
    """Return what update takes of `linux.intelRdt`; pointers are relative to it.  Errors: InvalidConfig"""
    return IntelRdt.decode(_load(document, "intelRdt", "intelRdt"))


def validate_bundle(
    bundle: str,
    facts: HostFacts | None = None,
    *,
    config_path: str | None = None,
    cgroup_manager: str = "cgroupfs",
) -> list[Problem]:
    """Return what is wrong with a bundle, nothing if a container can be created from it with *cgroup_manager*: by the
    caller, or by root alone if it has no user namespace.

    *config_path* is another place of config.json, as in `create`.  Nothing is changed, and nothing
    in the bundle makes this raise.
    """
    try:
        data = _read(config_path or os.path.join(bundle, "config.json"))
        config, _ = validate_for_anybody(data, HostFacts() if facts is None else facts, cgroup_manager)
    except InvalidConfig as error:
        return list(error.problems)
    except OSError as error:
        number = error.errno or 0
        return [Problem("json", "", f"config.json cannot be read: {errno_text(number)}")]
    return _check_root(bundle, config)


def _load(source: bytes | dict[str, Any], what: str, part: str = "") -> dict[str, Any]:
    document = strict_json.loads(source, what=what) if isinstance(source, bytes) else source
    is_valid = _validator.parts[part] if part else _validator.is_valid
    if not is_valid(document):
        raise InvalidConfig(_explain(document, part))
    assert isinstance(document, dict)
    return document


def _explain(document: object, part: str) -> list[Problem]:
    try:
        from ocirun.spec.schema import explain

        problems = explain(document, part=part)
    except ImportError as error:
        message = f"does not obey the schema; why cannot be said without {error.name}"
        return [Problem("schema", "", message)]
    if not problems:
        raise InternalError("the compiled validator and jsonschema disagree about a document")
    return problems


def _refuse_any(problems: Iterable[Problem]) -> None:
    found = list(problems)
    if found:
        raise InvalidConfig(found)


def _read(path: str) -> bytes:
    # A fifo must not block, and a device must not be read without end.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        data: bytes = file.read(strict_json.MAX_BYTES + 1)
        return data


def _check_root(bundle: str, config: Config) -> list[Problem]:
    assert config.root is not None  # a rule demands it
    path = os.path.join(bundle, config.root.path)
    if os.path.isdir(path):
        return []
    return [Problem("host", "/root/path", f'"{config.root.path}" is not a directory')]
