# SPDX-License-Identifier: Apache-2.0
"""In which status a container can be started or deleted, and what is said where it cannot.

Spec: runtime.md#start, runtime.md#delete
"""

from __future__ import annotations

from ocirun import status
from ocirun.errors import ContainerNotFound, InvalidStatus
from ocirun.spec.state import CREATED, CREATING, PAUSED, RUNNING, STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.store import Entry


def lock(entry: Entry, check: Callable[[str, str], None]) -> None:
    """Lock the entry, unless *check* refuses what is being created: that may take as long as its hooks do."""

    def look() -> None:
        try:
            now, _ = status.compute(entry, entry.read_record())
        except ContainerNotFound:
            return  # there is no intent yet
        if now == CREATING:
            check(entry.id, now)

    entry.lock(while_held=look)


def check_startable(container_id: str, now: str) -> None:
    """Errors: InvalidStatus unless the container is created."""
    if now == CREATED:
        return
    words = {
        RUNNING: "cannot start an already running container",
        PAUSED: "cannot start a paused container",
        STOPPED: "cannot start a container that has stopped",
    }
    raise InvalidStatus(
        words.get(now, f"cannot start a container that is {now}"), status=now, container_id=container_id
    )


def check_deletable(container_id: str, now: str) -> None:
    """Errors: InvalidStatus unless the container is stopped or created."""
    if now not in (STOPPED, CREATED):
        raise InvalidStatus(
            f"cannot delete container {container_id} that is not stopped: {now}",
            status=now,
            container_id=container_id,
        )
