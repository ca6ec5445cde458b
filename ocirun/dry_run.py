# SPDX-License-Identifier: Apache-2.0
"""`plan`: what create would do with a bundle, for anybody, anywhere.

Nothing is made, opened or asked of the kernel beyond HostFacts; a seccomp profile is compiled if libseccomp is there.
"""

from __future__ import annotations

from ocirun.errors import CgroupError, UnsupportedFeature
from ocirun.host import HostFacts
from ocirun.plan.build import build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.plan import Plan
from ocirun.spec.id_map_rules import why_groups_stay
from ocirun.validate import validate_for_anybody

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.mounts import CgroupMount
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Config

EXAMPLE_ID = "ID"
_ROOTS_PLAN = "/linux/namespaces: this is root's plan, nobody else can do without a user namespace"


def plan_document(
    text: bytes, bundle: str, facts: HostFacts | None = None, *, cgroup_manager: str = "cgroupfs"
) -> Plan:
    """Return the plan for the bytes of a config.json on the host of these facts (default: this one).

    It is the caller's; for a container without a user namespace it is root's, and says so if that is somebody else.
    """
    callers = HostFacts() if facts is None else facts
    config, facts = validate_for_anybody(text, callers, cgroup_manager)
    linux = config.linux
    assert linux is not None  # a rule demands it
    unified = facts.cgroup_layout == "unified"
    mounts = [] if unified else _cgroup_mounts(config, facts, cgroup_manager)
    plan = build(
        config,
        Circumstances(
            bundle,
            EXAMPLE_ID,
            available_capabilities=(1 << (facts.cap_last_cap + 1)) - 1,
            last_capability=facts.cap_last_cap,
            in_user_namespace=facts.in_user_namespace,
            privileged=facts.euid == 0,
            unified=unified,
            cgroups=mounts,
            seccomp=_compile(config),
            may_set_groups=not why_groups_stay(linux, facts),
            may_clone_mounts=facts.may_clone_mounts,
        ),
    )
    if facts is not callers:
        plan.warnings = (_ROOTS_PLAN, *plan.warnings)
    return plan


def _cgroup_mounts(config: Config, facts: HostFacts, cgroup_manager: str) -> list[CgroupMount]:
    from ocirun.cgroups import open_manager
    from ocirun.plan.mounts import cgroup_mounts

    path = config.linux.cgroups_path if config.linux is not None else None
    if cgroup_manager == "systemd":
        from ocirun.cgroups.units import parse_scope

        path = f"/{parse_scope(path, EXAMPLE_ID, rootless=False).path}"
    try:
        manager = open_manager("cgroupfs", facts.cgroup_layout, EXAMPLE_ID, path)
    except CgroupError:
        return []
    try:
        return cgroup_mounts(manager.paths())
    finally:
        manager.close()


def _compile(config: Config) -> CompiledFilter | None:
    if config.linux is None or config.linux.seccomp is None:
        return None
    from ocirun.plan.seccomp import compile_profile

    try:
        return compile_profile(config.linux.seccomp, cache_dir=None)
    except UnsupportedFeature:
        return None
