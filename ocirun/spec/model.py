# SPDX-License-Identifier: Apache-2.0
"""config.json as Python objects, one class per JSON object, one line per property.

A part is made from a JSON object that has passed the schema gate; making it never fails then.
Attribute names are the property names in snake_case.  An absent (or null) object, number or string
is None, an absent list is `()`, an absent map is `{}`; a few fields have a default instead.  An
empty string in an optional property means absent, because engines leave empty strings out.

Parts compare and print by value.  Nobody changes one after it was made: the same object may be read
by several threads.  Things of other platforms (`windows`, `solaris`, `vm`, `zos`, `freebsd`,
`process.commandLine`, `process.user.username`) are not kept.

Spec: config.md, config-linux.md
"""

from __future__ import annotations

from ocirun.spec.part import Part, decode_all, decode_one
from ocirun.spec.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.spec.part import JsonObject


class Root(Part):
    """Spec: config.md#root"""

    __slots__ = ("path", "readonly")

    def __init__(self, source: JsonObject) -> None:
        self.path: str = source["path"]
        self.readonly: bool = source.get("readonly") or False


class IdMapping(Part):
    """Spec: config-linux.md#user-namespace-mappings"""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, source: JsonObject) -> None:
        self.container_id: int = source["containerID"]
        self.host_id: int = source["hostID"]
        self.size: int = source["size"]


class Mount(Part):
    """Spec: config.md#mounts"""

    __slots__ = ("destination", "gid_mappings", "options", "source", "type", "uid_mappings")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.destination: str = source["destination"]
        self.type: str | None = get("type") or None
        self.source: str | None = get("source") or None
        self.options: tuple[str, ...] = tuple(get("options") or ())
        self.uid_mappings: tuple[IdMapping, ...] = decode_all(IdMapping, get("uidMappings"))
        self.gid_mappings: tuple[IdMapping, ...] = decode_all(IdMapping, get("gidMappings"))


class User(Part):
    """`uid` and `gid` are 0 when absent; `umask` None means untouched.  Spec: config.md#user"""

    __slots__ = ("additional_gids", "gid", "uid", "umask")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.uid: int = get("uid") or 0
        self.gid: int = get("gid") or 0
        self.umask: int | None = get("umask")
        self.additional_gids: tuple[int, ...] = tuple(get("additionalGids") or ())


class ConsoleSize(Part):
    """In characters.  Spec: config.md#process"""

    __slots__ = ("height", "width")

    def __init__(self, source: JsonObject) -> None:
        self.height: int = source["height"]
        self.width: int = source["width"]


class Capabilities(Part):
    """Names as written ("CAP_..."), known to this kernel or not.  Spec: config.md#linux-process"""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.bounding: tuple[str, ...] = tuple(get("bounding") or ())
        self.effective: tuple[str, ...] = tuple(get("effective") or ())
        self.inheritable: tuple[str, ...] = tuple(get("inheritable") or ())
        self.permitted: tuple[str, ...] = tuple(get("permitted") or ())
        self.ambient: tuple[str, ...] = tuple(get("ambient") or ())


class Rlimit(Part):
    """`type` is "RLIMIT_...".  Spec: config.md#posix-process"""

    __slots__ = ("hard", "soft", "type")

    def __init__(self, source: JsonObject) -> None:
        self.type: str = source["type"]
        self.soft: int = source["soft"]
        self.hard: int = source["hard"]


class Scheduler(Part):
    """Times are in nanoseconds.  Spec: config.md#linux-process; sched_setattr(2)"""

    __slots__ = ("deadline", "flags", "nice", "period", "policy", "priority", "runtime")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.policy: str = source["policy"]
        self.nice: int | None = get("nice")
        self.priority: int | None = get("priority")
        self.flags: tuple[str, ...] = tuple(get("flags") or ())
        self.runtime: int | None = get("runtime")
        self.deadline: int | None = get("deadline")
        self.period: int | None = get("period")


class IoPriority(Part):
    """`class_` is the property "class".  Spec: config.md#linux-process; ioprio_set(2)"""

    __slots__ = ("class_", "priority")

    def __init__(self, source: JsonObject) -> None:
        self.class_: str = source["class"]
        self.priority: int | None = source.get("priority")


class ExecCpuAffinity(Part):
    """Lists of CPUs ("0-3,7") for processes started by exec.  Spec: config.md#linux-process"""

    __slots__ = ("final", "initial")

    def __init__(self, source: JsonObject) -> None:
        self.initial: str | None = source.get("initial") or None
        self.final: str | None = source.get("final") or None


class Process(Part):
    """`user` is there even when config.json has none: it is root then.  Spec: config.md#process"""

    __slots__ = (
        "apparmor_profile",
        "args",
        "capabilities",
        "console_size",
        "cwd",
        "env",
        "exec_cpu_affinity",
        "io_priority",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "scheduler",
        "selinux_label",
        "terminal",
        "user",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.terminal: bool = get("terminal") or False
        self.console_size: ConsoleSize | None = decode_one(ConsoleSize, get("consoleSize"))
        self.user: User = User(get("user") or {})
        self.args: tuple[str, ...] = tuple(get("args") or ())
        self.env: tuple[str, ...] = tuple(get("env") or ())
        self.cwd: str = source["cwd"]
        self.capabilities: Capabilities | None = decode_one(Capabilities, get("capabilities"))
        self.rlimits: tuple[Rlimit, ...] = decode_all(Rlimit, get("rlimits"))
        self.no_new_privileges: bool = get("noNewPrivileges") or False
        self.apparmor_profile: str | None = get("apparmorProfile") or None
        self.oom_score_adj: int | None = get("oomScoreAdj")
        self.selinux_label: str | None = get("selinuxLabel") or None
        self.scheduler: Scheduler | None = decode_one(Scheduler, get("scheduler"))
        self.io_priority: IoPriority | None = decode_one(IoPriority, get("ioPriority"))
        self.exec_cpu_affinity: ExecCpuAffinity | None = decode_one(
            ExecCpuAffinity, get("execCPUAffinity")
        )


class Hook(Part):
    """`timeout` is in seconds, None means none.  Spec: config.md#posix-platform-hooks"""

    __slots__ = ("args", "env", "path", "timeout")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.path: str = source["path"]
        self.args: tuple[str, ...] = tuple(get("args") or ())
        self.env: tuple[str, ...] = tuple(get("env") or ())
        self.timeout: int | None = get("timeout")


class Hooks(Part):
    """Spec: config.md#posix-platform-hooks"""

    __slots__ = (
        "create_container",
        "create_runtime",
        "poststart",
        "poststop",
        "prestart",
        "start_container",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.prestart: tuple[Hook, ...] = decode_all(Hook, get("prestart"))
        self.create_runtime: tuple[Hook, ...] = decode_all(Hook, get("createRuntime"))
        self.create_container: tuple[Hook, ...] = decode_all(Hook, get("createContainer"))
        self.start_container: tuple[Hook, ...] = decode_all(Hook, get("startContainer"))
        self.poststart: tuple[Hook, ...] = decode_all(Hook, get("poststart"))
        self.poststop: tuple[Hook, ...] = decode_all(Hook, get("poststop"))


class Namespace(Part):
    """`type` in the specification's words ("network", "mount"...); `path` None means a new one.

    Spec: config-linux.md#namespaces
    """

    __slots__ = ("path", "type")

    def __init__(self, source: JsonObject) -> None:
        self.type: str = source["type"]
        self.path: str | None = source.get("path") or None


class Device(Part):
    """A device node; `file_mode` may hold file type bits, which mean nothing here.

    Spec: config-linux.md#devices
    """

    __slots__ = ("file_mode", "gid", "major", "minor", "path", "type", "uid")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.path: str = source["path"]
        self.type: str = source["type"]
        self.major: int | None = get("major")
        self.minor: int | None = get("minor")
        self.file_mode: int | None = get("fileMode")
        self.uid: int | None = get("uid")
        self.gid: int | None = get("gid")


class NetDevice(Part):
    """`name` is the new name inside the container, None means unchanged.

    Spec: config-linux.md#network-devices
    """

    __slots__ = ("name",)

    def __init__(self, source: JsonObject) -> None:
        self.name: str | None = source.get("name") or None


class TimeOffset(Part):
    """Spec: config-linux.md#offset-for-time-namespace; time_namespaces(7)"""

    __slots__ = ("nanosecs", "secs")

    def __init__(self, source: JsonObject) -> None:
        self.secs: int = source.get("secs") or 0
        self.nanosecs: int = source.get("nanosecs") or 0


class TimeOffsets(Part):
    """Spec: config-linux.md#offset-for-time-namespace"""

    __slots__ = ("boottime", "monotonic")

    def __init__(self, source: JsonObject) -> None:
        self.monotonic: TimeOffset | None = decode_one(TimeOffset, source.get("monotonic"))
        self.boottime: TimeOffset | None = decode_one(TimeOffset, source.get("boottime"))


class Personality(Part):
    """Spec: config-linux.md#personality"""

    __slots__ = ("domain", "flags")

    def __init__(self, source: JsonObject) -> None:
        self.domain: str = source["domain"]
        self.flags: tuple[str, ...] = tuple(source.get("flags") or ())


class IntelRdt(Part):
    """Spec: config-linux.md#intelrdt"""

    __slots__ = ("clos_id", "enable_monitoring", "l3_cache_schema", "mem_bw_schema", "schemata")

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.clos_id: str | None = get("closID") or None
        self.schemata: tuple[str, ...] = tuple(get("schemata") or ())
        self.l3_cache_schema: str | None = get("l3CacheSchema") or None
        self.mem_bw_schema: str | None = get("memBwSchema") or None
        self.enable_monitoring: bool = get("enableMonitoring") or False


class MemoryPolicy(Part):
    """Spec: config-linux.md#memory-policy; set_mempolicy(2)"""

    __slots__ = ("flags", "mode", "nodes")

    def __init__(self, source: JsonObject) -> None:
        self.mode: str = source["mode"]
        self.nodes: str | None = source.get("nodes") or None
        self.flags: tuple[str, ...] = tuple(source.get("flags") or ())


class Linux(Part):
    """`seccomp` and `sysctl` are kept as JSON.  Spec: config-linux.md"""

    __slots__ = (
        "cgroups_path",
        "devices",
        "gid_mappings",
        "intel_rdt",
        "masked_paths",
        "memory_policy",
        "mount_label",
        "namespaces",
        "net_devices",
        "personality",
        "readonly_paths",
        "resources",
        "rootfs_propagation",
        "seccomp",
        "sysctl",
        "time_offsets",
        "uid_mappings",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.namespaces: tuple[Namespace, ...] = decode_all(Namespace, get("namespaces"))
        self.uid_mappings: tuple[IdMapping, ...] = decode_all(IdMapping, get("uidMappings"))
        self.gid_mappings: tuple[IdMapping, ...] = decode_all(IdMapping, get("gidMappings"))
        self.time_offsets: TimeOffsets | None = decode_one(TimeOffsets, get("timeOffsets"))
        self.devices: tuple[Device, ...] = decode_all(Device, get("devices"))
        self.net_devices: dict[str, NetDevice] = {
            name: NetDevice(device) for name, device in (get("netDevices") or {}).items()
        }
        self.cgroups_path: str | None = get("cgroupsPath") or None
        self.resources: Resources | None = decode_one(Resources, get("resources"))
        self.sysctl: dict[str, str] = get("sysctl") or {}
        self.seccomp: JsonObject | None = get("seccomp")
        self.rootfs_propagation: str | None = get("rootfsPropagation") or None
        self.masked_paths: tuple[str, ...] = tuple(get("maskedPaths") or ())
        self.readonly_paths: tuple[str, ...] = tuple(get("readonlyPaths") or ())
        self.mount_label: str | None = get("mountLabel") or None
        self.personality: Personality | None = decode_one(Personality, get("personality"))
        self.intel_rdt: IntelRdt | None = decode_one(IntelRdt, get("intelRdt"))
        self.memory_policy: MemoryPolicy | None = decode_one(MemoryPolicy, get("memoryPolicy"))


class Config(Part):
    """A whole config.json.  Spec: config.md"""

    __slots__ = (
        "annotations",
        "domainname",
        "hooks",
        "hostname",
        "linux",
        "mounts",
        "oci_version",
        "process",
        "root",
    )

    def __init__(self, source: JsonObject) -> None:
        get = source.get
        self.oci_version: str = source["ociVersion"]
        self.process: Process | None = decode_one(Process, get("process"))
        self.root: Root | None = decode_one(Root, get("root"))
        self.hostname: str | None = get("hostname") or None
        self.domainname: str | None = get("domainname") or None
        self.mounts: tuple[Mount, ...] = decode_all(Mount, get("mounts"))
        self.hooks: Hooks | None = decode_one(Hooks, get("hooks"))
        self.annotations: dict[str, str] = get("annotations") or {}
        self.linux: Linux | None = decode_one(Linux, get("linux"))
        if self.oci_version.startswith(("1.0.", "1.1.", "1.2.")):
            self._read_as_before_1_3()

    def _read_as_before_1_3(self) -> None:
        """Give an older engine's pids.limit of 0 its meaning: no limit.

        The field could not be left out then, and 0 was what it had in an engine that was not asked for a limit
        (opencontainers/runtime-spec#234).  Since 1.3 it can, and 0 is a number as any other.
        """
        resources = self.linux.resources if self.linux is not None else None
        if resources is not None and resources.pids is not None and resources.pids.limit == 0:
            resources.pids.limit = -1
