# SPDX-License-Identifier: Apache-2.0
"""`process` as operations: the values that the kernel is given."""

from __future__ import annotations

import resource
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.plan import ops
from ocirun.plan.ops import Op
from ocirun.plan.process import (
    CAPABILITY_BITS,
    CAPABILITY_NAMES,
    RLIMITS,
    CapabilitySets,
    build_executable,
    build_identity,
    build_last_steps,
    build_limits,
    build_scheduling,
)
from ocirun.spec.model import Capabilities, Linux, Process

NAMES = st.lists(st.sampled_from([*CAPABILITY_BITS, "CAP_FROM_THE_FUTURE", "CAP_"]), max_size=8)
SETS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), NAMES)
)
NOTHING = CapabilitySets(None, 0)


def process(**members: Any) -> Process:
    return Process.decode({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}, **members})


def linux(**members: Any) -> Linux:
    return Linux.decode({"namespaces": [], **members})


def test_limits_have_the_kernels_numbers() -> None:
    """Every limit that this Python knows has the same number here."""
    known = {name: value for name, value in vars(resource).items() if name.startswith("RLIMIT_") and name in RLIMITS}
    assert len(known) >= 14
    assert {name: RLIMITS[name] for name in known} == known
    assert sorted(RLIMITS.values()) == list(range(16))


@given(SETS, st.integers(0, 2**41 - 1))
def test_sets_are_cut_down_to_what_is_there(sets: dict[str, list[str]], available: int) -> None:
    """The result holds nothing that was not asked for or is not available, and obeys the kernel's inclusions."""
    found = CapabilitySets(Capabilities.decode(sets), available)
    masks = {name: getattr(found, name) for name in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    for name, mask in masks.items():
        asked = sum({CAPABILITY_BITS.get(word, 0) for word in sets.get(name, ())})
        assert mask & ~(asked & available) == 0
        if name in ("bounding", "permitted"):
            assert mask == asked & available
    assert masks["effective"] & ~masks["permitted"] == 0
    assert masks["inheritable"] & ~masks["bounding"] == 0
    assert masks["ambient"] & ~(masks["permitted"] & masks["inheritable"]) == 0
    lost = [
        word for words in sets.values() for word in words if not CAPABILITY_BITS.get(word, 0) & available
    ]
    # config.md: what cannot be given is a warning; each name once.
    assert set(found.unknown) == set(lost)
    assert len(found.unknown) == len(set(lost))
    # So is what is available but cannot be in the set.
    assert sorted((kind, word) for kind, word, _ in found.withheld) == sorted(
        (kind, word)
        for kind, words in sets.items()
        for word in set(words)
        if CAPABILITY_BITS.get(word, 0) & available & ~masks[kind]
    )


def test_no_capabilities_is_none() -> None:
    """An absent object asks for nothing."""
    assert [getattr(NOTHING, name) for name in ("bounding", "effective", "inheritable", "permitted", "ambient")] == [0] * 5


def test_capability_numbers() -> None:
    """capabilities(7): the first, the last and a few that everybody knows."""
    numbers = {"CHOWN": 0, "KILL": 5, "SETPCAP": 8, "NET_RAW": 13, "SYS_ADMIN": 21, "SETFCAP": 31, "CHECKPOINT_RESTORE": 40}
    assert {name: CAPABILITY_NAMES.index(name) for name in numbers} == numbers
    assert len(set(CAPABILITY_NAMES)) == 41


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.booleans())
def test_groups(groups: list[int], privileged: bool) -> None:
    """Exactly the groups of the document, always set where that is possible: the caller's must not survive (V-10)."""
    built = build_identity(
        process(user={"uid": 5, "gid": 6, "additionalGids": groups}),
        NOTHING,
        last_capability=40,
        hold_admin=False,
        set_groups=privileged,
    )
    (ids,) = [op for op in built if op.name == "IDS"]
    assert ids.numbers == (5, 6)
    if privileged:
        assert isinstance(ids.texts[0], bytes)
        words = memoryview(ids.texts[0]).cast("I")
        assert list(words) == groups
    else:
        assert ids.texts == (None,)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 70)), min_size=1, max_size=4))
def test_node_masks(pairs: list[tuple[int, int]]) -> None:
    """set_mempolicy(2): an array of 64-bit words in this machine's order, lowest nodes first, and its size in bits."""
    text = ",".join(f"{first}-{first + more}" for first, more in pairs)
    (op,) = build_scheduling(process(), linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": text, "flags": []}))
    nodes = {node for first, more in pairs for node in range(first, first + more + 1)}
    mask = op.texts[0]
    assert isinstance(mask, bytes)
    words = memoryview(mask).cast("Q")
    assert {64 * index + bit for index, word in enumerate(words) for bit in range(64) if word >> bit & 1} == nodes
    assert op.numbers[1] == 64 * len(words)


@given(st.integers(-20, 19), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_scheduler(nice: int, runtime: int, deadline: int, period: int) -> None:
    """sched_setattr(2): a negative nice value keeps its 32 bits, the three times are 64-bit nanoseconds."""
    scheduler = {"policy": "SCHED_DEADLINE", "nice": nice, "runtime": runtime, "deadline": deadline, "period": period,
                 "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_RECLAIM"]}  # fmt: skip
    (op,) = build_scheduling(process(scheduler=scheduler), linux())
    assert op.numbers == (6, 3, nice & 0xFFFFFFFF, 0)
    assert isinstance(op.texts[0], bytes)
    assert list(memoryview(op.texts[0]).cast("Q")) == [runtime, deadline, period]


def test_io_priority() -> None:
    """ioprio_set(2): the class above thirteen bits of level."""
    (op,) = build_scheduling(process(ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 7}), linux())
    assert op.numbers == (3 << 13 | 7,)


@given(st.lists(st.tuples(st.sampled_from(sorted(RLIMITS)), st.integers(0, 2**64 - 1)), max_size=5))
def test_rlimits(limits: list[tuple[str, int]]) -> None:
    """Each limit in the order of the list, infinity as 2^64 - 1, located."""
    asked = [{"type": kind, "soft": value // 2, "hard": value} for kind, value in limits]
    built = build_limits(process(rlimits=asked))
    assert [op.numbers for op in built] == [(RLIMITS[kind], value // 2, value) for kind, value in limits]
    assert [op.origin for op in built] == [f"/process/rlimits/{index}" for index in range(len(limits))]
    assert not any(op.flags for op in built)
    assert all(op.flags == ops.RAISE for op in build_limits(process(rlimits=asked), raise_only=True))


@pytest.mark.parametrize(
    ("env", "path", "home"),
    [
        ((), None, True),
        (("PATH=/bin",), "/bin", True),
        (("PATH=", "HOME=/"), "", False),
        (("PATH=/a", "PATH=/b"), "/b", True),
        (("XPATH=/a", "HOMES=x"), None, True),
        (("HOME=",), None, False),
    ],
)
def test_lookup(env: tuple[str, ...], path: str | None, home: bool) -> None:
    """args[0] is looked up in the container's PATH, the last of two; HOME is found out where it was not given."""
    built = build_executable(process(args=["sh"], user={"uid": 7, "gid": 0}), env)
    assert built[0] == ops.find_executable("sh", path)
    assert [op.numbers for op in built[1:]] == [(7,)] * home


class Filter:
    """A compiled filter, as far as a plan is concerned."""

    program = bytes(8)
    flags = 0


@pytest.mark.parametrize("restricted", [False, True])
def test_nothing_is_called_under_the_filter(restricted: bool) -> None:
    """Between filter and execve: with no_new_privs nothing, without it the fall of what loading took."""
    sets = CapabilitySets(Capabilities.decode({"permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}), 2**41 - 1)
    filter_: Any = Filter()
    steps: list[Op] = build_last_steps(process(noNewPrivileges=restricted), sets, (), filter_, -1, -1)
    names = [op.name for op in steps]
    under = names[names.index("SECCOMP") + 1 :]
    assert under == (["EXEC"] if restricted else ["CAPABILITIES", "EXEC"])
    assert ("NO_NEW_PRIVILEGES" in names) == restricted
    if not restricted:
        assert steps[-2].flags & ops.FINAL
        assert steps[-2].numbers == (1 << 5, 1 << 5, 0, 0)


@pytest.mark.parametrize(("umask", "wanted"), [(None, 0o022), (0, 0), (0o77, 0o77)])
def test_umask(umask: int | None, wanted: int) -> None:
    """D12: without one in the document 0022, as engines rely on."""
    user: dict[str, Any] = {"uid": 0, "gid": 0}
    if umask is not None:
        user["umask"] = umask
    assert build_last_steps(process(user=user), NOTHING, (), None, -1, -1)[-1].numbers[2] == wanted


def test_byte_order_of_the_tests() -> None:
    """The casts above read this machine's order, as the kernel does."""
    assert list(memoryview((1).to_bytes(4, sys.byteorder)).cast("I")) == [1]
