# SPDX-License-Identifier: Apache-2.0
"""The two maps of a user namespace, and what they say of an id.

Spec: config-linux.md#user-namespace-mappings
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.spec.model import IdMapping


class IdMaps:
    """The maps of a user namespace; `pointer` is where config.json has them, or what they were taken from.

    Both are empty where they are not known, as those of a joined namespace that nobody has looked at.
    """

    __slots__ = ("gid_mappings", "pointer", "uid_mappings")

    def __init__(
        self, uid_mappings: Sequence[IdMapping], gid_mappings: Sequence[IdMapping], pointer: str
    ) -> None:
        self.uid_mappings = tuple(uid_mappings)
        self.gid_mappings = tuple(gid_mappings)
        self.pointer = pointer

    def __str__(self) -> str:
        return f"uids {_words(self.uid_mappings)}, gids {_words(self.gid_mappings)}"

    def host_uid(self, uid: int) -> int | None:
        """Return the host's number of a user; None where it has none."""
        return map_to_host(self.uid_mappings, uid)

    def host_gid(self, gid: int) -> int | None:
        """Return the host's number of a group; None where it has none."""
        return map_to_host(self.gid_mappings, gid)


def map_to_host(mappings: Sequence[IdMapping], number: int) -> int | None:
    """Return what the host calls the id *number* of the namespace, None where it is not mapped."""
    for each in mappings:
        if each.container_id <= number < each.container_id + each.size:
            return each.host_id + number - each.container_id
    return None


def _words(mappings: Sequence[IdMapping]) -> str:
    return " ".join(f"{each.container_id}:{each.host_id}:{each.size}" for each in mappings) or "unknown"
