# SPDX-License-Identifier: Apache-2.0
"""The rules of the object `linux`: see `ocirun.spec.rules`."""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.spec.id_maps import map_to_host
from ocirun.spec.ranges import LAST_NODE, parse_ranges
from ocirun.spec.seccomp_rules import check_seccomp
from ocirun.spec.sysctl import sysctl_namespace, sysctl_path
from ocirun.strict_json import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.spec.model import Device, IdMapping, Linux, Namespace
    from ocirun.spec.resources import DeviceRule, Resources

_END_OF_IDS = 4294967295  # the last id is 4294967294
_MOST_MAPPINGS = 340  # UID_GID_MAP_MAX_EXTENTS
_MAJORS, _MINORS = 1 << 12, 1 << 20
_LONGEST_INTERFACE_NAME = 15
_NANOSECONDS = 1_000_000_000

# Files of a cgroup that move or kill processes or change the tree, instead of limiting anything.
_CGROUP_CONTROLS = frozenset(
    (
        "cgroup.freeze",
        "cgroup.kill",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
        "cgroup.type",
    )
)


def check_id_ranges(mappings: Sequence[IdMapping], pointer: str) -> Iterator[Problem]:
    """Yield what the kernel would refuse in a map of ids.

    Kernel: user_namespaces(7), "Defining user and group ID mappings"
    """
    if len(mappings) > _MOST_MAPPINGS:
        yield _problem(pointer, f"must not have more than {_MOST_MAPPINGS} entries")
    for index, mapping in enumerate(mappings):
        if mapping.size == 0:
            yield _problem(f"{pointer}/{index}/size", "must be at least 1")
        for name, first in (("containerID", mapping.container_id), ("hostID", mapping.host_id)):
            if first + mapping.size > _END_OF_IDS:
                yield _problem(f"{pointer}/{index}/{name}", "the range goes beyond the last id")
    if len(mappings) > 1:
        inside = [(m.container_id, m.size, i) for i, m in enumerate(mappings)]
        yield from _check_overlap(inside, f"{pointer}/{{}}/containerID")
        outside = [(m.host_id, m.size, i) for i, m in enumerate(mappings)]
        yield from _check_overlap(outside, f"{pointer}/{{}}/hostID")


def check_resources(resources: Resources, pointer: str = "/linux/resources") -> Iterator[Problem]:
    """Yield the problems of resource limits; *pointer* is where they stand in their document."""
    yield from _check_device_rules(resources.devices, f"{pointer}/devices")
    for name in resources.unified:
        where = f"{pointer}/unified/{pointer_token(name)}"
        if name in ("", ".", "..") or "/" in name:
            yield _problem(where, "is not the name of a file")
        elif name in _CGROUP_CONTROLS:
            yield _problem(where, "is not a limit, the runtime itself needs this file")
    for name, limit in resources.rdma.items():
        if limit.hca_handles is None and limit.hca_objects is None:
            where = f"{pointer}/rdma/{pointer_token(name)}"
            yield _problem(where, "must have hcaHandles or hcaObjects or both")
    if resources.block_io is not None:
        for index, disk in enumerate(resources.block_io.weight_device):
            if disk.weight is None and disk.leaf_weight is None:
                where = f"{pointer}/blockIO/weightDevice/{index}"
                yield _problem(where, "must have weight or leafWeight or both")


def _problem(pointer: str, message: str) -> Problem:
    return Problem("rule", pointer, message)


def _check_overlap(ranges: list[tuple[int, int, int]], pointer: str) -> Iterator[Problem]:
    end, owner = -1, -1  # of the range that reaches farthest so far
    for first, size, index in sorted(ranges):
        if first < end:
            message = f"the range overlaps that of entry {min(index, owner)}"
            yield _problem(pointer.format(max(index, owner)), message)
        if first + size > end:
            end, owner = first + size, index


def _find(linux: Linux, kind: str) -> Namespace | None:
    for namespace in linux.namespaces:
        if namespace.type == kind:
            return namespace
    return None


def _namespaces(linux: Linux) -> Iterator[Problem]:
    seen = set()
    for index, namespace in enumerate(linux.namespaces):
        pointer = f"/linux/namespaces/{index}"
        if namespace.type in seen:
            yield _problem(f"{pointer}/type", f"there is a {namespace.type} namespace already")
        seen.add(namespace.type)
        if namespace.path is not None and not namespace.path.startswith("/"):
            yield _problem(f"{pointer}/path", f'"{namespace.path}" is not an absolute path')


def _id_mappings(linux: Linux) -> Iterator[Problem]:
    namespace = _find(linux, "user")
    for name, mappings in (
        ("uidMappings", linux.uid_mappings),
        ("gidMappings", linux.gid_mappings),
    ):
        pointer = f"/linux/{name}"
        if mappings and namespace is None:
            yield _problem(pointer, "needs a user namespace")
        if not mappings and namespace is not None and namespace.path is None:
            yield _problem(pointer, "missing; a new user namespace needs mappings")
        yield from check_id_ranges(mappings, pointer)


def _time_offsets(linux: Linux) -> Iterator[Problem]:
    if linux.time_offsets is None:
        return
    offsets = (
        ("monotonic", linux.time_offsets.monotonic),
        ("boottime", linux.time_offsets.boottime),
    )
    if all(offset is None for _, offset in offsets):
        return
    namespace = _find(linux, "time")
    if namespace is None:
        yield _problem("/linux/timeOffsets", "needs a new time namespace")
    elif namespace.path is not None:
        yield _problem("/linux/timeOffsets", "a joined time namespace has its own offsets")
    for name, offset in offsets:
        if offset is not None and offset.nanosecs >= _NANOSECONDS:
            yield _problem(f"/linux/timeOffsets/{name}/nanosecs", f"must be below {_NANOSECONDS}")


def _paths(linux: Linux) -> Iterator[Problem]:
    for name, paths in (
        ("maskedPaths", linux.masked_paths),
        ("readonlyPaths", linux.readonly_paths),
    ):
        if paths and _find(linux, "mount") is None:
            yield _problem(f"/linux/{name}", "needs a mount namespace, or it would hit the host")
        for index, path in enumerate(paths):
            if not path.startswith("/"):
                yield _problem(f"/linux/{name}/{index}", f'"{path}" is not an absolute path')


def _mount_label(linux: Linux) -> Iterator[Problem]:
    if '"' in (linux.mount_label or ""):
        # mount(2) knows no way to write one: it would end the label, and the rest would be options of the mount.
        yield _problem("/linux/mountLabel", "must not have quotes in it")


def _devices(linux: Linux) -> Iterator[Problem]:
    seen: dict[str, tuple[bool, int | None, int | None] | None] = {}
    for index, device in enumerate(linux.devices):
        pointer = f"/linux/devices/{index}"
        if not device.path.startswith("/"):
            yield _problem(f"{pointer}/path", f'"{device.path}" is not an absolute path')
        numbers = None
        if device.type != "p":
            numbers = (device.type == "b", device.major, device.minor)
            for name, number, end in (
                ("major", device.major, _MAJORS),
                ("minor", device.minor, _MINORS),
            ):
                if number is None:
                    yield _problem(f"{pointer}/{name}", "missing; only a fifo has no numbers")
                elif not 0 <= number < end:
                    message = f"must be from 0 to {end - 1}, not {number}"
                    yield _problem(f"{pointer}/{name}", message)
        if seen.setdefault(device.path, numbers) != numbers:
            message = f"{device.path} is another device in an earlier entry"
            yield _problem(f"{pointer}/path", message)
        yield from _device_owner(linux, device, pointer)


def _device_owner(linux: Linux, device: Device, pointer: str) -> Iterator[Problem]:
    for name, owner, mappings in (
        ("uid", device.uid, linux.uid_mappings),
        ("gid", device.gid, linux.gid_mappings),
    ):
        if owner is not None and mappings and map_to_host(mappings, owner) is None:
            yield _problem(f"{pointer}/{name}", f"the user namespace does not map {owner}")


def _check_device_rules(rules: Sequence[DeviceRule], pointer: str) -> Iterator[Problem]:
    for index, rule in enumerate(rules):
        if rule.type not in (None, "a", "b", "c"):
            yield _problem(f"{pointer}/{index}/type", f'"{rule.type}" is not one of a, b and c')
        if rule.access is not None and rule.access.strip("rwm"):
            message = f'"{rule.access}" has letters other than r, w and m'
            yield _problem(f"{pointer}/{index}/access", message)
        for name, number in (("major", rule.major), ("minor", rule.minor)):
            # Engines write -1 where they mean all of them.
            if number is not None and number < -1:
                yield _problem(f"{pointer}/{index}/{name}", "must not be negative, but for -1: all")


def _net_devices(linux: Linux) -> Iterator[Problem]:
    if linux.net_devices and _find(linux, "network") is None:
        yield _problem("/linux/netDevices", "needs a network namespace to move devices to")
    names: dict[str, str] = {}
    for host_name, device in linux.net_devices.items():
        pointer = f"/linux/netDevices/{pointer_token(host_name)}"
        if not _is_interface_name(host_name):
            yield _problem(pointer, "is not the name of a network device")
        if device.name is not None and not _is_interface_name(device.name):
            yield _problem(
                f"{pointer}/name", f'"{device.name}" is not the name of a network device'
            )
        # In a template such as "eth%d" the kernel fills in a number that is free.
        name = device.name or host_name
        if "%" in name.replace("%d", "", 1):
            yield _problem(f"{pointer}/name", f'"{name}" may have one "%d", and no other "%"')
        if "%" not in name and names.setdefault(name, host_name) != host_name:
            yield _problem(f"{pointer}/name", f"{names[name]} gets the name {name} too")


def _is_interface_name(name: str) -> bool:
    # As dev_valid_name() of the kernel has it.
    return (
        0 < len(name.encode()) <= _LONGEST_INTERFACE_NAME
        and name not in (".", "..")
        and not any(character in "/:" or character.isspace() for character in name)
    )


def _cgroups_path(linux: Linux) -> Iterator[Problem]:
    path = linux.cgroups_path
    if path is None:
        return
    if ".." in path.split("/"):
        yield _problem("/linux/cgroupsPath", 'must not have ".." in it')
    if not path.isprintable():
        yield _problem("/linux/cgroupsPath", "must not have control characters")


def _resources(linux: Linux) -> Iterator[Problem]:
    if linux.resources is not None:
        yield from check_resources(linux.resources)


def _sysctl(linux: Linux) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in linux.sysctl:
        pointer = f"/linux/sysctl/{pointer_token(name)}"
        try:
            path = sysctl_path(name)
        except ValueError as error:
            yield _problem(pointer, str(error))
            continue
        if seen.setdefault(path, name) != name:
            yield _problem(pointer, f"is the same parameter as {seen[path]}")
        kind = sysctl_namespace(path)
        if path == "kernel/hostname":
            yield _problem(pointer, "is what the property hostname is for")
        elif kind is None:
            yield _problem(pointer, "belongs to no namespace, it would change the host")
        elif _find(linux, kind) is None:
            yield _problem(pointer, f"needs a {kind} namespace, or it would change the host")


def _seccomp(linux: Linux) -> Iterator[Problem]:
    if linux.seccomp is not None:
        yield from check_seccomp(linux.seccomp)


def _intel_rdt(linux: Linux) -> Iterator[Problem]:
    if linux.intel_rdt is None:
        return
    name = linux.intel_rdt.clos_id
    # "/" is the default class, which all processes are in that are in no other.
    if name is not None and name != "/":
        if name in (".", "..") or "/" in name or "\n" in name:
            yield _problem("/linux/intelRdt/closID", f'"{name}" is not the name of a directory')
        elif name in ("info", "mon_data", "mon_groups"):
            yield _problem("/linux/intelRdt/closID", f'"{name}" is a name that resctrl has for itself')
    for index, line in enumerate(linux.intel_rdt.schemata):
        if "\n" in line:
            yield _problem(f"/linux/intelRdt/schemata/{index}", "must be one line")


def _personality(linux: Linux) -> Iterator[Problem]:
    if linux.personality is not None and linux.personality.flags:
        yield _problem("/linux/personality/flags", "the specification defines no flag")


def _memory_policy(linux: Linux) -> Iterator[Problem]:
    """What set_mempolicy(2) answers with EINVAL, in words."""
    policy = linux.memory_policy
    if policy is None:
        return
    pointer = "/linux/memoryPolicy"
    if policy.nodes is not None:
        if policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            yield _problem(f"{pointer}/nodes", f"{policy.mode} takes no nodes")
        try:
            parse_ranges(policy.nodes, LAST_NODE)
        except ValueError as error:
            yield _problem(f"{pointer}/nodes", str(error))
    elif policy.mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"):
        yield _problem(f"{pointer}/nodes", f"missing; {policy.mode} needs nodes")
    about_nodes = _NODE_FLAGS.intersection(policy.flags)
    if len(about_nodes) > 1:
        yield _problem(f"{pointer}/flags", f"{' and '.join(sorted(about_nodes))} contradict each other")
    elif about_nodes and policy.nodes is None and policy.mode != "MPOL_DEFAULT":
        yield _problem(f"{pointer}/flags", f"{min(about_nodes)} is about nodes, and there are none")
    if "MPOL_F_NUMA_BALANCING" in policy.flags and policy.mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        message = f"MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not for {policy.mode}"
        yield _problem(f"{pointer}/flags", message)


_NODE_FLAGS = frozenset(("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"))

LINUX_RULES = (
    _namespaces,
    _id_mappings,
    _time_offsets,
    _paths,
    _mount_label,
    _devices,
    _net_devices,
    _cgroups_path,
    _resources,
    _sysctl,
    _seccomp,
    _intel_rdt,
    _personality,
    _memory_policy,
)
