# SPDX-License-Identifier: Apache-2.0
"""What has to be undone when a later step fails."""

from __future__ import annotations

import os

from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """The ways back of the steps that were taken."""

    def __init__(self) -> None:
        self._ways: list[Callable[[], None]] = []

    def add(self, way: Callable[[], None]) -> None:
        """Remember how to undo the step that was just taken."""
        self._ways.append(way)

    def remove(self, path: str) -> None:
        """Remember to remove the file that was just written."""
        self.add(lambda: os.unlink(path))

    def roll_back(self, error: BaseException) -> None:
        """Undo the steps, the last first; a failure of that is a note on the first error and never replaces it."""
        for way in reversed(self._ways):
            try:
                way()
            except (OSError, OcirunError) as failure:
                error.add_note(f"while undoing: {failure}")
        self.forget()

    def forget(self) -> None:
        """Go no way back any more; nor leave a cycle to the host's garbage collector."""
        self._ways.clear()
