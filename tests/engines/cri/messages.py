# SPDX-License-Identifier: Apache-2.0
"""The messages of the Container Runtime Interface (runtime.v1) that the tests send and read, as dictionaries.

Only what is used is here.  A field is `name=number`, a string unless `:int` (any varint, so also what is boolean or an
enumeration), `:bytes`, `:map` (of strings) or the name of a message follows; `*` before the name: repeated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SCHEMA = """
Int  value=1:int
Empty

VersionRequest   version=1
VersionResponse  version=1 runtime_name=2 runtime_version=3 runtime_api_version=4
StatusRequest    verbose=1:int
StatusResponse   status=1:RuntimeStatus
RuntimeStatus    *conditions=1:Condition
Condition        type=1 status=2:int reason=3 message=4

PodMetadata      name=1 uid=2 namespace=3 attempt=4:int
Dns              *servers=1 *searches=2 *options=3
Namespaces       network=1:int pid=2:int ipc=3:int target_id=4
Profile          profile_type=1:int localhost_ref=2
PodSecurity      namespace_options=1:Namespaces run_as_user=3:Int readonly_rootfs=4:int *supplemental_groups=5:int privileged=6:int run_as_group=8:Int seccomp=9:Profile
PodLinux         cgroup_parent=1 security_context=2:PodSecurity sysctls=3:map
PodConfig        metadata=1:PodMetadata hostname=2 log_directory=3 dns_config=4:Dns labels=6:map annotations=7:map linux=8:PodLinux
RunPodSandboxRequest      config=1:PodConfig runtime_handler=2
RunPodSandboxResponse     pod_sandbox_id=1
StopPodSandboxRequest     pod_sandbox_id=1
StopPodSandboxResponse
RemovePodSandboxRequest   pod_sandbox_id=1
RemovePodSandboxResponse
PodSandboxStatusRequest   pod_sandbox_id=1
PodSandboxStatusResponse  status=1:PodStatus
PodNetwork                ip=1
PodStatus                 id=1 metadata=2:PodMetadata state=3:int created_at=4:int network=5:PodNetwork labels=7:map annotations=8:map runtime_handler=9
ListPodSandboxRequest
ListPodSandboxResponse    *items=1:PodItem
PodItem                   id=1 metadata=2:PodMetadata state=3:int

ContainerMetadata  name=1 attempt=2:int
Image              image=1
KeyValue           key=1 value=2
Mount              container_path=1 host_path=2 readonly=3:int propagation=5:int
Device             container_path=1 host_path=2 permissions=3
Resources          cpu_period=1:int cpu_quota=2:int cpu_shares=3:int memory_limit_in_bytes=4:int oom_score_adj=5:int cpuset_cpus=6 cpuset_mems=7
Capabilities       *add_capabilities=1 *drop_capabilities=2
Security           capabilities=1:Capabilities privileged=2:int namespace_options=3:Namespaces run_as_user=5:Int run_as_username=6 readonly_rootfs=7:int *supplemental_groups=8:int no_new_privs=11:int run_as_group=12:Int *masked_paths=13 *readonly_paths=14 seccomp=15:Profile
ContainerLinux     resources=1:Resources security_context=2:Security
ContainerConfig    metadata=1:ContainerMetadata image=2:Image *command=3 *args=4 working_dir=5 *envs=6:KeyValue *mounts=7:Mount *devices=8:Device labels=9:map annotations=10:map log_path=11 stdin=12:int stdin_once=13:int tty=14:int linux=15:ContainerLinux
CreateContainerRequest    pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:PodConfig
CreateContainerResponse   container_id=1
StartContainerRequest     container_id=1
StartContainerResponse
StopContainerRequest      container_id=1 timeout=2:int
StopContainerResponse
RemoveContainerRequest    container_id=1
RemoveContainerResponse
ListContainersRequest
ListContainersResponse    *containers=1:ContainerItem
ContainerItem             id=1 pod_sandbox_id=2 metadata=3:ContainerMetadata state=6:int
ContainerStatusRequest    container_id=1
ContainerStatusResponse   status=1:ContainerStatus
ContainerStatus           id=1 metadata=2:ContainerMetadata state=3:int created_at=4:int started_at=5:int finished_at=6:int exit_code=7:int reason=10 message=11 log_path=15
UpdateContainerResourcesRequest   container_id=1 linux=2:Resources
UpdateContainerResourcesResponse

ExecSyncRequest      container_id=1 *cmd=2 timeout=3:int
ExecSyncResponse     stdout=1:bytes stderr=2:bytes exit_code=3:int
ExecRequest          container_id=1 *cmd=2 tty=3:int stdin=4:int stdout=5:int stderr=6:int
ExecResponse         url=1
AttachRequest        container_id=1 stdin=2:int tty=3:int stdout=4:int stderr=5:int
AttachResponse       url=1
PortForwardRequest   pod_sandbox_id=1 *port=2:int
PortForwardResponse  url=1

ContainerStatsRequest       container_id=1
ContainerStatsResponse      stats=1:ContainerStats
ListContainerStatsRequest
ListContainerStatsResponse  *stats=1:ContainerStats
StatsAttributes             id=1
Cpu                         timestamp=1:int usage_core_nano_seconds=2:Int
Memory                      timestamp=1:int working_set_bytes=2:Int usage_bytes=4:Int rss_bytes=5:Int
Files                       timestamp=1:int used_bytes=3:Int
ContainerStats              attributes=1:StatsAttributes cpu=2:Cpu memory=3:Memory writable_layer=4:Files
"""


class Field(NamedTuple):
    """One field of a message: *kind* is str, int, bytes, map or the name of a message."""

    name: str
    number: int
    kind: str
    repeated: bool


def _parse(line: str) -> tuple[str, list[Field]]:
    message, *words = line.split()
    fields = []
    for word in words:
        name, _, rest = word.partition("=")
        number, _, kind = rest.partition(":")
        fields.append(Field(name.lstrip("*"), int(number), kind or "str", word.startswith("*")))
    return message, fields


MESSAGES: dict[str, list[Field]] = dict(_parse(line) for line in SCHEMA.splitlines() if line)


def encode(message: str, values: dict[str, Any]) -> bytes:
    """Return *values* as a *message* on the wire; raises KeyError for a name that it does not have."""
    fields = {field.name: field for field in MESSAGES[message]}
    out = b""
    for name, value in values.items():
        field = fields[name]
        if field.kind == "map":
            for key, text in value.items():
                out += _tagged(field.number, 2, _length(encode("KeyValue", {"key": key, "value": text})))
        else:
            for one in value if field.repeated else [value]:
                out += _encode_one(field, one)
    return out


def _encode_one(field: Field, value: Any) -> bytes:
    if field.kind == "int":
        return _tagged(field.number, 0, _varint(int(value) & (1 << 64) - 1))
    if field.kind == "str":
        return _tagged(field.number, 2, _length(str(value).encode()))
    if field.kind == "bytes":
        return _tagged(field.number, 2, _length(value))
    return _tagged(field.number, 2, _length(encode(field.kind, value)))


def decode(message: str, data: bytes) -> dict[str, Any]:
    """Return what the wire has as a dictionary with every known field; a message that is not there is {}."""
    fields = {field.number: field for field in MESSAGES[message]}
    empty: dict[str, Any] = {"str": "", "int": 0, "bytes": b""}
    values: dict[str, Any] = {
        field.name: [] if field.repeated else {} if field.kind == "map" else empty.get(field.kind, {})
        for field in fields.values()
    }
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value: Any
        if tag & 7 == 0:
            value, at = _read_varint(data, at)
        elif tag & 7 == 2:
            size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"{message}: wire type {tag & 7}")
        if (field := fields.get(tag >> 3)) is None:
            continue
        if field.kind == "map":
            pair = decode("KeyValue", value)
            values[field.name][pair["key"]] = pair["value"]
        elif field.repeated:
            values[field.name].append(_decode_one(field, value))
        else:
            values[field.name] = _decode_one(field, value)
    return values


def _decode_one(field: Field, value: Any) -> Any:
    if field.kind == "int":
        return value - (1 << 64) if value >> 63 else value
    if field.kind == "str":
        return value.decode()
    return value if field.kind == "bytes" else decode(field.kind, value)


def _tagged(number: int, wire: int, data: bytes) -> bytes:
    return _varint(number << 3 | wire) + data


def _length(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
