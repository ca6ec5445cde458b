# SPDX-License-Identifier: Apache-2.0
"""The host gate of the systemd cgroup manager: what it cannot do with a configuration on this host."""

from __future__ import annotations

from ocirun.errors import InvalidConfig, Problem

from .devices import effective_rules, legacy_lines
from .settings import POINTER
from .unit_annotations import annotation_properties
from .unit_properties import device_properties
from .units import CGROUPS_PATH_POINTER, parse_scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ocirun.host import HostFacts
    from ocirun.spec.model import Config
    from ocirun.spec.resources import Resources

_EXAMPLE_ID = "ID"


def check_systemd(config: Config, facts: HostFacts) -> list[Problem]:
    """Return all problems of cgroupsPath, of annotations and of device rules, and that there is no systemd to ask."""
    linux = config.linux
    rootless = facts.rootless
    problems = []
    if not facts.systemd:
        problems.append(Problem("host", CGROUPS_PATH_POINTER, "no systemd is running here"))
    elif rootless and facts.cgroup_layout != "unified":
        why = "the systemd cgroup manager of an ordinary user needs cgroup version 2 alone"
        problems.append(Problem("host", CGROUPS_PATH_POINTER, why))
    try:
        parse_scope(linux.cgroups_path if linux is not None else None, _EXAMPLE_ID, rootless=rootless)
    except InvalidConfig as error:
        problems += error.problems
    problems += annotation_properties(config.annotations)[1]
    if linux is not None and linux.resources is not None:
        problems += check_devices(linux.resources, facts.legacy_controllers)
    return problems


def check_devices(resources: Resources, legacy: Collection[str], pointer: str = POINTER) -> list[Problem]:
    """Return the problem of device rules that systemd would undo in version 1, whose controllers are *legacy*.

    There it writes the device files itself, from nothing but a list of what is allowed; in version 2 our own filter
    stands beside the one that systemd may have.  *pointer* is where the resources stand in their document.
    """
    if "devices" not in legacy or not resources.devices:
        return []
    rules, problems = effective_rules(resources.devices)
    lines, more = legacy_lines(rules)
    if problems or more:
        return []  # told by the gate of resources
    if lines == [("devices.allow", "a")] or device_properties(lines)[0][1] == ("s", "strict"):
        return []
    why = "in cgroup version 1 systemd can keep a list of allowed devices alone, by type and major number"
    return [Problem("host", f"{pointer}/devices", why)]
