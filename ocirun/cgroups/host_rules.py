# SPDX-License-Identifier: Apache-2.0
"""The host gate of `linux.resources`: what the cgroups of this host cannot do.

It asks the functions that `create` acts by, so that the two cannot differ.
"""

from __future__ import annotations

from ocirun.errors import Problem

from .devices import effective_rules, legacy_lines
from .resources import build_settings
from .settings import POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ocirun.host import HostFacts
    from ocirun.spec.resources import Resources

    from .settings import Setting


def check_resources(
    resources: Resources, facts: HostFacts, pointer: str = POINTER, now: Mapping[str, str] | None = None
) -> list[Problem]:
    """Return all problems of resource limits on the host that *facts* describes.

    *pointer* is where they stand in their document, *now* what `CgroupManager.limits_now` says of a cgroup that is
    there already.  A problem's gate is "rule" where no host could do it.
    """
    unified = facts.cgroup_layout in ("unified", "hybrid")
    problems: list[Problem] = []
    if any(getattr(resources, name) for name in resources.__slots__ if name != "devices"):
        settings, problems = build_settings(
            resources, legacy=facts.legacy_controllers, unified=unified, now=now, pointer=pointer
        )
        problems += _missing_controllers(settings, facts)
        problems += _without_effect(resources, facts, pointer)
    rules, rule_problems = effective_rules(resources.devices, f"{pointer}/devices")
    problems += rule_problems
    if resources.devices and not rule_problems and "devices" in facts.legacy_controllers:
        problems += legacy_lines(rules, f"{pointer}/devices")[1]
    return problems


def _missing_controllers(settings: list[Setting], facts: HostFacts) -> Iterator[Problem]:
    told = set()
    for setting in settings:
        # Files of the core ("cgroup.max.depth") are there with any controller and without.
        if setting.controller in ("cgroup", *facts.legacy_controllers, *facts.unified_controllers):
            continue
        if setting.pointer not in told:
            told.add(setting.pointer)
            yield Problem("host", setting.pointer, f"the {setting.controller} controller is not available here")


def _without_effect(resources: Resources, facts: HostFacts, pointer: str) -> Iterator[Problem]:
    memory = resources.memory
    if memory is None or memory.kernel is None or memory.kernel < 0 or "memory" not in facts.legacy_controllers:
        return
    if facts.kernel >= (5, 16):
        why = "kernels since 5.16 accept a limit of kernel memory and do nothing about it"
        yield Problem("host", f"{pointer}/memory/kernel", why)
