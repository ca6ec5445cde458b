# SPDX-License-Identifier: Apache-2.0
"""What all parts of a decoded config.json have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self, TypeVar

    JsonObject = dict[str, Any]
    P = TypeVar("P", bound="Part")


class Part:
    """Base of all parts: value semantics over `__slots__`."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, source: JsonObject) -> None:
        raise NotImplementedError

    @classmethod
    def decode(cls, source: JsonObject) -> Self:
        """Return the part that a schema-valid JSON object describes."""
        return cls(source)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # parts hold dicts

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


def decode_all(cls: type[P], sources: Sequence[JsonObject] | None) -> tuple[P, ...]:
    """Return one part for each object of an optional list."""
    return tuple([cls(source) for source in sources]) if sources else ()


def decode_one(cls: type[P], source: JsonObject | None) -> P | None:
    """Return the part of an optional object."""
    return None if source is None else cls(source)
