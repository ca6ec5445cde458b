# SPDX-License-Identifier: Apache-2.0
"""The features document: what this build understands, each list taken from the table that the code works by.

Spec: features.md, features-linux.md ("enabled" means built in, not that this host can do it)
"""

from __future__ import annotations

from ocirun.cgroups.unit_annotations import PREFIX as PROPERTY_ANNOTATIONS
from ocirun.criu.images import CONFIG_ANNOTATION
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.process import CAPABILITY_BITS, MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES
from ocirun.plan.seccomp_compile import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, kernel_has_flag
from ocirun.spec.mount_options import all_options
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun._native.libseccomp import Library

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def features_document() -> dict[str, Any]:
    """Return the document.  Of seccomp, `archs` and `supportedFlags` are what can be had here."""
    library = _libseccomp()
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": all_options(),
        "linux": {
            "namespaces": sorted(CLONE_FLAGS),
            "capabilities": list(CAPABILITY_BITS),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": _architectures(library),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": _supported_flags(library),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {
                "modes": sorted(MEMORY_POLICY_MODES),
                "flags": sorted(MEMORY_POLICY_FLAGS),
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": _annotations(library),
        "potentiallyUnsafeConfigAnnotations": [PROPERTY_ANNOTATIONS, CONFIG_ANNOTATION],
    }


def _libseccomp() -> Library | None:
    from ocirun._native.libseccomp import Library

    try:
        return Library()
    except OSError:
        return None


def _architectures(library: Library | None) -> list[str]:
    """Return the architectures for which a profile can be compiled: an older libseccomp knows fewer."""
    if library is None:
        return []
    return sorted(f"SCMP_ARCH_{name.upper()}" for name in ARCHITECTURES if library.architecture(name))


def _supported_flags(library: Library | None) -> list[str]:
    """Return the flags with which a profile can be loaded here."""
    if library is None:
        return []
    try:
        return [name for name, flag in sorted(FLAGS.items()) if kernel_has_flag(library, flag)]
    except OSError:
        return []  # no seccomp(2)


def _annotations(library: Library | None) -> dict[str, str]:
    from ocirun.version import VERSION

    # By runc's name engines ask for it; that it is built in says nothing of the host: features --probe.
    found = {"io.github.ocirun.version": VERSION, "org.opencontainers.runc.checkpoint.enabled": "true"}
    if library is not None:
        found["io.github.seccomp.libseccomp.version"] = library.version
    return found
