# SPDX-License-Identifier: Apache-2.0
"""config.md: versions, annotations, what is not known and what is not valid."""

from __future__ import annotations

import json
from typing import Any

from conformance.harness.case import case, version
from conformance.harness.context import Context, merge


@case("oci-version", "oci-version-compatible", each={word: word for word in ("1.0.0", "1.0.1", "1.0.2", "1.0.0+build.5")})
def oci_version(c: Context, text: str) -> None:
    """A configuration of an earlier version is understood."""
    c.equal("exit status", c.set({"ociVersion": text}).run(["exit", "3"]).status, 3)


@case("oci-version-compatible", each={word: word for word in ("1.1.0", "1.2.0", "1.2.1", "1.3.0")})
def oci_version_minor(c: Context, text: str) -> None:
    """A configuration of every version up to the runtime's own is understood."""
    c.need(version(text) <= c.runtime.spec_version(), f"the runtime claims version {c.runtime.versions()[1]} only")
    c.equal("exit status", c.set({"ociVersion": text}).run(["exit", "3"]).status, 3)


NO_VERSIONS = {"missing": None, "word": "nonsense", "one-number": "1", "two-numbers": "1.0", "empty": "", "number": 1,
               "zero-padded": "01.0.0"}  # fmt: skip


@case("oci-version", "invalid-values", each=NO_VERSIONS)
def oci_version_invalid(c: Context, value: Any) -> None:
    """What is no SemVer version is an error."""
    c.set({"ociVersion": value})
    c.refused(why="an ociVersion that is no version")


@case("oci-version-compatible", "invalid-values")
def oci_version_of_the_future(c: Context) -> None:
    """Another major version is an error."""
    c.set({"ociVersion": "2.0.0"})
    c.refused(why="another major version")


# -- annotations -------------------------------------------------------------------------------------------------------


@case("annotations-map", "annotations-value", each={"list": ["a"], "number-value": {"a": 1}, "null-value": {"a": {"b": "c"}}})
def annotations_invalid(c: Context, value: Any) -> None:
    """Annotations that are no object of strings are an error."""
    c.set({"annotations": value})
    c.refused(why="invalid annotations")


@case("annotations-key")
def annotations_empty_key(c: Context) -> None:
    """An annotation without a name is an error."""
    c.set({"annotations": {"": "value"}})
    c.refused(why="an annotation without a name")


@case("annotations-unknown", each={"own": "com.example.unknown", "reserved": "org.opencontainers.nonsense"})
def annotations_unknown(c: Context, name: str) -> None:
    """An unknown annotation has no effect."""
    c.equal("exit status", c.set({"annotations": {name: "value"}}).run(["exit", "3"]).status, 3)


# -- unknown properties ------------------------------------------------------------------------------------------------

PLACES: dict[str, dict[str, Any]] = {
    "top": {"comExampleUnknown": {"a": [1, None, "x"]}},
    "root": {"root": {"comExampleUnknown": 1}},
    "process": {"process": {"comExampleUnknown": 1}},
    "user": {"process": {"user": {"comExampleUnknown": 1}}},
    "capabilities": {"process": {"capabilities": {"comExampleUnknown": ["CAP_CHOWN"]}}},
    "linux": {"linux": {"comExampleUnknown": 1}},
    "resources": {"linux": {"resources": {"comExampleUnknown": {"limit": 1}}}},
    "pids": {"linux": {"resources": {"pids": {"limit": 100, "comExampleUnknown": 1}}}},
    "namespaces": {"linux": {"namespaces": [{"type": "mount", "comExampleUnknown": 1}, {"type": "uts"}]}},
    "hooks": {"hooks": {"comExampleUnknown": [{"path": "/no/such/program"}]}},
    "mounts": {"mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "comExampleUnknown": 1}]},
    "windows": {"windows": {"layerFolders": ["x"]}},
}


@case("unknown-properties", each=PLACES)
def unknown_property(c: Context, patch: dict[str, Any]) -> None:
    """A property that nobody knows is ignored."""
    merge(c.config, patch)
    c.equal("exit status", c.run(["exit", "3"]).status, 3)


# -- invalid values ----------------------------------------------------------------------------------------------------

RAW = {
    "not-json": b"nonsense",
    "empty": b"",
    "cut-off": None,
    "a-list": b"[]",
    "null": b"null",
    "trailing-text": b"+",
}


@case("invalid-values", "lifecycle-environment-error", each=RAW)
def config_is_no_object(c: Context, data: bytes | None) -> None:
    """A file that is no JSON object is an error."""
    text = json.dumps(c.config).encode()
    c.raw = text[:-20] if data is None else text + b" nonsense" if data == b"+" else data
    c.refused(why="a config.json that is no JSON object")


INVALID: dict[str, dict[str, Any]] = {
    "root-a-string": {"root": "rootfs"},
    "root-path-a-number": {"root": {"path": 5}},
    "root-readonly-a-string": {"root": {"readonly": "yes"}},
    "hostname-a-number": {"hostname": 5},
    "hostname-too-long": {"hostname": "x" * 65},
    "mounts-an-object": {"mounts": {"destination": "/x"}},
    "mount-destination-a-number": {"mounts": [{"destination": 5, "type": "tmpfs"}]},
    "mount-options-a-string": {"mounts": [{"destination": "/m", "type": "tmpfs", "options": "ro"}]},
    "hooks-a-list": {"hooks": []},
    "hook-without-path": {"hooks": {"createRuntime": [{"args": ["x"]}]}},
    "hook-timeout-a-string": {"hooks": {"createRuntime": [{"path": "/x", "timeout": "soon"}]}},
    "linux-a-list": {"linux": []},
    "namespaces-an-object": {"linux": {"namespaces": {"type": "pid"}}},
    "namespace-without-type": {"linux": {"namespaces": [{"type": "mount"}, {"path": "/proc/self/ns/net"}]}},
    "namespace-unknown": {"linux": {"namespaces": [{"type": "mount"}, {"type": "nonsense"}]}},
    "mapping-negative": {"linux": {"uidMappings": [{"containerID": -1, "hostID": 0, "size": 1}]}},
    "mapping-a-string": {"linux": {"uidMappings": [{"containerID": "0", "hostID": 0, "size": 1}]}},
    "mapping-too-large": {"linux": {"uidMappings": [{"containerID": 2**32, "hostID": 0, "size": 1}]}},
    "devices-an-object": {"linux": {"devices": {"path": "/dev/x"}}},
    "device-major-a-string": {"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": "1", "minor": 3}]}},
    "device-rule-without-allow": {"linux": {"resources": {"devices": [{"access": "rwm"}]}}},
    "device-rule-type": {"linux": {"resources": {"devices": [{"allow": True, "type": "x", "access": "rwm"}]}}},
    "device-rule-access": {"linux": {"resources": {"devices": [{"allow": True, "access": "xyz"}]}}},
    "memory-limit-a-string": {"linux": {"resources": {"memory": {"limit": "much"}}}},
    "memory-limit-a-fraction": {"linux": {"resources": {"memory": {"limit": 1048576.5}}}},
    "cpu-shares-negative": {"linux": {"resources": {"cpu": {"shares": -1}}}},
    "cpu-cpus-a-number": {"linux": {"resources": {"cpu": {"cpus": 0}}}},
    "pids-limit-a-string": {"linux": {"resources": {"pids": {"limit": "many"}}}},
    "cgroups-path-a-number": {"linux": {"cgroupsPath": 5}},
    "sysctl-a-number": {"linux": {"sysctl": {"net.ipv4.ip_forward": 1}}},
    "seccomp-a-string": {"linux": {"seccomp": "default"}},
    "masked-paths-a-string": {"linux": {"maskedPaths": "/proc/kcore"}},
}
LATE: dict[str, dict[str, Any]] = {
    "process-a-list": {"process": []},
    "args-a-string": {"process": {"args": "/probe"}},
    "args-of-numbers": {"process": {"args": ["/probe", 5]}},
    "env-a-string": {"process": {"env": "A=1"}},
    "env-of-numbers": {"process": {"env": [5]}},
    "cwd-a-number": {"process": {"cwd": 5}},
    "terminal-a-string": {"process": {"terminal": "yes"}},
    "uid-a-string": {"process": {"user": {"uid": "root"}}},
    "uid-negative": {"process": {"user": {"uid": -1}}},
    "uid-too-large": {"process": {"user": {"uid": 2**32}}},
    "uid-a-fraction": {"process": {"user": {"uid": 0.5}}},
    "groups-a-number": {"process": {"user": {"additionalGids": 5}}},
    "umask-a-string": {"process": {"user": {"umask": "022"}}},
    "capabilities-a-list": {"process": {"capabilities": ["CAP_CHOWN"]}},
    "bounding-a-string": {"process": {"capabilities": {"bounding": "CAP_CHOWN"}}},
    "rlimits-an-object": {"process": {"rlimits": {"type": "RLIMIT_CORE"}}},
    "rlimit-without-type": {"process": {"rlimits": [{"soft": 1, "hard": 1}]}},
    "rlimit-negative": {"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}]}},
    "rlimit-soft-above-hard": {"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}},
    "oom-score-too-large": {"process": {"oomScoreAdj": 1001}},
    "oom-score-too-small": {"process": {"oomScoreAdj": -1001}},
    "oom-score-a-string": {"process": {"oomScoreAdj": "100"}},
    "no-new-privileges-a-string": {"process": {"noNewPrivileges": "yes"}},
}


@case("invalid-values", each=INVALID)
def invalid_value(c: Context, patch: dict[str, Any]) -> None:
    """The value is an error of create."""
    merge(c.config, patch)
    c.refused(why="an invalid value")


@case("invalid-values", each=LATE)
def invalid_value_of_process(c: Context, patch: dict[str, Any]) -> None:
    """The value is an error of create or start."""
    merge(c.config, patch)
    c.refused(why="an invalid value", late=True)
