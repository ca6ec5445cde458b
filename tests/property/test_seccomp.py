# SPDX-License-Identifier: Apache-2.0
"""Compiled seccomp filters answer what their profiles say."""

from __future__ import annotations

import bpf
import seccomp_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirun.errors import InvalidConfig
from ocirun.plan.seccomp import compile_profile

NAMES = [
    *("read", "write", "openat", "clone", "personality", "ioctl", "mmap", "setns", "close_range"),
    *("socket", "connect", "accept4", "semget", "shmat", "socketcall", "ipc", "_llseek"),
    *("rt_sigaction", "futex_waitv", "cacheflush", "set_tls", "no_such_call"),
]
ARCHITECTURES = ["x86", "x32", "x86_64", "aarch64", "arm", "riscv64", "mipsel64", "mipsel", "ppc64le"]
PLAIN_ACTIONS = [name for name in seccomp_model.ACTIONS if name != "SCMP_ACT_NOTIFY"]
OPERATORS = [
    f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
]
EDGES = [0, 1, 2, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x100000001, 2**63, 2**64 - 1]

values = st.one_of(st.sampled_from(EDGES), st.integers(0, 8), st.integers(0, 2**64 - 1))
arguments = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "value": values, "op": st.sampled_from(OPERATORS)},
    optional={"valueTwo": values},
)


@st.composite
def actions(draw: st.DrawFn, key: str, name_key: str, names: list[str]) -> dict:
    name = draw(st.sampled_from(names))
    result = {name_key: name}
    if name in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} and draw(st.booleans()):
        result[key] = draw(st.sampled_from([0, 1, 13, 38, 4094]))
    return result


@st.composite
def profiles(draw: st.DrawFn, max_args: int = 3) -> dict:
    profile = draw(actions("defaultErrnoRet", "defaultAction", PLAIN_ACTIONS))
    profile["architectures"] = [
        f"SCMP_ARCH_{name.upper()}"
        for name in draw(st.lists(st.sampled_from(ARCHITECTURES), max_size=3))
    ]
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        rule = draw(actions("errnoRet", "action", [*PLAIN_ACTIONS, "SCMP_ACT_NOTIFY"]))
        rule["names"] = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
        rule["args"] = draw(st.lists(arguments, max_size=max_args))
        if rule["action"] == "SCMP_ACT_NOTIFY":
            rule["names"] = [name for name in rule["names"] if name != "write"] or ["ioctl"]
        rules.append(rule)
    profile["syscalls"] = rules
    profile["listenerPath"] = "/run/agent"
    return profile


def numbers_of_interest(profile: dict, arch: str) -> set[int]:
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    near = {
        n + step
        for n, name in seccomp_model.table(arch).items()
        if name in names or name in {"socketcall", "ipc"}
        for step in (-1, 0, 1)
    }
    return {n & 0xFFFFFFFF for n in near} | {0, 9999, 511 | seccomp_model.X32_BIT, 0xFFFFFFFF}


@given(profiles(), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_filter_answers_what_the_profile_says(profile: dict, data: st.DataObject) -> None:
    """For every architecture and call, the program returns what the plain reading allows."""
    try:
        program = bpf.decode(compile_profile(profile, cache_dir=None).program)
    except InvalidConfig as error:
        assert {problem.gate for problem in error.problems} == {"host"}
        return
    used = {arg[key] for rule in profile["syscalls"] for arg in rule["args"] for key in ("value", "valueTwo") if key in arg}
    near = sorted({(value + step) % 2**64 for value in used for step in (-1, 0, 1)} | {0})
    for arch, audit in seccomp_model.AUDIT.items():
        for number in sorted(numbers_of_interest(profile, arch)):
            for _ in range(4):
                args = tuple(
                    data.draw(st.lists(st.one_of(st.sampled_from(near), values), min_size=6, max_size=6))
                )
                got = bpf.run_decoded(program, bpf.seccomp_data(audit, number, args))
                wanted = seccomp_model.answers(profile, audit, number, args)
                assert got in wanted, (arch, number, args, hex(got), [hex(w) for w in wanted])
