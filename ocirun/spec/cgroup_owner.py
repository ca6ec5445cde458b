# SPDX-License-Identifier: Apache-2.0
"""Who shall own the container's cgroup.

Spec: config-linux.md#cgroup-ownership
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.spec.id_maps import IdMaps
    from ocirun.spec.model import Config

_READ_ONLY = frozenset(("ro", "rro"))


def cgroup_owner(config: Config, maps: IdMaps | None) -> int | None:
    """Return the host's number of the user who gets the cgroup (of version 2), None where it stays the runtime's.

    Only with a new cgroup namespace and a cgroup mount that may be written to; *maps* are those of the container's user
    namespace, None if it has none.
    """
    namespaces = config.linux.namespaces if config.linux is not None else ()
    if config.process is None or not any(each.type == "cgroup" and each.path is None for each in namespaces):
        return None
    for mount in config.mounts:
        if (
            mount.source == "cgroup"
            and mount.destination.rstrip("/") == "/sys/fs/cgroup"
            and _READ_ONLY.isdisjoint(mount.options)
        ):
            uid = config.process.user.uid
            return uid if maps is None else maps.host_uid(uid)
    return None
