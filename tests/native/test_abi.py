# SPDX-License-Identifier: Apache-2.0
"""One definition of the wire: what Python repeats of abi.h is what abi.h says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ocirun._native import MAX_MESSAGE, ffi, lib, site_name
from ocirun.init import protocol
from ocirun.plan import ops
from ocirun.plan.explain import describe
from ocirun.plan.ops import Op

NATIVE = Path(__file__).resolve().parents[2] / "ocirun" / "_native"
ABI = (NATIVE / "abi.h").read_text(encoding="utf-8")
OPCODES = {
    name.removeprefix("OCIRUN_OP_") for name in ffi.typeof("enum ocirun_opcode").elements.values()
} - {"INVALID", "COUNT"}
CONSTRUCTORS = {
    name: function
    for name, function in vars(ops).items()
    if inspect.isfunction(function) and function.__module__ == ops.__name__
}
# By annotation, and by name where the number must mean something.
_SAMPLES = {"str": "x", "str | None": "x", "Sequence[str]": ("x",), "bytes": b"12345678", "bytes | None": b"1234",
            "bool": True, "int": 1}  # fmt: skip
_MEANING = {
    ("open_namespace", "kind"): 0x20000000,
    ("join", "kind"): 0x20000000,
    ("propagation", "flags"): 1 << 18,
    ("unshare", "flags"): 0x20000000,
    ("fork", "clone_flags"): 0x20000000,
}


def sample(name: str) -> Op:
    """Return an operation made by a constructor, with some operands."""
    function = CONSTRUCTORS[name]
    arguments = {
        parameter.name: _MEANING.get((name, parameter.name), _SAMPLES[parameter.annotation])
        for parameter in inspect.signature(function).parameters.values()
    }
    op: Op = function(**arguments)
    return op


def test_sizes() -> None:
    """The structs have the sizes that the C pins."""
    assert ffi.sizeof("struct ocirun_header") == 32
    assert ffi.sizeof("struct ocirun_op") == 80
    assert ffi.sizeof("struct ocirun_message") == 32
    assert MAX_MESSAGE == 4096


def test_the_loaded_shim_is_of_this_source() -> None:
    """Every number of abi.h is the one that the compiled shim knows: none is out of date."""
    numbers = {name: int(value, 0) for name, value in re.findall(r"^#define (OCIRUN_\w+) (\w+)", ABI, re.MULTILINE)}
    assert len(numbers) > 20
    for name, value in numbers.items():
        assert getattr(lib, name) == value, name
    enumerators = re.findall(r"^\t(OCIRUN_(?:OP|SITE|MSG|BARRIER)_\w+)", ABI, re.MULTILINE)
    counts = {"OP": 0, "SITE": 0, "MSG": 0, "BARRIER": 1}
    for name in enumerators:
        kind = name.split("_")[1]
        assert getattr(lib, name) == counts[kind], name
        counts[kind] += 1


@pytest.mark.parametrize("name", sorted(CONSTRUCTORS))
def test_every_constructor_has_an_opcode(name: str) -> None:
    """A constructor makes the opcode of its own name, and that can be described in words."""
    op = sample(name)
    assert op.name == {"EXECUTE": "EXEC"}.get(name.upper(), name.upper())
    assert op.name in OPCODES
    words = describe(op)
    assert words.strip() == words
    assert "\n" not in words
    assert words


def test_every_opcode_has_a_constructor() -> None:
    """Nothing in abi.h is left that Python cannot say."""
    assert {sample(name).name for name in CONSTRUCTORS} == OPCODES


def test_every_opcode_has_a_shape_and_a_function() -> None:
    """The checker and the interpreter of ocirun-init know each opcode."""
    checker = (NATIVE / "plan.c").read_text(encoding="utf-8")
    interpreter = (NATIVE / "init.c").read_text(encoding="utf-8")
    for name in OPCODES:
        assert f"case OCIRUN_OP_{name}:" in checker, name
        assert f"case OCIRUN_OP_{name}:\n\t\treturn op_{name.lower()}(ctx);" in interpreter, name


def test_flags() -> None:
    """Every flag of abi.h has its twin in plan/ops.py, with the same value, and the reverse."""
    flags = {name: int(value) for name, value in re.findall(r"#define OCIRUN_FLAG_(\w+) (\d+)", ABI)}
    assert flags
    for name, value in flags.items():
        assert getattr(ops, name) == value, name
    ours = {name for name, value in vars(ops).items() if name.isupper() and isinstance(value, int)}
    others = {"HOOK_UMASK", "NO_SLOT", "SYNC_SLOT", "TYPE_CHECKING"} | {name for name in ours if name.startswith("BARRIER_")}
    assert ours - others == set(flags)


def test_flags_of_one_operation_differ() -> None:
    """Where two flags share a bit they belong to different operations."""
    users: dict[tuple[int, str], str] = {}
    for name, value, opcodes in re.findall(r"#define OCIRUN_FLAG_(\w+) (\d+)\s*/\* ([A-Z_, ]+):", ABI):
        assert int(value).bit_count() == 1, name
        for opcode in opcodes.split(", "):
            assert opcode in OPCODES, opcode
            assert users.setdefault((int(value), opcode), name) == name


def test_barriers_and_messages() -> None:
    """The barriers and the kinds of messages are the same numbers on both sides."""
    barriers = {name: value for name, value in vars(ops).items() if name.startswith("BARRIER_")}
    assert len(barriers) == len(re.findall(r"^\tOCIRUN_BARRIER_", ABI, re.MULTILINE))
    for name, value in barriers.items():
        assert getattr(lib, f"OCIRUN_{name}") == value
    for name in re.findall(r"^\tOCIRUN_MSG_(\w+)", ABI, re.MULTILINE):
        assert name == "INVALID" or getattr(protocol, name) == getattr(lib, f"OCIRUN_MSG_{name}")


def test_sites_have_names() -> None:
    """Every call site has a name of its own for messages."""
    names = {site_name(number) for number in range(1, lib.OCIRUN_SITE_COUNT)}
    assert len(names) == lib.OCIRUN_SITE_COUNT - 1
    assert all(re.fullmatch("[a-z0-9_]+", name) and not name.startswith("ocirun") for name in names)
    assert {"openat2", "move_mount", "execve"} <= names


def test_sites_are_used() -> None:
    """No call site is left over: each is named somewhere in the C."""
    sources = "".join(path.read_text() for path in NATIVE.glob("*.c") if path.name != "_shim.c")
    for name in re.findall(r"^\tOCIRUN_SITE_(\w+)", ABI, re.MULTILINE):
        used = f"OCIRUN_SITE_{name}" in sources or re.search(rf"\b(AT|TRY)\(ctx, {name},|AT\(&ctx, {name},", sources)
        assert used or name in ("NONE", "COUNT"), name
