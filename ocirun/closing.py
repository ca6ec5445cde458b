# SPDX-License-Identifier: Apache-2.0
"""What holds descriptors until it is closed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Closing:
    """Gives up what it holds at close(), at the end of a `with` block, or with itself.

    close() may be called several times, and of an object that was only half made.
    """

    __slots__ = ()

    def close(self) -> None:
        """Give up what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
