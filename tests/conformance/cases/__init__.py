# SPDX-License-Identifier: Apache-2.0
"""The cases, a module for each part of the specification.  Importing this fills the list of them."""

from . import (
    cgroups,
    devices,
    features,
    hooks,
    lifecycle,
    linux,
    mount_options,
    mounts,
    namespaces,
    net_devices,
    process,
    resources,
    seccomp,
    validity,
)

__all__ = [
    "cgroups", "devices", "features", "hooks", "lifecycle", "linux", "mount_options", "mounts", "namespaces",
    "net_devices", "process", "resources", "seccomp", "validity",
]  # fmt: skip
