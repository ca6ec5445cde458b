# SPDX-License-Identifier: Apache-2.0
"""What of a configuration is left out without being an error: the warnings of a plan.

Spec: config.md#linux-process, config.md#specification-version
"""

from __future__ import annotations

from ocirun.spec.id_map_rules import KEEP_GROUPS
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    """Yield one line for each reason why a process does not get capabilities: buildah asks for eleven in vain."""
    if capabilities.unknown:
        yield f"/process/capabilities: {_are(capabilities.unknown)} not known or not available here: left out"
    reasons: dict[tuple[str, str], list[str]] = {}
    for kind, name, what in capabilities.withheld:
        reasons.setdefault((kind, what), []).append(name)
    for (kind, what), names in reasons.items():
        yield f"/process/capabilities/{kind}: {_are(names)} not {what} as well: left out"


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
