# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a mount that the table of options can tell."""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.spec.mount_options import IDMAP, SUPERBLOCK_UNNAMED, context_label, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.spec.model import Config, Mount
    from ocirun.spec.mount_options import MountOptions


def check(config: Config) -> list[Problem]:
    """Return all problems of the gate "rule" in `mounts`."""
    problems: list[Problem] = []
    for index, mount in enumerate(config.mounts):
        problems.extend(_check(mount, f"/mounts/{index}"))
    return problems


def _check(mount: Mount, pointer: str) -> Iterator[Problem]:
    options = parse_options(mount.options)
    is_bind = options.bind or mount.type == "bind"
    if is_bind and options.data:
        # The kernel would ignore it; the author must have meant something.
        yield Problem(
            "rule", f"{pointer}/options", f"a bind mount takes no data, found {options.data[0]!r}"
        )
    if is_bind and options.copy_up:
        yield Problem("rule", f"{pointer}/options", "tmpcopyup is for a tmpfs, not for a bind mount")
    if options.copy_up and not is_bind and mount.type != "tmpfs":
        yield Problem("rule", f"{pointer}/options", f"tmpcopyup is for a tmpfs, not for {mount.type}")
    for option in options.data:
        if '"' in (context_label(option) or ""):
            # mount(2) knows no way to write one: it would end the label, and the rest would be options.
            yield Problem("rule", f"{pointer}/options", f"a label must not have quotes in it, found {option!r}")
    yield from _check_id_mapping(mount, options, pointer)
    if options.copy_up and options.superblock & SUPERBLOCK_UNNAMED:
        yield Problem("rule", f"{pointer}/options", "tmpcopyup does not go with silent or iversion")
    place = [part for part in mount.destination.split("/") if part not in ("", ".")]
    if place == ["proc"] and not is_bind and not options.remount and mount.type != "proc":
        # Labels and masks are written by paths below it (CVE-2019-16884).
        yield Problem(
            "rule", f"{pointer}/type", f"only a proc file system may be at /proc, found {mount.type!r}"
        )


def _check_id_mapping(mount: Mount, options: MountOptions, pointer: str) -> Iterator[Problem]:
    if options.idmap is None and not mount.uid_mappings and not mount.gid_mappings:
        return
    where = f"{pointer}/options" if options.idmap is not None else f"{pointer}/uidMappings"
    if options.idmap not in (None, *IDMAP):
        message = "idmap takes no value, the maps belong into uidMappings and gidMappings"
        yield Problem("rule", where, message)
    if options.remount:
        # The kernel takes a mapping only for a mount that nobody has seen.
        yield Problem("rule", where, "a mount that is there cannot be id-mapped any more")
    elif mount.type == "cgroup" and not options.bind:
        yield Problem("rule", where, "a mount of type cgroup cannot be id-mapped")
    if options.copy_up or options.superblock & SUPERBLOCK_UNNAMED:
        message = "an id-mapped mount does not go with tmpcopyup, silent or iversion"
        yield Problem("rule", where, message)
