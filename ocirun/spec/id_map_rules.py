# SPDX-License-Identifier: Apache-2.0
"""The host gate of user namespaces: which ids the caller may map, and whether groups can be set then.

Spec: config-linux.md#user-namespace-mappings; Kernel: user_namespaces(7); newuidmap(1)
"""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.spec.id_maps import OWN_ID, POWER, gid_map_writer, uid_map_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.host import HostFacts
    from ocirun.spec.model import Config, IdMapping, Linux

#: Leaves supplementary groups as the caller has them, a word of crun's.
KEEP_GROUPS = "run.oci.keep_original_groups"

CAP_SYS_ADMIN = 21


def check(config: Config, linux: Linux, facts: HostFacts) -> Iterator[Problem]:
    """Yield all problems of the gate "host" with user namespaces and ids."""
    kinds = {namespace.type: namespace.path for namespace in linux.namespaces}
    if "user" not in kinds and not facts.has_capability(CAP_SYS_ADMIN):
        yield _problem(
            "/linux/namespaces",
            "without root a container takes a user namespace, with uidMappings and gidMappings"
            " (`ocirun spec --rootless` writes an example)",
        )
    creates = "user" in kinds and kinds["user"] is None
    if creates:
        yield from _mappings("uid", linux.uid_mappings, uid_map_writer(linux.uid_mappings, facts), facts)
        yield from _mappings("gid", linux.gid_mappings, gid_map_writer(linux.gid_mappings, facts), facts)
    elif "user" in kinds:
        return  # whose groups can be set or not is that namespace's affair
    if config.process is None or not config.process.user.additional_gids or KEEP_GROUPS in config.annotations:
        return
    why = why_groups_stay(linux, facts)
    if why:
        yield _problem("/process/user/additionalGids", f"groups cannot be set: {why}")


def why_groups_stay(linux: Linux, facts: HostFacts) -> str:
    """Return why setgroups(2) is denied in the container, "" where it is not, or where a namespace is joined."""
    if not facts.may_set_groups:
        return "setgroups is denied in the user namespace of the runtime, see /proc/self/setgroups"
    if linux.gid_mappings and gid_map_writer(linux.gid_mappings, facts) == OWN_ID:
        return (
            "setgroups is denied in a user namespace of one id that its user maps without root;"
            " map ids of /etc/subgid as well"
        )
    return ""


def _mappings(kind: str, wanted: Sequence[IdMapping], writer: str, facts: HostFacts) -> Iterator[Problem]:
    """Yield what is wrong with one of the two maps; `kind` is "uid" or "gid"."""
    pointer = f"/linux/{kind}Mappings"
    own_id = facts.euid if kind == "uid" else facts.egid
    if writer == OWN_ID:
        return
    if writer == POWER:
        lines = facts.uid_map if kind == "uid" else facts.gid_map
        for index, each in enumerate(wanted):
            if not _is_mapped(lines, each.host_id, each.size):
                has = ", ".join(_range(inside, size) for inside, _, size in lines) or "none"
                message = f"{_ids(each)} not mapped in the user namespace of the runtime, which has {has}"
                yield _problem(f"{pointer}/{index}/hostID", message)
        return
    if not (facts.newuidmap if kind == "uid" else facts.newgidmap):
        yield _problem(
            pointer,
            f"new{kind}map is not installed (package uidmap), and without it a user may map one id alone,"
            f" its own: {own_id}",
        )
        return
    ranges = facts.subordinate_uids if kind == "uid" else facts.subordinate_gids
    if ranges is None:
        return  # a name service knows: the program will say what is wrong
    from ocirun.subids import covers

    for index, each in enumerate(wanted):
        if each.size == 1 and each.host_id == own_id:
            continue
        if not covers(ranges, each.host_id, each.size):
            has = ", ".join(_range(first, size) for first, size in ranges) or "nothing"
            message = f"{_ids(each)} not the caller's: /etc/sub{kind} has {has} for it, and its own id is {own_id}"
            yield _problem(f"{pointer}/{index}/hostID", message)


def _is_mapped(lines: Sequence[tuple[int, int, int]], first: int, size: int) -> bool:
    """Say whether all ids of a range are in the map; they may be spread over lines of it."""
    last = first + size
    for inside, _, count in sorted(lines):
        if inside <= first < inside + count:
            first = inside + count
    return first >= last


def _ids(mapping: IdMapping) -> str:
    if mapping.size == 1:
        return f"host id {mapping.host_id} is"
    return f"host ids {_range(mapping.host_id, mapping.size)} are"


def _range(first: int, size: int) -> str:
    return str(first) if size == 1 else f"{first} to {first + size - 1}"


def _problem(pointer: str, message: str) -> Problem:
    return Problem("host", pointer, message)
