# SPDX-License-Identifier: Apache-2.0
"""The features document: what this build understands, each list taken from the table that the code works by.

Spec: features.md, features-linux.md ("enabled" means built in, not that this host can do it)
"""

from __future__ import annotations

from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.process import CAPABILITY_BITS, MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES
from ocirun.plan.seccomp_compile import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS
from ocirun.spec.mount_options import all_options
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.host import HostFacts

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def features_document(facts: HostFacts | None = None) -> dict[str, Any]:
    """Return the document; capabilities are those of the running kernel."""
    from ocirun.host import HostFacts

    facts = HostFacts() if facts is None else facts
    capabilities = [name for name, bit in CAPABILITY_BITS.items() if bit < 1 << (facts.cap_last_cap + 1)]
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": all_options(),
        "linux": {
            "namespaces": sorted(CLONE_FLAGS),
            "capabilities": capabilities,
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(f"SCMP_ARCH_{name.upper()}" for name in ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {
                "modes": sorted(MEMORY_POLICY_MODES),
                "flags": sorted(MEMORY_POLICY_FLAGS),
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": _annotations(),
        "potentiallyUnsafeConfigAnnotations": [],
    }


def _annotations() -> dict[str, str]:
    from ocirun.version import VERSION

    return {"io.github.ocirun.version": VERSION}
