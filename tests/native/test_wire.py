# SPDX-License-Identifier: Apache-2.0
"""What Python encodes is what the C reads (S-49): every operation, every length, nothing cut, wrapped or mixed up."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native.building import tool

from ocirun import _native
from ocirun._native import ffi, lib
from ocirun.errors import UnsupportedFeature
from ocirun.init import protocol
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
_SLOT_NAMES = dict.fromkeys(("slot", "namespace_slot"), _SLOT) | dict.fromkeys(
    ("kept", "base", "agent_slot", "text_slot", "node_slot"), _ANY_SLOT
)
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
    ("barrier", "sent"): _ANY_SLOT,
    ("scheduler", "times"): st.binary(min_size=24, max_size=24),
    ("ids", "groups"): st.none() | _words(4),
    ("memory_policy", "mask"): st.none() | _words(8, 1),
    ("memory_policy", "bits"): st.just(64),
    ("affinity", "mask"): _words(8),
    ("seccomp", "program"): _words(8, 1),
    ("hook", "pid_offset"): st.just(0),
    ("hook", "following"): st.just(0),
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


_OPERATIONS = st.one_of([_operation(name) for name in sorted(CONSTRUCTORS) if name not in ("execute", "end")])
_LAST = _operation("execute").filter(lambda op: op.numbers[0] > 0) | st.just(ops.end())


def is_refused(content: bytes, path: Path) -> bool:
    """Say whether the checker refuses these bytes."""
    path.write_bytes(content)
    done = subprocess.run([tool("dump_plan", "-O1"), path], capture_output=True, check=False)
    assert done.returncode in (0, 1)
    return done.returncode == 1


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
@given(st.lists(_OPERATIONS, max_size=12), _LAST, st.integers(1, SLOTS), st.integers(0, 100))
def test_c_reads_what_python_wrote(
    tmp_path: Path, operations: list[Op], last: Op, inputs: int, keep: int
) -> None:
    """Any operations with any operands come out of the C as they went into the encoder."""
    plan = [*operations, last]
    content = encode(plan, SLOTS, inputs, keep)
    header, decoded = decode(content, tmp_path / "plan")
    assert header == [len(content), len(plan), SLOTS, inputs, keep]
    assert decoded == [expected(op) for op in plan]


HOOK_PARTS = [ops.no_new_privileges(), ops.seccomp(bytes(8), 0), ops.capabilities(0, 0, 0, 0)]
LAST = ops.execute(("x",), (), 0, "")


def hook(following: int) -> Op:
    return ops.hook("/h", (), (), "{}", 0, 0, "/hooks/startContainer/0", following)


@pytest.mark.parametrize(
    ("plan", "refused"),
    [
        ([hook(3), *HOOK_PARTS, LAST], False),
        ([hook(0), *HOOK_PARTS, LAST], False),
        ([hook(1), ops.no_new_privileges(), hook(1), ops.no_new_privileges(), LAST], False),
        ([*HOOK_PARTS, hook(1), LAST], True),  # not to EXEC,
        ([*HOOK_PARTS, hook(2), LAST], True),  # nor beyond it,
        ([hook(2**64 - 1), *HOOK_PARTS, LAST], True),
        ([hook(2**32), *HOOK_PARTS, LAST], True),
        ([hook(1), ops.setsid(), LAST], True),  # nor what is not for a hook,
        ([hook(2), ops.no_new_privileges(), hook(0), LAST], True),
        ([hook(1), ops.seccomp(bytes(8), 0, 0, 0), LAST], True),  # nor with the agent
    ],
)
def test_what_belongs_to_a_hook(tmp_path: Path, plan: list[Op], refused: bool) -> None:
    """The operations that a hook's process does are in the plan, and of the kinds that it can do."""
    assert is_refused(encode(plan, 1, 1, 0), tmp_path / "plan") == refused


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


END = ops.execute(["a"], [], 0, "")
HOOK_TEXTS = ("/hook", ("/hook",), (), "{}")
# Each breaks one rule of the checker; the operation beside it keeps the rule.
BROKEN = {
    "a text too many": (Op("SETSID", "", ("x",)), Op("SETSID", "")),
    "a text too few": (Op("CHDIR", "", (None,)), Op("CHDIR", "", ("/",))),
    "NUL in a text": (Op("CHDIR", "", ("/a\0b",)), Op("CHDIR", "", ("/ab",))),
    "NUL in an origin": (Op("SETSID", "/a\0b"), Op("SETSID", "/ab")),
    "fewer entries than said": (
        Op("REMOUNT", "", (None, None, ("a",), "/"), (0, 0, 0, 2)), ops.remount("/", "", options=("a", "b"))
    ),
    "more entries than said": (
        Op("REMOUNT", "", (None, None, ("a", "b"), "/"), (0, 0, 0, 1)), ops.remount("/", "", options=("a",))
    ),
    "entries, but no list": (Op("REMOUNT", "", (None, None, (), "/"), (0, 0, 0, 1)), ops.remount("/", "")),
    "more entries than memory": (
        Op("REMOUNT", "", (None, None, ("a",), "/"), (0, 0, 0, 2**64 - 1)), ops.remount("/", "", options=("a",))
    ),
    "the last entry does not end": (
        Op("REMOUNT", "", (None, None, b"a\0b", "/"), (0, 0, 0, 1)), ops.remount("/", "", options=("a",))
    ),
    "a slot too many": (Op("SETSID", "", (), (), (1,)), Op("SETSID", "")),
    "a slot too few": (Op("JOIN", "", (), (1,)), Op("JOIN", "", (), (1,), (1,))),
    "a slot out of range": (Op("JOIN", "", (), (1,), (SLOTS,)), Op("JOIN", "", (), (1,), (SLOTS - 1,))),
    "a slot below none": (Op("BARRIER", "", (), (1,), (-2,)), Op("BARRIER", "", (), (1,), (-1,))),
    "the second slot out of range": (Op("ANNOUNCE", "", (), (), (1, SLOTS)), ops.announce(1, 2)),
    "half a group": (ops.ids(0, 0, b"123456", ""), ops.ids(0, 0, b"12345678", "")),
    "times of two": (ops.scheduler(6, 0, 0, 0, bytes(16)), ops.scheduler(6, 0, 0, 0, bytes(24))),
    "half a word of nodes": (ops.memory_policy(2, bytes(12), 64), ops.memory_policy(2, bytes(16), 64)),
    "more nodes than bits": (ops.memory_policy(2, bytes(8), 65), ops.memory_policy(2, bytes(8), 64)),
    "half an instruction": (ops.seccomp(bytes(12), 0), ops.seccomp(bytes(16), 0)),
    "no instruction": (ops.seccomp(b"", 0), ops.seccomp(bytes(8), 0)),
    "too many instructions": (ops.seccomp(bytes(8 * 65536), 0), ops.seccomp(bytes(8 * 65535), 0)),
    "the pid goes beyond the state": (Op("HOOK", "", HOOK_TEXTS, (1, 0, 0, 3)), Op("HOOK", "", HOOK_TEXTS, (1, 0, 0, 2))),
    "the end in the middle": (END, ops.setsid()),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_checker_refuses(what: str, tmp_path: Path) -> None:
    """Each rule of the checker: the operation that breaks it is refused, the one that just keeps it is taken."""
    broken, kept = BROKEN[what]
    assert is_refused(encode([broken, END], SLOTS, 1, 0), tmp_path / "plan")
    assert not is_refused(encode([kept, END], SLOTS, 1, 0), tmp_path / "plan")


# Words of the header, by offset: a value that must be refused.
HEADERS = {
    "magic": (0, 0x6E72636E),
    "abi": (4, 0),
    "total size, more": (8, None),
    "no operation": (12, 0),
    "too many operations": (12, 0xFFFFFFFF),
    "no slot": (16, 0),
    "too many slots": (16, lib.OCIRUN_MAX_SLOTS + 1),
    "no input": (20, 0),
    "more inputs than slots": (20, SLOTS + 1),
    "too many kept": (24, lib.OCIRUN_MAX_SLOTS + 1),
    "reserved": (28, 1),
}


@pytest.mark.parametrize("what", HEADERS)
def test_checker_refuses_headers(what: str, tmp_path: Path) -> None:
    """Each rule about the header."""
    content = encode([ops.setsid(), END], SLOTS, 1, 0)
    assert not is_refused(content, tmp_path / "plan")
    offset, value = HEADERS[what]
    word = (len(content) + 4 if value is None else value).to_bytes(4, sys.byteorder)
    assert is_refused(content[:offset] + word + content[offset + 4 :], tmp_path / "plan")


def test_checker_refuses_what_does_not_end(tmp_path: Path) -> None:
    """A plan ends in an EXEC with a program or in END, and has no other: init never falls off its end."""
    nothing, end = ops.execute([], [], 0, ""), ops.end()
    for plan in ([], [ops.setsid()], [nothing], [end, ops.setsid()], [end, end], [END, end], [end, END]):
        assert is_refused(encode(plan, SLOTS, 1, 0), tmp_path / "plan")


@pytest.mark.parametrize("opcode", [0, lib.OCIRUN_OP_COUNT, lib.OCIRUN_OP_COUNT + 1, 255, 65535])
def test_checker_refuses_unknown_opcodes(opcode: int, tmp_path: Path) -> None:
    """Whatever is no opcode of abi.h ends init before it does anything."""
    content = encode([ops.setsid(), END], SLOTS, 1, 0)
    at = ffi.sizeof("struct ocirun_header")
    changed = content[:at] + opcode.to_bytes(2, sys.byteorder) + content[at + 2 :]
    assert is_refused(changed, tmp_path / "plan")


def test_last_words_of_who_did_not_read_ours() -> None:
    """The reset of a connection that ended with a message of ours unread hides nothing of what was said before."""
    ours, theirs = _native.socketpair()
    try:
        _native.send(theirs, protocol.FAILED)
        _native.send(theirs, protocol.EXECUTING)
        _native.send(ours, protocol.PROCEED)
    finally:
        os.close(theirs)
    try:
        said = [_native.receive(ours, 60.0) for _ in range(3)]
    finally:
        os.close(ours)
    assert [message and message.kind for message in said] == [protocol.FAILED, protocol.EXECUTING, None]
