# SPDX-License-Identifier: Apache-2.0
"""Slots: the numbers by which operations name descriptors."""

from __future__ import annotations

from ocirun.plan.ops import SYNC_SLOT


class Slots:
    """Hands out slot numbers.

    `inputs` names those that the parent passes in, in order; the first is the sync socket.
    """

    __slots__ = ("count", "inputs")

    def __init__(self) -> None:
        self.inputs = ["sync"]
        self.count = SYNC_SLOT + 1

    def input(self, name: str) -> int:
        """Return the slot of a descriptor that the parent passes in; all inputs come before the first new()."""
        assert self.count == len(self.inputs), "inputs are numbered first"
        self.inputs.append(name)
        self.count += 1
        return self.count - 1

    def new(self) -> int:
        """Return a fresh slot that an operation will fill."""
        self.count += 1
        return self.count - 1
