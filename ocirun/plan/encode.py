# SPDX-License-Identifier: Apache-2.0
"""Operations to the bytes that ocirun-init reads, by the structs of `_native/abi.h` and nothing else."""

from __future__ import annotations

from sys import byteorder

from ocirun._native import ffi, lib
from ocirun.errors import UnsupportedFeature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op

_HEADER_SIZE: int = ffi.sizeof("struct ocirun_header")
_OP_SIZE: int = ffi.sizeof("struct ocirun_op")
_OPCODES: dict[str, int] = {
    name.removeprefix("OCIRUN_OP_"): value
    for value, name in ffi.typeof("enum ocirun_opcode").elements.items()
}


#: By the size's remainder: at least the NUL.
_PADDING = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")


class _Blobs(dict[object, int]):
    """The area behind the operations: each distinct text once, {size, bytes, NUL}, aligned to 4; text -> offset."""

    __slots__ = ("_next", "parts")

    def __init__(self, first: int) -> None:
        # An absent text, an empty list and an empty origin are all offset 0.
        super().__init__({None: 0, (): 0})
        self.parts: list[bytes] = []
        self._next = first

    def __missing__(self, text: str | tuple[str, ...]) -> int:
        """Add a text.  What a command line had in it that is not UTF-8 goes back to what it was."""
        if isinstance(text, str):
            content = text.encode("utf-8", "surrogateescape")
        else:
            content = "\0".join(text).encode("utf-8", "surrogateescape") + b"\0"
        offset = self[text] = self.append(content)
        return offset

    def append(self, content: bytes) -> int:
        """Add bytes: never looked up, since b"a" has the hash of "a", and to compare the two is an error under -bb."""
        offset = self._next
        size = len(content)
        self.parts += (size.to_bytes(4, byteorder), content, _PADDING[size & 3])
        self._next = offset + (size + 8 & ~3)
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
    # One initializer for all: cffi fills nested tuples in C, a field at a time costs four times as much.
    records = ffi.new(
        "struct ocirun_op[]",
        [
            (
                _OPCODES[op.name],
                op.flags,
                blobs[op.origin or None],
                (*op.slots, -1, -1)[:2] if op.slots else (-1, -1),
                [blobs.append(text) if isinstance(text, bytes) else blobs[text] for text in op.texts],
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
