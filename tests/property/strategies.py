# SPDX-License-Identifier: Apache-2.0
"""The one place that generates documents: by schema, mutated, junk, and whole valid containers.

`documents()` obeys `schemas/config.json` in every corner and means nothing; `configs()` passes all
four gates on the host that `HostFacts.of()` describes; `mutated(...)` breaks either in one place;
`junk()` is any JSON at all.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"

Json = Any
Schema = dict[str, Any]

_STRINGS = st.one_of(
    st.sampled_from(["", "a", "/a", "a/b", "0-3,7", "é", "x=y", "RLIMIT_CORE", "MB:0=1"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
_MAP_KEYS = st.sampled_from(["", "a", "net.ipv4.ip_forward", "io.max", "a/b~c", "\n"])
_EXTRA_NAMES = st.sampled_from(["x-extra", "io.example", "ext/ra"])


def _load(name: str) -> Schema:
    schema: Schema = json.loads((SCHEMAS / name).read_text())
    return schema


_CONFIG_SCHEMA = _load("config.json")


def _resolve(schema: Schema, root: Schema) -> tuple[Schema, Schema]:
    while "$ref" in schema:
        name, _, fragment = schema["$ref"].partition("#")
        root = _load(name) if name else root
        schema = root
        for token in fragment.split("/")[1:]:
            schema = schema[token]
    return schema, root


def from_schema(schema: Schema, root: Schema) -> st.SearchStrategy[Json]:
    """Return values that obey *schema*, with the edges of every range."""
    schema, root = _resolve(schema, root)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            low, high = schema["minimum"], schema.get("maximum", 2**64)
            return st.one_of(
                st.sampled_from([low, high, max(low, 0)]),
                st.integers(max(low, -10), min(high, 100)),
            )
        case "string":
            pattern = schema.get("pattern")
            if pattern is None:
                return _STRINGS
            return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True).filter(
                lambda text: "\0" not in text
            )
        case "array":
            items = from_schema(schema["items"], root)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=2)
    if "additionalProperties" in schema:
        values = from_schema(schema["additionalProperties"], root)
        return st.dictionaries(_MAP_KEYS, values, max_size=2)
    return _objects(schema, root)


@st.composite
def _objects(draw: st.DrawFn, schema: Schema, root: Schema) -> Json:
    properties = schema.get("properties", {})
    names = [*schema.get("required", ())]
    if properties:
        names += draw(st.lists(st.sampled_from(sorted(properties)), max_size=4))
    result = {name: draw(from_schema(properties[name], root)) for name in dict.fromkeys(names)}
    if draw(st.integers(0, 9)) == 0:
        result[draw(_EXTRA_NAMES)] = draw(junk())
    return result


def documents(part: str = "") -> st.SearchStrategy[Json]:
    """Return documents that obey `schemas/config.json`, or one of its `$defs`."""
    schema = _CONFIG_SCHEMA["$defs"][part] if part else _CONFIG_SCHEMA
    return from_schema(schema, _CONFIG_SCHEMA)


def other_documents(name: str) -> st.SearchStrategy[Json]:
    """Return documents that obey state.json or features.json of `schemas/`."""
    root = _load(name)
    return from_schema(root, root)


def junk() -> st.SearchStrategy[Json]:
    """Return any JSON value."""
    return st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**65), 2**65),
            st.floats(allow_nan=False, allow_infinity=False),
            _STRINGS,
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(_STRINGS, inner, max_size=3)
        ),
        max_leaves=6,
    )


def _places(value: Json, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    places = [place] if place else []
    if isinstance(value, dict):
        for key, item in value.items():
            places += _places(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            places += _places(item, (*place, index))
    return places


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[Json]) -> Json:
    """Return documents of *base* with one to three changes that may make them invalid."""
    document = copy.deepcopy(draw(base))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            return draw(junk())
        *parents, last = draw(st.sampled_from(places))
        holder = document
        for token in parents:
            holder = holder[token]
        _mutate(draw, holder, last)
    return document


def _mutate(draw: st.DrawFn, holder: Json, last: Any) -> None:
    value = holder[last]
    changes = ["replace", "delete"]
    if isinstance(last, str):
        changes.append("respell")
    if isinstance(value, int):
        changes.append("nudge")
    if isinstance(value, str):
        changes.append("edit")
    if isinstance(value, list | dict):
        changes.append("empty")
    match draw(st.sampled_from(changes)):
        case "replace":
            holder[last] = draw(junk())
        case "delete":
            del holder[last]
        case "respell":
            respelt = draw(st.sampled_from([str.swapcase, str.upper, str.lower, str.capitalize]))
            holder[respelt(last).replace("s", "\u017f")] = holder.pop(last)
        case "nudge":
            holder[last] = draw(
                st.sampled_from([value + 1, value - 1, float(value), -value, bool(value)])
            )
        case "empty":
            value.clear()
        case "edit":
            holder[last] = draw(
                st.sampled_from([value + "\n", value[1:], value.swapcase(), value + "A", ""])
            )


# Containers that pass all gates

_ABSOLUTE = st.sampled_from(["/", "/a", "/dev/x", "/proc/sys", "/a/../b", "/etc/hosts"])
_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
# Bits of those of the names below that a kernel knows.
CAPABILITY_NUMBERS = {"CAP_CHOWN": 1 << 0, "CAP_KILL": 1 << 5, "CAP_SYS_ADMIN": 1 << 21}
_CAPABILITIES = st.lists(
    st.sampled_from(["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_FROM_THE_FUTURE"]),
    unique=True,
)
_SYSCTLS = {
    "network": ["net.ipv4.ip_forward", "net/core/somaxconn", "net.ipv4.conf.eth0/1.rp_filter"],
    "ipc": ["kernel.shmmax", "fs.mqueue.msg_max"],
    "uts": ["kernel.domainname"],
    "user": ["user.max_user_namespaces"],
}
_KINDS = ["pid", "network", "ipc", "uts", "user", "cgroup", "time"]
_MAPS = {
    f"{kind}Mappings": [{"containerID": 0, "hostID": 5000, "size": 10}] for kind in ("uid", "gid")
}
_MOUNTS = st.sampled_from(
    [
        {"type": "proc", "source": "proc"},
        {"type": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"type": "bind", "source": "/host", "options": ["rbind", "rprivate", "ro"]},
        {"source": "data", "options": ["bind", "rshared"]},
        {"type": "sysfs", "source": "sysfs", "options": ["ro", "slave", "shared"]},
        {"type": "cgroup", "source": "cgroup", "options": ["ro", "relatime"]},
        {"source": "/host", "options": ["rbind", "ridmap"], **_MAPS},
        {"source": "/other", "options": ["bind"], **_MAPS},
        {"type": "tmpfs", "options": ["idmap", "shared", "slave"], **_MAPS},
    ]
)


def _optional(**members: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=members)


@st.composite
def processes(draw: st.DrawFn) -> Json:
    """Return objects `process` that pass all gates."""
    process = draw(
        st.fixed_dictionaries(
            {
                "args": st.lists(_STRINGS, min_size=1, max_size=3),
                "cwd": _ABSOLUTE,
                "user": st.fixed_dictionaries(
                    {"uid": st.integers(0, 999), "gid": st.integers(0, 999)},
                    optional={
                        "umask": st.integers(0, 511),
                        "additionalGids": st.lists(st.integers(0, 999), max_size=3),
                    },
                ),
            },
            optional={
                "terminal": st.booleans(),
                "consoleSize": st.fixed_dictionaries(
                    {"height": st.integers(0, 65535), "width": st.integers(0, 65535)}
                ),
                "env": st.lists(st.builds("{}={}".format, _NAMES, _STRINGS), max_size=3),
                "noNewPrivileges": st.booleans(),
                "oomScoreAdj": st.integers(-1000, 1000),
                "execCPUAffinity": _optional(initial=st.just("0-1"), final=st.just("0")),
            },
        )
    )
    if draw(st.booleans()):
        permitted = draw(_CAPABILITIES)
        process["capabilities"] = {
            "permitted": permitted,
            "effective": draw(_CAPABILITIES),
            "bounding": draw(_CAPABILITIES),
            "inheritable": draw(_CAPABILITIES),
            "ambient": draw(_CAPABILITIES),
        }
    names = draw(st.lists(st.sampled_from(["CORE", "NOFILE", "STACK"]), unique=True))
    for name in names:
        soft, hard = sorted(draw(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
        process.setdefault("rlimits", []).append(
            {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
        )
    return process


def resources() -> st.SearchStrategy[Json]:
    """Return objects `linux.resources` that pass the rules."""
    number = st.one_of(st.just(-1), st.integers(0, 2**40))
    return _optional(
        devices=st.lists(
            st.fixed_dictionaries(
                {"allow": st.booleans(), "access": st.sampled_from(["r", "rw", "rwm", "m"])},
                optional={
                    "type": st.sampled_from(["a", "b", "c"]),
                    "major": st.integers(-1, 255),
                    "minor": st.integers(-1, 255),
                },
            ),
            max_size=3,
        ),
        # memory + swap is never less than memory
        memory=_optional(limit=st.integers(-1, 2**30), reservation=number).flatmap(
            lambda memory: st.just(memory)
            if "limit" not in memory
            else st.sampled_from([-1, 2**30, 2**40]).map(lambda swap: {**memory, "swap": swap})
        ),
        cpu=_optional(
            shares=st.integers(0, 300000),
            quota=number,
            period=st.integers(1000, 1000000),
            cpus=st.sampled_from(["0", "0-1"]),
        ),
        pids=_optional(limit=number),
        unified=st.dictionaries(
            st.sampled_from(["memory.high", "io.max", "cpu.max.burst"]), st.just("max")
        ),
    )


def seccomp_profiles() -> st.SearchStrategy[Json]:
    """Return objects `linux.seccomp` that pass the rules."""
    rule = st.fixed_dictionaries(
        {
            "names": st.lists(st.sampled_from(["read", "write", "open"]), min_size=1, max_size=3),
            "action": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "SCMP_ACT_LOG"]),
        }
    )
    return st.fixed_dictionaries(
        {"defaultAction": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"])},
        optional={
            "architectures": st.just(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
            "syscalls": st.lists(rule, max_size=3),
        },
    )


@st.composite
def _linux(draw: st.DrawFn) -> Json:
    kinds = ["mount", *draw(st.lists(st.sampled_from(_KINDS), unique=True))]
    linux = draw(
        _optional(
            cgroupsPath=st.sampled_from(["/a/b", "a", "a.slice:b:c"]),
            maskedPaths=st.lists(_ABSOLUTE, max_size=3),
            readonlyPaths=st.lists(_ABSOLUTE, max_size=3),
            rootfsPropagation=st.sampled_from(["private", "rslave", "shared", "unbindable"]),
            personality=st.just({"domain": "LINUX32"}),
            resources=resources(),
            seccomp=seccomp_profiles(),
            devices=st.lists(
                st.sampled_from(
                    [
                        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
                        {"path": "/dev/pipe", "type": "p", "fileMode": 438},
                        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "uid": 1},
                    ]
                ),
                max_size=3,
            ),
        )
    )
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    if "user" in kinds:
        linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    if "time" in kinds and draw(st.booleans()):
        linux["timeOffsets"] = {"boottime": {"secs": draw(st.integers(0, 2**31))}}
    allowed = [name for kind in kinds for name in _SYSCTLS.get(kind, ())]
    if "network" in kinds and draw(st.booleans()):
        linux["netDevices"] = {"eth0": {"name": "ctr%d"}, "eth1": {}}
    if allowed:
        linux["sysctl"] = draw(st.dictionaries(st.sampled_from(allowed), st.just("1")))
    return linux


@st.composite
def configs(draw: st.DrawFn) -> Json:
    """Return whole documents that pass all four gates on the host of `HostFacts.of()`."""
    config = {
        "ociVersion": draw(st.sampled_from(["1.0.0", "1.0.2-dev", "1.3.0", "1.4.0-rc.1+x"])),
        "root": draw(
            st.fixed_dictionaries({"path": st.just("rootfs")}, optional={"readonly": st.booleans()})
        ),
        "linux": draw(_linux()),
    }
    if draw(st.integers(0, 9)):
        config["process"] = draw(processes())
    if draw(st.booleans()):
        config["mounts"] = [
            {"destination": draw(_ABSOLUTE), **copy.deepcopy(mount)}
            for mount in draw(st.lists(_MOUNTS, max_size=4))
        ]
    if any(namespace["type"] == "uts" for namespace in config["linux"]["namespaces"]):
        config |= draw(_optional(hostname=st.just("host"), domainname=st.just("domain")))
    if draw(st.booleans()):
        kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststop"]
        hook = st.fixed_dictionaries(
            {"path": _ABSOLUTE},
            optional={
                "args": st.lists(_STRINGS, max_size=2),
                "env": st.just(["A=b"]),
                "timeout": st.integers(1, 100),
            },
        )
        hooks = st.dictionaries(st.sampled_from(kinds), st.lists(hook, max_size=2))
        config["hooks"] = draw(hooks)
    if draw(st.booleans()):
        config["annotations"] = {"org.example.key": draw(_STRINGS)}
    return config
