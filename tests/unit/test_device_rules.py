# SPDX-License-Identifier: Apache-2.0
"""Device rules: their meaning, the version 1 lines, the version 2 program."""

from __future__ import annotations

from typing import Any

import ebpf
import pytest

from ocirun.cgroups.devices import (
    ALL_RIGHTS,
    DEFAULT_RULES,
    MKNOD,
    READ,
    WRITE,
    allows_everything,
    device_program,
    effective_rules,
    legacy_lines,
)
from ocirun.spec.resources import DeviceRule

BLOCK, CHAR = 1, 2


def rule(
    allow: bool,
    kind: str | None = None,
    major: int | None = None,
    minor: int | None = None,
    access: str | None = None,
) -> DeviceRule:
    """Build a rule as config.json has it."""
    source: dict[str, Any] = {
        "allow": allow,
        "type": kind,
        "major": major,
        "minor": minor,
        "access": access,
    }
    return DeviceRule({key: value for key, value in source.items() if value is not None})


def granted(rules: list[DeviceRule], kind: int, major: int, minor: int, rights: int) -> bool:
    """Run the program of these rules."""
    effective, problems = effective_rules(rules)
    assert problems == []
    return ebpf.run(device_program(effective), kind, rights, major, minor)


def test_no_rules_allow_the_default_devices_only() -> None:
    """Without rules a container has the default devices, may make any node, and nothing else."""
    assert granted([], CHAR, 1, 3, ALL_RIGHTS)
    assert granted([], CHAR, 136, 77, READ | WRITE)
    assert granted([], CHAR, 10, 200, READ | WRITE)
    assert granted([], BLOCK, 8, 0, MKNOD)
    assert not granted([], BLOCK, 8, 0, READ)
    assert not granted([], CHAR, 10, 229, READ)
    assert not granted([], CHAR, 5, 1, READ)
    assert not granted([], BLOCK, 1, 3, READ)


def test_denied_right_cannot_be_taken_together_with_an_allowed_one() -> None:
    """After allowing all and denying writes, opening for reading and writing fails."""
    rules = [rule(True, "c", 10, 229, "rwm"), rule(False, "c", 10, 229, "w")]
    assert granted(rules, CHAR, 10, 229, READ)
    assert not granted(rules, CHAR, 10, 229, WRITE)
    assert not granted(rules, CHAR, 10, 229, READ | WRITE)


def test_rights_of_two_rules_add_up() -> None:
    """Reading allowed by one rule and writing by another make reading and writing."""
    rules = [rule(True, "b", 8, None, "r"), rule(True, "b", 8, 1, "w")]
    assert granted(rules, BLOCK, 8, 1, READ | WRITE)
    assert not granted(rules, BLOCK, 8, 2, READ | WRITE)


def test_everything_can_be_allowed() -> None:
    """A total rule resets what came before it; then no filter is needed, and the program says yes."""
    rules = [rule(False, "b", 8, 0, "rwm"), rule(True, access="rwm")]
    effective, _ = effective_rules(rules)
    assert allows_everything(effective)
    assert granted(rules, BLOCK, 8, 0, ALL_RIGHTS)
    assert legacy_lines(effective) == ([("devices.allow", "a")], [])


def test_denying_everything_is_not_everything() -> None:
    """A total rule that denies leaves the defaults."""
    effective, _ = effective_rules([rule(True, access="rwm"), rule(False)])
    assert not allows_everything(effective)
    assert effective[1:] == list(DEFAULT_RULES)


def test_absent_access_denies_all_but_allows_nothing() -> None:
    """Without `access` a denying rule is total; an allowing one is refused with its place."""
    effective, problems = effective_rules([rule(False)])
    assert effective[0].is_total
    assert problems == []
    _, problems = effective_rules([rule(False), rule(True, "c", 1, 3)])
    assert [problem.pointer for problem in problems] == ["/linux/resources/devices/1/access"]


@pytest.mark.parametrize(
    ("kind", "major", "access"), [("p", 1, "r"), ("c", -2, "r"), ("c", 1, "x")]
)
def test_nonsense_is_a_problem(kind: str, major: int, access: str) -> None:
    """FIFOs have no device numbers, numbers are not negative, rights are r, w and m."""
    _, problems = effective_rules([rule(True, kind, major, 0, access)])
    assert len(problems) == 1
    assert problems[0].pointer.startswith("/linux/resources/devices/0")


def test_impossible_device_numbers_name_nothing() -> None:
    """A number that does not fit the kernel's dev_t must not alias another device."""
    assert not granted([rule(True, "b", 4096 + 8, 0, "rwm")], BLOCK, 8, 0, READ)
    assert not granted([rule(True, "b", 8, 1 << 20, "rwm")], BLOCK, 9, 0, READ)


def test_legacy_lines_of_the_usual_rules() -> None:
    """What engines send becomes a default and its exceptions, in the kernel's syntax."""
    effective, _ = effective_rules([rule(False, access="rwm"), rule(True, "c", 10, 229, "rw")])
    lines, problems = legacy_lines(effective)
    assert problems == []
    assert lines[0] == ("devices.deny", "a")
    # The rights that `c *:* m` grants are in the narrower lines too: the kernel does not add lines up.
    assert ("devices.allow", "c 10:229 rwm") in lines
    assert ("devices.allow", "c *:* m") in lines
    assert ("devices.allow", "c 136:* rwm") in lines
    assert ("devices.allow", "b *:* m") in lines
    assert {file for file, _ in lines[1:]} == {"devices.allow"}


def test_legacy_refuses_an_exception_from_an_exception() -> None:
    """The kernel would ignore the second rule silently."""
    effective, _ = effective_rules([rule(True, "b", 8, None, "rwm"), rule(False, "b", 8, 0, "rwm")])
    _, problems = legacy_lines(effective)
    assert [problem.pointer for problem in problems] == ["/linux/resources/devices/1"]


def test_program_has_no_dead_code_after_a_rule_for_a_whole_type() -> None:
    """The verifier refuses instructions that cannot be reached."""
    rules = [
        rule(True, "b", 8, 0, "r"),
        rule(False, "b", None, None, "rwm"),
        rule(True, "c", 9, 9, "r"),
    ]
    assert not granted(rules, BLOCK, 8, 0, READ)
    assert granted(rules, CHAR, 9, 9, READ)


def test_program_of_very_many_rules_keeps_its_jumps_in_range() -> None:
    """A jump reaches 32767 instructions; a run of rules about one type is split before that."""
    rules = [rule(True, "b", 8, minor, "r") for minor in range(12_000)]
    effective, _ = effective_rules(rules)
    program = device_program(effective)
    assert ebpf.run(program, BLOCK, READ, 8, 0)
    assert ebpf.run(program, BLOCK, READ, 8, 11_999)
    assert not ebpf.run(program, BLOCK, READ, 8, 12_000)
