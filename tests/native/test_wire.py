# SPDX-License-Identifier: Apache-2.0
"""What Python encodes is what the C reads (S-49): every operation, every length, nothing cut, wrapped or mixed up."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native.building import tool

from ocirun._native import ffi, lib
from ocirun.errors import UnsupportedFeature
from ocirun.plan import ops
from ocirun.plan.encode import encode
from ocirun.plan.ops import Op

SLOTS = 40
OPCODES = {
    name.removeprefix("OCIRUN_OP_"): number
    for number, name in ffi.typeof("enum ocirun_opcode").elements.items()
}
CONSTRUCTORS = {
    name: function
    for name, function in vars(ops).items()
    if inspect.isfunction(function) and function.__module__ == ops.__name__
}

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
_LIST = st.lists(_TEXT, max_size=5)
_NUMBER = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from((0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)))
_SLOT = st.integers(0, SLOTS - 1)
_ANY_SLOT = st.integers(-1, SLOTS - 1)
_SLOT_NAMES = {"slot": _SLOT, "kept": _ANY_SLOT, "base": _ANY_SLOT, "agent_slot": _ANY_SLOT, "text_slot": _ANY_SLOT}
_BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": _TEXT,
    "str | None": st.none() | _TEXT,
    "Sequence[str]": _LIST,
    "bool": st.booleans(),
    "int": _NUMBER,
}


def _words(size: int, at_least: int = 0) -> st.SearchStrategy[bytes]:
    return st.integers(at_least, 10).flatmap(lambda count: st.binary(min_size=size * count, max_size=size * count))


# What the checker asks for beside the types.
_SPECIAL: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("barrier", "slot"): _ANY_SLOT,
    ("scheduler", "times"): st.binary(min_size=24, max_size=24),
    ("ids", "groups"): st.none() | _words(4),
    ("memory_policy", "mask"): st.none() | _words(8, 1),
    ("memory_policy", "bits"): st.just(64),
    ("seccomp", "program"): _words(8, 1),
    ("hook", "pid_offset"): st.just(0),
    ("bounding", "kept"): _NUMBER,
}


def _operation(name: str) -> st.SearchStrategy[Op]:
    """Return operations of one constructor, with any operands that it may be given."""
    function = CONSTRUCTORS[name]
    arguments = {}
    for parameter in inspect.signature(function).parameters.values():
        strategy = _SPECIAL.get((name, parameter.name))
        if strategy is None and parameter.name == "flags" and name not in ("unshare", "propagation", "seccomp"):
            strategy = st.integers(0, 2**16 - 1)
        if strategy is None and parameter.annotation == "int":
            strategy = _SLOT_NAMES.get(parameter.name)
        arguments[parameter.name] = _BY_ANNOTATION[parameter.annotation] if strategy is None else strategy
    return st.fixed_dictionaries(arguments).map(lambda values: function(**values))


_OPERATIONS = st.one_of([_operation(name) for name in sorted(CONSTRUCTORS) if name != "execute"])
_EXECUTE = _operation("execute").filter(lambda op: op.numbers[0] > 0)


def decode(content: bytes, path: Path) -> tuple[list[int], list[list[Any]]]:
    """Return what the C makes of a plan: the header's numbers, and for each operation all that it holds."""
    path.write_bytes(content)
    done = subprocess.run([tool("dump_plan", "-O1"), path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"refused: {done.returncode}"
    header, *lines = done.stdout.splitlines()
    decoded = []
    for line in lines:
        words = line.split(" ")
        texts = [None if word == "-" else bytes.fromhex(word[1:]) for word in words[10:]]
        decoded.append([*map(int, words[:10]), *texts])
    return [int(word) for word in header.split()], decoded


def expected(op: Op) -> list[Any]:
    """Return the same for an operation as Python has it."""

    def blob(text: object) -> bytes | None:
        if text is None or text == ():
            return None
        if isinstance(text, tuple):
            return b"".join(each.encode() + b"\0" for each in text)
        return text.encode() if isinstance(text, str) else bytes(text)  # type: ignore[call-overload,no-any-return]

    slots = [*op.slots, -1, -1][:2]
    numbers = [*op.numbers, 0, 0, 0, 0, 0, 0][:6]
    texts = [*map(blob, op.texts), None, None, None, None][:4]
    return [OPCODES[op.name], op.flags, *slots, *numbers, blob(op.origin or None), *texts]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(_OPERATIONS, max_size=12), _EXECUTE, st.integers(1, SLOTS), st.integers(0, 100))
def test_c_reads_what_python_wrote(
    tmp_path: Path, operations: list[Op], last: Op, inputs: int, keep: int
) -> None:
    """Any operations with any operands come out of the C as they went into the encoder."""
    plan = [*operations, last]
    content = encode(plan, SLOTS, inputs, keep)
    header, decoded = decode(content, tmp_path / "plan")
    assert header == [len(content), len(plan), SLOTS, inputs, keep]
    assert decoded == [expected(op) for op in plan]


LENGTHS = (0, 1, 2, 3, 4, 5, 65535, 65536, 65537, 2**20)


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int, tmp_path: Path) -> None:
    """S-49: no length of a text, a list's entry or an origin wraps or is cut (CVE-2021-43784)."""
    text = ("0123456789abcdef" * (length // 16 + 1))[:length]
    plan = [
        ops.sysctl(text, "v", "/" + text),
        ops.mount("tmpfs", text, [text, "size=1m"], "/" + text, "/mounts/0"),
        ops.execute(["a" + text, text], ["A=" + text], 0, "", text),
    ]
    content = encode(plan, 2, 1, 0)
    assert decode(content, tmp_path / "plan")[1] == [expected(op) for op in plan]
    # Behind each text stands a NUL, so that C may take it as a string.
    assert content.count(text.encode() + b"\0") >= 3


def test_many(tmp_path: Path) -> None:
    """S-49: 100,000 variables and 60,000 operations are no more special than one."""
    plan = [
        *(ops.directory(f"/directory-{number}", f"/mounts/{number}") for number in range(60000)),
        ops.execute(["a"], [f"VARIABLE{number}=value" for number in range(100000)], 0, ""),
    ]
    assert decode(encode(plan, 1, 1, 0), tmp_path / "plan")[1] == [expected(op) for op in plan]


def test_limits(tmp_path: Path) -> None:
    """S-49: up to its limits a plan works; beyond them the encoder says which was met."""
    last = ops.execute(["a"], [], 0, "")
    many = [ops.setsid()] * (lib.OCIRUN_MAX_OPS - 1)
    longest = ops.chdir("x" * lib.OCIRUN_MAX_TEXT, "")
    for plan, slots in (([*many, last], 1), ([last], lib.OCIRUN_MAX_SLOTS), ([longest, last], 1)):
        assert len(decode(encode(plan, slots, 1, 0), tmp_path / "plan")[1]) == len(plan)
    with pytest.raises(UnsupportedFeature, match="65537 operations"):
        encode([ops.setsid(), *many, last], 1, 1, 0)
    with pytest.raises(UnsupportedFeature, match="16385 descriptors"):
        encode([last], lib.OCIRUN_MAX_SLOTS + 1, 1, 0)


def test_text_and_bytes_are_never_compared() -> None:
    """S-69: under -bb a plan with "" and b"" is encoded, and each is what it was."""
    code = (
        "from ocirun.plan import ops; from ocirun.plan.encode import encode;"
        "encode([ops.sysctl('a', '', ''), ops.ids(0, 0, b'', ''), ops.execute(['a'], [], 0, '')], 1, 1, 0)"
    )
    done = subprocess.run([sys.executable, "-P", "-bb", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
