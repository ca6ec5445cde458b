# SPDX-License-Identifier: Apache-2.0
"""The part of a Container that saves it; what it takes is loaded when it is used."""

from __future__ import annotations

from ocirun import preconditions, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Unpack

    from ocirun.criu.options import CheckpointChanges
    from ocirun.errors import HookError
    from ocirun.runtime import Runtime
    from ocirun.store import Entry, Record


class Checkpointer:
    """See `Container`, which has the attributes."""

    __slots__ = ()

    if TYPE_CHECKING:
        id: str
        _runtime: Runtime

        def delete_locked(self, entry: Entry, *, force: bool) -> Record | None: ...
        def run_poststop(self, record: Record, error: HookError | None = None) -> None: ...

    def checkpoint(self, image_path: str, **changes: Unpack[CheckpointChanges]) -> None:
        """Save the container's processes to a directory, from which `Runtime.restore` makes them again, and delete it.

        The directory is made if need be.  Of the file system nothing is saved but tmpfs, and files that were unlinked.
        changes: `ocirun.criu.options.CheckpointChanges`; with leave_running and pre_dump the container goes on.

        Errors: UnsupportedFeature where there is no CRIU or it does not work; InvalidConfig for what it could not
        restore; InvalidStatus unless the container is running or paused; CriuError when it fails.  The container goes
        on then.
        """
        from ocirun.checkpoint import Checkpoint, check_status
        from ocirun.criu.options import CheckpointOptions

        options = CheckpointOptions(**changes)
        entry = self._runtime.store.open(self.id)
        record = None
        try:
            preconditions.lock(entry, check_status)
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            check_status(self.id, now)
            checkpoint = Checkpoint(entry, record, options, self._runtime.open_init)
            checkpoint.run(image_path)
            stays = options.leave_running or options.pre_dump
            deleted = None if stays else self.delete_locked(entry, force=True)
        finally:
            entry.close()
        if deleted is not None:
            self.run_poststop(deleted)
