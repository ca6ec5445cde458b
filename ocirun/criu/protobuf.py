# SPDX-License-Identifier: Apache-2.0
"""The encoding of protocol buffers, for the few kinds of fields that CRIU's messages have.

A message is described by a dict from names to (number, kind), where a kind is INTEGER, BOOLEAN, TEXT, or the dict of
a message inside; messages are dicts as well, with a list where a field may be repeated.

Spec: protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    #: name -> (number, kind)
    Fields = Mapping[str, tuple[int, Any]]

INTEGER = "integer"  # int32, uint32 and enumerations
BOOLEAN = "boolean"
TEXT = "text"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1


def encode(fields: Fields, message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes; what is None is left out.  A name that *fields* has not is a KeyError."""
    return b"".join(
        _encode_field(*fields[name], each)
        for name, value in message.items()
        for each in (value if isinstance(value, list | tuple) else (value,))
        if each is not None
    )


def _encode_field(number: int, kind: Any, value: Any) -> bytes:
    if kind in (INTEGER, BOOLEAN):
        return _varint(number << 3 | _VARINT) + _varint(int(value) & _MASK64)
    content = value.encode("utf-8", "surrogateescape") if kind == TEXT else encode(kind, value)
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def decode(fields: Fields, content: bytes) -> dict[str, Any]:
    """Return the fields of a message that *fields* has; the last one counts where one is repeated.

    Errors: ValueError for bytes that are no message.
    """
    names = {number: (name, kind) for name, (number, kind) in fields.items()}
    found: dict[str, Any] = {}
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        value, at = _read_value(content, at, key & 7)
        name, kind = names.get(key >> 3, ("", None))
        if name:
            found[name] = _convert(kind, value)
    return found


def _read_value(content: bytes, at: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _read_varint(content, at)
    if wire == _BYTES:
        size, at = _read_varint(content, at)
    elif wire in (_FIXED64, _FIXED32):
        size = 8 if wire == _FIXED64 else 4
    else:
        raise ValueError(f"a field of the unknown wire type {wire}")
    if size > len(content) - at:
        raise ValueError("a field is longer than its message")
    return content[at : at + size], at + size


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 70:
        value |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return value & _MASK64, at
    raise ValueError("a number without an end")


def _convert(kind: Any, value: int | bytes) -> Any:
    if kind in (INTEGER, BOOLEAN):
        if not isinstance(value, int):
            raise ValueError("text where a number should be")
        if kind == BOOLEAN:
            return bool(value)
        return value - (1 << 64) if value >> 63 else value
    if not isinstance(value, bytes):
        raise ValueError("a number where text should be")  # noqa: TRY004  # of the bytes, not of ours
    return value.decode("utf-8", "replace") if kind == TEXT else decode(kind, value)
