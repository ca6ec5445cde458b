# SPDX-License-Identifier: Apache-2.0
"""What of a configuration is left out without being an error: the warnings of a plan.

Spec: config.md#linux-process, config.md#specification-version
"""

from __future__ import annotations

from ocirun.spec.id_map_rules import KEEP_GROUPS
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.plan.process import CapabilitySets
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.spec.model import Config


def left_out(config: Config, capabilities: CapabilitySets, seccomp: CompiledFilter | None) -> Iterator[str]:
    """Yield one line for each, which begins with its JSON pointer."""
    minor = int(config.oci_version.split(".")[1])
    if minor > int(SPEC_VERSION.split(".")[1]):
        yield f"/ociVersion: {config.oci_version} may have properties that are not known here: they are ignored"
    if config.process is not None and config.process.user.additional_gids and KEEP_GROUPS in config.annotations:
        yield f"/process/user/additionalGids: left out, the annotation {KEEP_GROUPS} keeps the caller's groups"
    yield from left_out_capabilities(capabilities)
    if seccomp is not None and seccomp.skipped_names:
        names = ", ".join(seccomp.skipped_names)
        yield f"/linux/seccomp/syscalls: libseccomp does not know {names}: left to the default action"


def left_out_capabilities(capabilities: CapabilitySets) -> Iterator[str]:
    """Yield one line for each capability of a process that it does not get."""
    for name in capabilities.unknown:
        yield f"/process/capabilities: {name} is not known or not available here: left out"
    for kind, name, what in capabilities.withheld:
        yield f"/process/capabilities/{kind}: {name} is not {what} as well: left out"
