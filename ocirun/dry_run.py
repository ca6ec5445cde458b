# SPDX-License-Identifier: Apache-2.0
"""`plan`: what create would do with a bundle, for anybody, anywhere.

Nothing is made, opened or asked of the kernel beyond HostFacts; a seccomp profile is compiled if libseccomp is there.
"""

from __future__ import annotations

from ocirun.errors import CgroupError, UnsupportedFeature
from ocirun.host import HostFacts
from ocirun.plan.build import Plan, build
from ocirun.plan.circumstances import Circumstances
from ocirun.validate import validate_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.mounts import CgroupMount
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Config

EXAMPLE_ID = "ID"


def plan_document(
    text: bytes, bundle: str, facts: HostFacts | None = None, *, cgroup_manager: str = "cgroupfs"
) -> Plan:
    """Return the plan for the bytes of a config.json, as root on the host of these facts (default: this one)."""
    facts = HostFacts() if facts is None else facts
    config = validate_document(text, facts, cgroup_manager)
    unified = facts.cgroup_layout == "unified"
    mounts = [] if unified else _cgroup_mounts(config, facts, cgroup_manager)
    return build(
        config,
        Circumstances(
            bundle,
            EXAMPLE_ID,
            available_capabilities=(1 << (facts.cap_last_cap + 1)) - 1,
            last_capability=facts.cap_last_cap,
            in_user_namespace=facts.in_user_namespace,
            unified=unified,
            cgroups=mounts,
            seccomp=_compile(config),
        ),
    )


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
