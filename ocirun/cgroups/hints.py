# SPDX-License-Identifier: Apache-2.0
"""What users who are not root can do to get cgroups with controllers.

Sources: systemd.resource-control(5), Delegate=; user@.service(5); Kernel: cgroup-v2.rst, Delegation
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.host import HostFacts

#: By default systemd passes some controllers on to a user's own systemd: which, is the distribution's choice.
DROP_IN = "/etc/systemd/system/user@.service.d/delegate.conf"
DELEGATED_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
DROP_IN_TEXT = f"[Service]\nDelegate={' '.join(DELEGATED_CONTROLLERS)}\n"


def delegation_hint(facts: HostFacts | None = None) -> str | None:
    """Return how the caller gets a cgroup of its own; None for root, who needs nobody's leave."""
    if facts is None:
        from ocirun.host import HostFacts

        facts = HostFacts()
    if not facts.rootless:
        return None
    if facts.cgroup_layout != "unified":
        return "cgroups of version 1 are root's: root would have to give the caller one in each hierarchy that it needs"
    if not facts.systemd:
        return (
            "root has to give the caller a cgroup (the directory, its cgroup.procs, cgroup.threads and"
            " cgroup.subtree_control), and start it in another one below that"
        )
    lines = " and ".join(f'"{line}"' for line in DROP_IN_TEXT.splitlines())
    return (
        f"use --cgroup-manager systemd; for controllers that are missing with it, root puts {lines} into"
        f" {DROP_IN}, and the user logs in again"
    )


def delegated_controllers(directory: str) -> list[str]:
    """Return the controllers that the caller can use in children of a version 2 cgroup, sorted; none if it is not its
    own.
    """
    if not os.access(directory, os.W_OK) or not os.access(f"{directory}/cgroup.subtree_control", os.W_OK):
        return []
    try:
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
            return sorted(file.read().split())
    except OSError:
        return []
