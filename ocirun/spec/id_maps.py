# SPDX-License-Identifier: Apache-2.0
"""The two maps of a user namespace, what they say of an id, and who may write them.

Spec: config-linux.md#user-namespace-mappings; Kernel: user_namespaces(7)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.host import HostFacts
    from ocirun.spec.model import IdMapping

#: Who writes a map: whoever has CAP_SETUID (CAP_SETGID) in its own user namespace; anybody, for its own id alone; for
#: all others newuidmap (newgidmap), which has the privilege.
POWER, OWN_ID, PROGRAM = "power", "own id", "program"

CAP_SETGID, CAP_SETUID = 6, 7


class IdMaps:
    """The maps of a user namespace; `pointer` is where config.json has them, or what they were taken from.

    Both are empty where they are not known, as those of a joined namespace that nobody has looked at.  Where
    `may_set_groups` is false setgroups(2) is denied in the namespace.
    """

    __slots__ = ("gid_mappings", "may_set_groups", "pointer", "uid_mappings")

    def __init__(
        self, uid_mappings: Sequence[IdMapping], gid_mappings: Sequence[IdMapping], pointer: str
    ) -> None:
        self.uid_mappings = tuple(uid_mappings)
        self.gid_mappings = tuple(gid_mappings)
        self.pointer = pointer
        self.may_set_groups = True

    def __str__(self) -> str:
        return f"uids {_words(self.uid_mappings)}, gids {_words(self.gid_mappings)}"

    def host_uid(self, uid: int) -> int | None:
        """Return the host's number of a user; None where it has none."""
        return map_to_host(self.uid_mappings, uid)

    @property
    def first_ids(self) -> tuple[int, int]:
        """The user and the group that init works as until the process's own: root, or what there is without one."""
        return _first(self.uid_mappings), _first(self.gid_mappings)

    def host_gid(self, gid: int) -> int | None:
        """Return the host's number of a group; None where it has none."""
        return map_to_host(self.gid_mappings, gid)


def uid_map_writer(mappings: Sequence[IdMapping], facts: HostFacts) -> str:
    """Return POWER, OWN_ID or PROGRAM for the uid_map of a new user namespace."""
    return _writer(mappings, facts.euid, facts.has_capability(CAP_SETUID))


def gid_map_writer(mappings: Sequence[IdMapping], facts: HostFacts) -> str:
    """Return POWER, OWN_ID or PROGRAM for the gid_map of a new user namespace.

    By OWN_ID setgroups(2) has to be denied there first: a user must not get rid of a group that takes rights away.
    """
    return _writer(mappings, facts.egid, facts.has_capability(CAP_SETGID))


def _writer(mappings: Sequence[IdMapping], own_id: int, has_power: bool) -> str:
    if has_power:
        return POWER
    if len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == own_id:
        return OWN_ID
    return PROGRAM


def map_to_host(mappings: Sequence[IdMapping], number: int) -> int | None:
    """Return what the host calls the id *number* of the namespace, None where it is not mapped."""
    for each in mappings:
        if each.container_id <= number < each.container_id + each.size:
            return each.host_id + number - each.container_id
    return None


def _first(mappings: Sequence[IdMapping]) -> int:
    if not mappings or map_to_host(mappings, 0) is not None:
        return 0
    return mappings[0].container_id


def _words(mappings: Sequence[IdMapping]) -> str:
    return " ".join(f"{each.container_id}:{each.host_id}:{each.size}" for each in mappings) or "unknown"
