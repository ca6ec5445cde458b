# SPDX-License-Identifier: Apache-2.0
"""Which messages a plan will make ocirun-init send, in which order.  No I/O: tested without a process."""

from __future__ import annotations

from ocirun._native import lib
from ocirun.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun._native import Message
    from ocirun.plan.plan import Plan

NEED_ID_MAPS: int = lib.OCIRUN_MSG_NEED_ID_MAPS
INIT_PID: int = lib.OCIRUN_MSG_INIT_PID
AT_BARRIER: int = lib.OCIRUN_MSG_AT_BARRIER
EXECUTING: int = lib.OCIRUN_MSG_EXECUTING
FAILED: int = lib.OCIRUN_MSG_FAILED
PROCEED: int = lib.OCIRUN_MSG_PROCEED
START: int = lib.OCIRUN_MSG_START

_NAMES = {
    NEED_ID_MAPS: "NEED_ID_MAPS",
    INIT_PID: "INIT_PID",
    AT_BARRIER: "AT_BARRIER",
    EXECUTING: "EXECUTING",
    FAILED: "FAILED",
}


class Expected:
    """The messages still owed, built from the plan.  A message out of turn is an InternalError."""

    __slots__ = ("_at", "_owed")

    def __init__(self, plan: Plan) -> None:
        self._owed: list[tuple[int, int]] = []
        self._at = 0
        for op in plan.ops:
            if op.name == "ID_MAPS":
                self._owed.append((NEED_ID_MAPS, 0))
            elif op.name == "FORK":
                self._owed.append((INIT_PID, 0))
            elif op.name == "BARRIER":
                self._owed.append((AT_BARRIER, op.numbers[0]))

    @property
    def done(self) -> bool:
        """Say whether the last barrier was passed."""
        return self._at == len(self._owed)

    @property
    def next(self) -> tuple[int, int] | None:
        """The message owed next, None after the last."""
        return None if self.done else self._owed[self._at]

    def take(self, message: Message) -> tuple[int, int]:
        """Check a message against what is owed next and return (kind, value)."""
        got = (message.kind, message.value)
        if self.done or got != self._owed[self._at]:
            wanted = "nothing more" if self.done else _describe(*self._owed[self._at])
            raise InternalError(f"ocirun-init said {_describe(*got)}, expected {wanted}")
        self._at += 1
        return got


def _describe(kind: int, value: int) -> str:
    name = _NAMES.get(kind, f"message {kind}")
    return f"{name} {value}" if kind == AT_BARRIER else name
