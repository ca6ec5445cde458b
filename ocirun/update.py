# SPDX-License-Identifier: Apache-2.0
"""`update`: other limits for a container that is there.

The limits are in the kernel and nowhere else: neither the record nor the kept config.json changes.  What reads them
afterwards (`events`, a checkpoint) reads the files, and `exec` joins the same cgroup.
"""

from __future__ import annotations

from ocirun.errors import UnsupportedFeature
from ocirun.host import HostFacts
from ocirun.validate import validate_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups import CgroupManager
    from ocirun.rdt import SchemataChange
    from ocirun.store import Record


def update(
    record: Record,
    manager: CgroupManager,
    resources: bytes | dict[str, Any],
    schemata: dict[str, str],
) -> None:
    """Change the limits of a container that is not stopped; the caller holds its lock.

    *schemata* are l3CacheSchema and memBwSchema of `linux.intelRdt`, as far as they are to change.
    Errors: InvalidConfig, CgroupError, KernelError, UnsupportedFeature; nothing has changed then, or it says what.
    """
    facts = HostFacts()
    limits = validate_resources(resources, facts, now=manager.limits_now())
    change = _change_class(record, schemata) if schemata else None
    rootless = facts.euid != 0 or facts.in_user_namespace
    try:
        manager.apply(limits, rootless, update=True)
    except BaseException as error:
        if change is not None:
            change.undo(error)
        raise


def _change_class(record: Record, schemata: dict[str, str]) -> SchemataChange:
    from ocirun.rdt import SchemataChange
    from ocirun.validate import validate_rdt

    config = validate_rdt(dict(schemata))
    groups = record.get("intelRdt")
    change = SchemataChange.of(groups) if groups is not None else None
    if change is None:
        pointer = f"/{next(iter(schemata))}"
        why = "has none" if groups is None else "was there before the container, and others may be in it"
        raise UnsupportedFeature(
            f"{pointer}: the container's class of service {why}",
            json_pointer=pointer,
            hint="update changes a class that create has made for linux.intelRdt",
        )
    change.make(config)
    return change
