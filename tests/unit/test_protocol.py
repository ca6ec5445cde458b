# SPDX-License-Identifier: Apache-2.0
"""Which messages a plan makes init send, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun._native import Message, ffi
from ocirun.errors import InternalError
from ocirun.init.protocol import AT_BARRIER, EXECUTING, FAILED, INIT_PID, NEED_ID_MAPS, PROCEED, START, Expected
from ocirun.plan import ops
from ocirun.plan.ops import Op
from ocirun.plan.plan import Plan
from ocirun.plan.slots import Slots

KINDS = (NEED_ID_MAPS, INIT_PID, AT_BARRIER, EXECUTING, FAILED, PROCEED, START, 0, 99)
BARRIERS = (
    ops.BARRIER_CGROUP,
    ops.BARRIER_LIMITS,
    ops.BARRIER_NETWORK,
    ops.BARRIER_CREATE_RUNTIME,
    ops.BARRIER_CREATED,
)


def message(kind: int, value: int = 0, **fields: int) -> Message:
    """Return a message as init sends it."""
    raw = ffi.new("struct ocirun_message *", {"kind": kind, "value": value, **fields})
    return Message(bytes(ffi.buffer(raw)), -1)


def plan(*operations: Op) -> Plan:
    return Plan(operations, Slots(), clone_flags=0, keep_count=0, two_steps=False, makes_user_namespace=False)


# (operation, the message that it makes init send, or none)
STEPS: list[tuple[Op, tuple[int, int] | None]] = [
    (ops.id_maps(ops.SETGROUPS, ""), (NEED_ID_MAPS, 0)),
    (ops.become(0, 0, 0, ""), None),
    (ops.fork(0, ""), (INIT_PID, 0)),
    *((ops.barrier(which), (AT_BARRIER, which)) for which in BARRIERS),
    (ops.setsid(), None),
    (ops.hostname("x"), None),
    (ops.pivot(0), None),
    (ops.execute(["a"], [], 0, ""), None),
]
PLANS: Any = st.lists(st.sampled_from(STEPS), max_size=12)


@given(PLANS)
def test_the_owed_messages_are_taken_in_order(steps: list[tuple[Op, tuple[int, int] | None]]) -> None:
    """Exactly the messages of the plan's operations, one after another, and then it is done."""
    expected = Expected(plan(*(op for op, _ in steps)))
    for owed in [owed for _, owed in steps if owed is not None]:
        assert not expected.done
        assert expected.take(message(*owed)) == owed
    assert expected.done


@given(PLANS, st.integers(0, 12), st.sampled_from(KINDS), st.integers(0, 6))
def test_anything_else_is_an_error(
    steps: list[tuple[Op, tuple[int, int] | None]], at: int, kind: int, value: int
) -> None:
    """A message out of turn, at any point, is an InternalError, and moves nothing."""
    expected = Expected(plan(*(op for op, _ in steps)))
    owed = [owed for _, owed in steps if owed is not None]
    for each in owed[:at]:
        expected.take(message(*each))
    at = min(at, len(owed))
    if at < len(owed) and owed[at] == (kind, value):
        return
    with pytest.raises(InternalError) as info:
        expected.take(message(kind, value))
    assert info.value.code == "internal"
    assert ("nothing more" in str(info.value)) == (at == len(owed))
    for each in owed[at:]:
        assert expected.take(message(*each)) == each


def test_messages_say_what_they_are() -> None:
    """The error names both messages in words."""
    expected = Expected(plan(ops.fork(0, "")))
    with pytest.raises(InternalError, match="said AT_BARRIER 3, expected INIT_PID"):
        expected.take(message(AT_BARRIER, 3))


@given(st.binary(max_size=100))
def test_short_messages_are_refused(content: bytes) -> None:
    """Bytes that are no whole message are an InternalError; sizes that lie only shorten texts."""
    size = ffi.sizeof("struct ocirun_message")
    if len(content) < size:
        with pytest.raises(InternalError):
            Message(content, -1)
    else:
        decoded = Message(content, -1)
        assert len(decoded.origin.encode("utf-8", "replace")) <= 3 * (len(content) - size)
        assert len(decoded.detail.encode("utf-8", "replace")) <= 3 * (len(content) - size)
