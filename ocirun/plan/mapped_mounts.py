# SPDX-License-Identifier: Apache-2.0
"""Id-mapped mounts: which mounts are, and by which maps.

The kernel takes the maps of a mount from a user namespace.  The parent makes one for each distinct pair of maps, and
passes it in.

Spec: config.md#mounts, uidMappings and gidMappings, idmap and ridmap; Kernel: mount_setattr(2), MOUNT_ATTR_IDMAP
"""

from __future__ import annotations

from ocirun.plan.ops import NO_SLOT
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.mount_options import IDMAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.slots import Slots
    from ocirun.spec.model import Mount


class MappedMounts:
    """`maps` are the user namespaces that are needed, in the order of the plan's inputs "idmap0", "idmap1" …"""

    __slots__ = ("_slots", "maps")

    def __init__(self, mounts: Sequence[Mount], container: IdMaps | None, slots: Slots) -> None:
        """`container` are the maps of the container's own user namespace, for mounts that have none."""
        self.maps: list[IdMaps] = []
        self._slots: dict[str, int] = {}
        known: dict[str, int] = {}
        for index, mount in enumerate(mounts):
            pointer = f"/mounts/{index}"
            if mount.uid_mappings:
                maps = IdMaps(mount.uid_mappings, mount.gid_mappings, pointer)
            elif IDMAP.isdisjoint(mount.options):
                continue
            else:
                assert container is not None  # the rules gate asks for it
                maps = container
            text = str(maps)
            if text not in known:
                known[text] = slots.input(f"idmap{len(self.maps)}")
                self.maps.append(maps)
            self._slots[pointer] = known[text]

    def slot_of(self, origin: str) -> int:
        """Return the slot of the user namespace that maps this mount, or none."""
        return self._slots.get(origin, NO_SLOT)
