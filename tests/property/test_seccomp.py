# SPDX-License-Identifier: Apache-2.0
"""Compiled seccomp filters answer what their profiles say."""

from __future__ import annotations

import copy
import json

import bpf
import pytest
import seccomp_model
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocirun.plan import seccomp_cache, seccomp_program
from ocirun.plan.seccomp import compile_profile
from ocirun.plan.seccomp_compile import FLAGS

NAMES = [
    *("read", "write", "openat", "clone", "personality", "ioctl", "mmap", "setns", "close_range"),
    *("socket", "connect", "accept4", "semget", "shmat", "socketcall", "ipc", "_llseek"),
    *("rt_sigaction", "futex_waitv", "cacheflush", "set_tls"),
]
ARCHITECTURES = list(seccomp_model.AUDIT)
PLAIN_ACTIONS = [name for name in seccomp_model.ACTIONS if name != "SCMP_ACT_NOTIFY"]
OPERATORS = [f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")]
EDGES = [0, 1, 2, 16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]

values = st.one_of(st.sampled_from(EDGES), st.integers(0, 8), st.integers(0, 2**64 - 1))
arguments = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "value": values, "op": st.sampled_from(OPERATORS)},
    optional={"valueTwo": values},
)


@st.composite
def with_action(draw: st.DrawFn, name_key: str, number_key: str, names: list[str]) -> dict:
    """An action under *name_key*, with a number where it can have one."""
    result: dict = {name_key: draw(st.sampled_from(names))}
    if result[name_key] in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} and draw(st.booleans()):
        result[number_key] = draw(st.sampled_from([0, 1, 13, 38, 4095]))
    return result


@st.composite
def profiles(draw: st.DrawFn) -> dict:
    """Valid profiles whose rules get in each other's way."""
    profile = draw(with_action("defaultAction", "defaultErrnoRet", PLAIN_ACTIONS))
    profile["architectures"] = draw(
        st.lists(st.sampled_from([f"SCMP_ARCH_{name.upper()}" for name in ARCHITECTURES]), max_size=3)
    )
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    profile["flags"] = draw(st.lists(st.sampled_from(sorted(FLAGS)), max_size=2))
    profile["syscalls"] = []
    for _ in range(draw(st.integers(0, 6))):
        rule = draw(with_action("action", "errnoRet", [*PLAIN_ACTIONS, "SCMP_ACT_NOTIFY"]))
        rule["names"] = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
        rule["args"] = draw(st.lists(arguments, max_size=4))
        if rule["action"] == "SCMP_ACT_NOTIFY":
            rule["names"] = [name for name in rule["names"] if name != "write"] or ["ioctl"]
        profile["syscalls"].append(rule)
    profile["listenerPath"] = "/run/agent"
    return profile


def numbers_of_interest(profile: dict, arch: str) -> list[int]:
    """Return the named numbers of an architecture, their neighbours, and some far ones."""
    names = {name for rule in profile["syscalls"] for name in rule["names"]} | {"socketcall", "ipc"}
    near = {
        (number + step) % 2**32
        for number, name in seccomp_model.table(arch).items()
        if name in names
        for step in (-1, 0, 1)
    }
    far = {0, 600, 9999, 0xEFFFF, 0xF0000, 0x3FFFFFFF, 0x40000000, 0x400001FF, 0x40000200, 0xFFFFFFFF}
    return sorted(near | far)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@given(profile=profiles(), calls=st.lists(st.lists(values, min_size=6, max_size=6), min_size=1, max_size=6), data=st.data())
@settings(deadline=None, max_examples=40)
def test_filter_answers_what_the_profile_says(arch: str, profile: dict, calls: list[list[int]], data: st.DataObject) -> None:
    """S-56: on every architecture and for every call, the program returns what the plain reading says."""
    profile["architectures"].append(f"SCMP_ARCH_{arch.upper()}")
    program = bpf.decode(compile_profile(profile, cache_dir=None).program)
    used = [
        (arg[key] + step) % 2**64
        for rule in profile["syscalls"]
        for arg in rule["args"]
        for key in ("value", "valueTwo")
        if key in arg
        for step in (-1, 0, 0, 1)
    ]
    chance = data.draw(st.randoms(use_true_random=False))
    if used:
        calls = calls + [[chance.choice(used) for _ in range(6)] for _ in range(12)]
    calls = calls + [[number, *calls[0][1:]] for number in (1, 2, 3)]  # parts of socketcall and ipc
    for each in (arch, chance.choice(ARCHITECTURES)):
        audit = seccomp_model.AUDIT[each]
        for number in numbers_of_interest(profile, each):
            for args in calls:
                got = bpf.run_decoded(program, bpf.seccomp_data(audit, number, tuple(args)))
                wanted = seccomp_model.answer(profile, audit, number, tuple(args))
                assert got == wanted, (each, number, [hex(arg) for arg in args])


@given(arguments, values, st.sampled_from([32, 64]))
@settings(max_examples=500)
@example({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 2**32 + 1, "valueTwo": 2**32}, 0, 32)
@example({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 1, "valueTwo": 3}, 1, 64)
def test_narrowing_keeps_the_meaning(arg: dict, argument: int, width: int) -> None:
    """A comparator means the same before and after it was fitted to the width of arguments."""
    argument %= 2**width
    operator = OPERATORS.index(arg["op"]) + 1
    whole = (arg["index"], operator, arg["value"], arg.get("valueTwo", 0))
    wanted = seccomp_model.compare(arg["op"], argument, arg["value"], arg.get("valueTwo", 0))
    narrowed = seccomp_program.narrow(whole, width)
    if isinstance(narrowed, bool):
        assert narrowed == wanted
    else:
        index, operator, value, second = narrowed
        assert value < 2**width
        assert second < 2**width
        assert index == arg["index"]
        assert seccomp_model.compare(OPERATORS[operator - 1], argument, value, second) == wanted


def changed(value: object) -> list[object]:
    """Return variants of a JSON value, each different in one place."""
    if isinstance(value, dict):
        result: list[object] = [{k: v for k, v in value.items() if k != key} for key in value]
        result += [{**value, key: variant} for key in value for variant in changed(value[key])]
        result.append({**value, "unknown": 1})
    elif isinstance(value, list):
        result = [value[:i] + value[i + 1 :] for i in range(len(value))]
        result += [[*value[:i], v, *value[i + 1 :]] for i in range(len(value)) for v in changed(value[i])]
        result.append([*value, value[0] if value else 0])
        result.append([*value[1:], *value[:1]])
    elif isinstance(value, str):
        result = [value + "X", ""]
    else:
        result = [value + 1, None] if isinstance(value, int) else [0]
    return result


@given(profiles())
def test_key_covers_every_field(profile: dict) -> None:
    """W19: profiles that differ anywhere but in the listener have different keys; equal ones have one."""
    del profile["listenerPath"]
    key = seccomp_cache.digest(profile, 1)
    again = json.loads(json.dumps(dict(reversed(profile.items()))))
    assert seccomp_cache.digest(again, 1) == key
    for variant in changed(profile):
        if variant != profile:
            assert seccomp_cache.digest(variant, 1) != key, variant  # type: ignore[arg-type]
    listening = {**copy.deepcopy(profile), "listenerPath": "/a", "listenerMetadata": "b"}
    assert seccomp_cache.digest(listening, 1) == key
    assert seccomp_cache.digest(profile, 2) != key
