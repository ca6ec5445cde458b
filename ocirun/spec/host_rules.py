# SPDX-License-Identifier: Apache-2.0
"""The host gate: what a valid config.json asks for that this host, or this build, cannot do."""

from __future__ import annotations

import os

from ocirun.errors import Problem
from ocirun.spec import id_map_rules
from ocirun.spec.mount_options import IDMAP
from ocirun.spec.sysctl import sysctl_namespace, sysctl_path
from ocirun.strict_json import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.host import HostFacts
    from ocirun.spec.model import Config, Linux, Process

# Labels of security modules: where the module is off, they would leave a process unconfined.
_APPARMOR = "apparmor", "AppArmor"
_SELINUX = "selinux", "SELinux"
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


def check(config: Config, facts: HostFacts) -> list[Problem]:
    """Return all problems of the gate "host" in a configuration that has passed the rules."""
    problems = [*_mount_namespace(config)]
    if config.process is not None:
        problems += check_process(config.process, facts)
    if config.linux is not None:
        problems += _namespaces(config.linux, facts)
        problems += id_map_rules.check(config, config.linux, facts)
        problems += _power(config, config.linux, facts)
        problems += _host_namespaces(config, config.linux, facts)
        problems += _seccomp(config.linux, facts)
        problems += _resctrl(config.linux, facts)
        problems += _label("/linux/mountLabel", config.linux.mount_label, _SELINUX, facts)
    return problems


def check_process(process: Process, facts: HostFacts, pointer: str = "/process") -> list[Problem]:
    """Return all problems of a process; *pointer* is where it stands in its document."""
    return [
        *_label(f"{pointer}/apparmorProfile", process.apparmor_profile, _APPARMOR, facts),
        *_label(f"{pointer}/selinuxLabel", process.selinux_label, _SELINUX, facts),
    ]


def _label(
    pointer: str, label: str | None, module: tuple[str, str], facts: HostFacts
) -> Iterator[Problem]:
    name, title = module
    if label is not None and name not in facts.lsms:
        yield _problem(pointer, f"{title} is not on here")


def _problem(pointer: str, message: str) -> Problem:
    return Problem("host", pointer, message)


def _mount_namespace(config: Config) -> Iterator[Problem]:
    # The specification allows it.  Every mount of the container would be one of the host.
    namespaces = config.linux.namespaces if config.linux is not None else ()
    if not any(namespace.type == "mount" for namespace in namespaces):
        message = "a container without a mount namespace is more than ocirun can do"
        yield _problem("/linux/namespaces", message)


def _namespaces(linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    for index, namespace in enumerate(linux.namespaces):
        pointer = f"/linux/namespaces/{index}"
        if namespace.type not in facts.namespaces:
            yield _problem(f"{pointer}/type", f"this kernel has no {namespace.type} namespaces")
        elif namespace.type == "user" and namespace.path is None and not facts.user_namespace_limit:
            message = (
                "this host allows no user namespaces, see /proc/sys/user/max_user_namespaces"
                " and /proc/sys/kernel/unprivileged_userns_clone"
            )
            yield _problem(f"{pointer}/type", message)


def _host_namespaces(config: Config, linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    """Refuse to change the runtime's own namespaces when they are joined by path.

    The path is looked up here only to explain; what is joined is what init opens.
    """
    changes = {}
    for name in linux.sysctl:
        kind = sysctl_namespace(sysctl_path(name))
        changes[f"/linux/sysctl/{pointer_token(name)}"] = kind
    if config.hostname is not None:
        changes["/hostname"] = "uts"
    if config.domainname is not None:
        changes["/domainname"] = "uts"
    if linux.net_devices:
        changes["/linux/netDevices"] = "network"
    wanted = set(changes.values())
    for namespace in linux.namespaces:
        if namespace.path is None or namespace.type not in wanted:
            continue
        try:
            status = os.stat(namespace.path)
        except OSError:
            continue  # joining it will say so
        if (status.st_dev, status.st_ino) == facts.namespace_ids.get(namespace.type):
            for pointer, kind in changes.items():
                if kind == namespace.type:
                    message = f"{namespace.path} is the {kind} namespace of the host"
                    yield _problem(pointer, f"would change the host: {message}")


def _power(config: Config, linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    """What acts on things of the host that no user namespace gives power over."""
    if linux.net_devices and not facts.has_capability(_CAP_NET_ADMIN):
        message = "moving a network device takes CAP_NET_ADMIN over the network namespace that it is in"
        yield _problem("/linux/netDevices", message)
    if facts.has_capability(_CAP_SYS_ADMIN):
        return
    for index, mount in enumerate(config.mounts):
        if mount.uid_mappings or not IDMAP.isdisjoint(mount.options):
            message = "an id-mapped mount takes CAP_SYS_ADMIN over the file system: root's"
            yield _problem(f"/mounts/{index}", message)


def _seccomp(linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    if linux.seccomp is not None and not facts.seccomp:
        yield _problem("/linux/seccomp", "this kernel has no seccomp filters")


def _resctrl(linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    if linux.intel_rdt is not None and not facts.resctrl:
        yield _problem("/linux/intelRdt", "no resctrl file system is mounted here")
    elif linux.intel_rdt is not None and facts.rootless:
        yield _problem("/linux/intelRdt", "the resctrl file system belongs to root")
