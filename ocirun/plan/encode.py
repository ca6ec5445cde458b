# SPDX-License-Identifier: Apache-2.0
"""Operations to the bytes that ocirun-init reads, by the structs of `_native/abi.h` and nothing else."""

from __future__ import annotations

from sys import byteorder

from ocirun._native import ffi, lib
from ocirun.errors import UnsupportedFeature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op, Text

_HEADER_SIZE: int = ffi.sizeof("struct ocirun_header")
_OP_SIZE: int = ffi.sizeof("struct ocirun_op")
_OPCODES: dict[str, int] = {
    name.removeprefix("OCIRUN_OP_"): value
    for value, name in ffi.typeof("enum ocirun_opcode").elements.items()
}


class _Blobs:
    """The area behind the operations: each distinct text once, {size, bytes, NUL}, aligned to 4."""

    __slots__ = ("_known", "_known_bytes", "_next", "parts")

    def __init__(self, first: int) -> None:
        self.parts: list[bytes] = []
        # An absent text, an empty list and an empty origin are all offset 0.
        self._known: dict[object, int] = {None: 0, (): 0}
        # Apart, since "a" and b"a" have one hash, and to compare the two is an error under -bb.
        self._known_bytes: dict[object, int] = {}
        self._next = first

    def add(self, text: Text) -> int:
        """Return the offset of a text's blob."""
        known = self._known_bytes if isinstance(text, bytes) else self._known
        offset = known.get(text)
        if offset is not None:
            return offset
        if isinstance(text, str):
            content = text.encode()
        elif isinstance(text, bytes):
            content = text
        else:
            content = "\0".join(text or ()).encode() + b"\0"
        size = len(content)
        padding = 4 - size % 4  # at least the NUL
        self.parts += (size.to_bytes(4, byteorder), content, b"\0\0\0\0"[:padding])
        offset = known[text] = self._next
        self._next += 4 + size + padding
        return offset


def encode(ops: Sequence[Op], slot_count: int, input_count: int, keep_count: int) -> bytes:
    """Return the plan as bytes; ocirun-init checks them whole before it does anything.

    Errors: UnsupportedFeature where there are more operations or descriptors than the wire allows.
    """
    count = len(ops)
    if count > lib.OCIRUN_MAX_OPS:
        raise UnsupportedFeature(f"the plan has {count} operations, at most {lib.OCIRUN_MAX_OPS} are possible")
    if slot_count > lib.OCIRUN_MAX_SLOTS:
        raise UnsupportedFeature(f"the plan has {slot_count} descriptors, at most {lib.OCIRUN_MAX_SLOTS} are possible")
    blobs = _Blobs(_HEADER_SIZE + count * _OP_SIZE)
    add = blobs.add
    # One initializer for all: cffi fills nested tuples in C, a field at a time costs four times as much.
    records = ffi.new(
        "struct ocirun_op[]",
        [
            (
                _OPCODES[op.name],
                op.flags,
                add(op.origin or None),
                (*op.slots, -1, -1)[:2],
                tuple(map(add, op.texts)),
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
