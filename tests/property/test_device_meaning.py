# SPDX-License-Identifier: Apache-2.0
"""The device program and the version 1 lines mean what the rules say, on arbitrary rules."""

from __future__ import annotations

import ebpf
from device_model import LETTERS, judge
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cgroups.devices import device_program, effective_rules, legacy_lines
from ocirun.spec.resources import DeviceRule

TYPES = {"b": 1, "c": 2}

# Few numbers, so that rules meet each other and the defaults.
NUMBERS = st.sampled_from([None, -1, 0, 1, 3, 5, 136])
ACCESS = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
RULES = st.lists(
    st.builds(
        lambda allow, kind, major, minor, access: DeviceRule(
            {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}
        ),
        st.booleans(),
        st.sampled_from([None, "a", "b", "c", "u"]),
        NUMBERS,
        NUMBERS,
        ACCESS,
    ),
    max_size=8,
)
REQUESTS = st.tuples(
    st.sampled_from("bc"),
    st.sampled_from([0, 1, 2, 3, 5, 136]),
    st.sampled_from([0, 1, 2, 3, 5]),
    ACCESS,
)


def kernel_legacy(
    lines: list[tuple[str, str]], kind: str, major: int, minor: int, access: str
) -> bool:
    """Decide an access as the devices controller of version 1 does, from lines written to a fresh cgroup.

    By default denying: one exception must cover the whole access.  By default allowing: no exception may touch it.
    """
    exceptions: list[tuple[str, str, str, str]] = []
    allow_by_default = False
    for file, line in lines:
        if line == "a":
            allow_by_default = file == "devices.allow"
            exceptions.clear()
            continue
        assert (file == "devices.deny") == allow_by_default
        line_type, numbers, rights = line.split(" ")
        exceptions.append((line_type, *numbers.split(":"), rights))  # type: ignore[arg-type]
    matching = [
        set(rights)
        for line_type, line_major, line_minor, rights in exceptions
        if line_type == kind and line_major in ("*", str(major)) and line_minor in ("*", str(minor))
    ]
    if allow_by_default:
        return not any(rights & set(access) for rights in matching)
    return any(rights >= set(access) for rights in matching)


@given(RULES, REQUESTS)
def test_program_decides_as_the_rules_say(
    rules: list[DeviceRule], request: tuple[str, int, int, str]
) -> None:
    """The program, run by an interpreter that is as strict as the verifier, agrees with the definition."""
    kind, major, minor, access = request
    effective, problems = effective_rules(rules)
    assert problems == []
    rights = sum(LETTERS[letter] for letter in access)
    verdict = ebpf.run(device_program(effective), TYPES[kind], rights, major, minor)
    assert verdict == judge(rules, kind, major, minor, access)


@given(RULES, REQUESTS)
def test_legacy_lines_decide_as_the_rules_say(
    rules: list[DeviceRule], request: tuple[str, int, int, str]
) -> None:
    """Rules that version 1 takes mean there what they mean elsewhere; the others are refused, not bent."""
    effective, _ = effective_rules(rules)
    lines, problems = legacy_lines(effective)
    if not problems:
        assert kernel_legacy(lines, *request) == judge(rules, *request)


@given(RULES)
def test_legacy_takes_whatever_only_allows(rules: list[DeviceRule]) -> None:
    """Rules of the shape that engines send, deny all and then allow, are never refused."""
    for rule in rules:
        rule.allow = True
    first = DeviceRule({"allow": False, "access": "rwm"})
    effective, _ = effective_rules([first, *rules])
    assert legacy_lines(effective)[1] == []
