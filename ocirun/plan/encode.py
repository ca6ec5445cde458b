# SPDX-License-Identifier: Apache-2.0
"""Operations to the bytes that ocirun-init reads, by the structs of `_native/abi.h` and nothing else."""

from __future__ import annotations

from sys import byteorder

from ocirun._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.plan.ops import Op, Text

_HEADER_SIZE: int = ffi.sizeof("struct ocirun_header")
_OP_SIZE: int = ffi.sizeof("struct ocirun_op")
_OPCODES: dict[str, int] = {
    name.removeprefix("OCIRUN_OP_"): value
    for value, name in ffi.typeof("enum ocirun_opcode").elements.items()
}


class _Blobs:
    """The area behind the operations: each distinct blob once, {size, bytes, NUL}, aligned to 4."""

    __slots__ = ("_known", "_next", "parts")

    def __init__(self, first: int) -> None:
        self.parts: list[bytes] = []
        self._known: dict[bytes, int] = {}
        self._next = first

    def add(self, content: bytes) -> int:
        offset = self._known.get(content)
        if offset is None:
            offset = self._known[content] = self._next
            size = len(content)
            padding = 4 - size % 4  # at least the NUL
            self.parts.append(size.to_bytes(4, byteorder))
            self.parts.append(content)
            self.parts.append(b"\0\0\0\0"[:padding])
            self._next += 4 + size + padding
        return offset



def _add_text(add: Callable[[bytes], int], text: Text) -> int:
    """Return the offset of a text's blob, 0 for an absent one and for an empty list."""
    if text is None or text == ():
        return 0
    if isinstance(text, str):
        return add(text.encode())
    if isinstance(text, bytes):
        return add(text)
    return add("\0".join(text).encode() + b"\0")


def encode(ops: Sequence[Op], slot_count: int, input_count: int, keep_count: int) -> bytes:
    """Return the plan as bytes; ocirun-init checks them whole before it does anything."""
    count = len(ops)
    blobs = _Blobs(_HEADER_SIZE + count * _OP_SIZE)
    add = blobs.add
    # One initializer for all: cffi fills nested tuples in C, a field at a time costs four times as much.
    records = ffi.new(
        "struct ocirun_op[]",
        [
            (
                _OPCODES[op.name],
                op.flags,
                add(op.origin.encode()) if op.origin else 0,
                (*op.slots, -1, -1)[:2],
                [_add_text(add, text) for text in op.texts],
                op.numbers,
            )
            for op in ops
        ],
    )
    body = b"".join(blobs.parts)
    header = ffi.new("struct ocirun_header *")
    header.magic = lib.OCIRUN_MAGIC
    header.abi = lib.OCIRUN_ABI
    header.total_size = _HEADER_SIZE + count * _OP_SIZE + len(body)
    header.op_count = count
    header.slot_count = slot_count
    header.input_count = input_count
    header.keep_count = keep_count
    return bytes(ffi.buffer(header)) + bytes(ffi.buffer(records)) + body
