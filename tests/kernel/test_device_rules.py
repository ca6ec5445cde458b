# SPDX-License-Identifier: Apache-2.0
"""Random lists of device rules, asked by mknod and open from inside a container.

The numbers are of no driver of any machine (120 is for local use), so that an open that is let pass ends with ENXIO.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from device_model import judge
from support.bundle import Bundle
from support.cgroup import PURE
from support.command import Result, RuntimeCommand

from ocirun.cgroups.devices import effective_rules, legacy_lines
from ocirun.spec.resources import DeviceRule

pytestmark = [
    pytest.mark.root,
    pytest.mark.vm,
    pytest.mark.ocirun_only("rights are judged together, and rules without a meaning in version 1 are bent"),
]
MODES = {"r": "rdonly", "w": "wronly", "rw": "rdwr"}
# Two devices of each type that exist nowhere, and two that everybody may use unless a rule is wrong.
DEVICES = [("c", 120, 0), ("c", 120, 1), ("c", 121, 0), ("b", 120, 0), ("b", 121, 1), ("c", 1, 3), ("c", 1, 5)]


def random_rules(seed: int) -> list[dict[str, Any]]:
    """Return a list that is decided by its later rules as well as by its earlier ones."""
    choose = random.Random(seed)
    rules = []
    for _ in range(choose.randint(1, 7)):
        rule: dict[str, Any] = {"allow": choose.random() < 0.6}
        rule["access"] = "".join(sorted(choose.sample("rwm", choose.randint(1, 3))))
        if choose.random() < 0.9:
            rule["type"] = choose.choice("abcc")
        for name, numbers in (("major", (120, 120, 121, 1, -1)), ("minor", (0, 1, 3, -1))):
            if choose.random() < 0.7:
                rule[name] = choose.choice(numbers)
        rules.append(rule)
    return rules


def accesses(bundle: Bundle, rules: list[dict[str, Any]]) -> tuple[list[list[str]], list[bool]]:
    """Return 28 accesses as verbs of the probe, and which of them the model grants."""
    parsed = [DeviceRule(rule) for rule in rules]
    verbs: list[list[str]] = []
    expected: list[bool] = []
    for (kind, major, minor), mode in itertools.product(DEVICES, MODES):
        path = f"/tmp/{kind}{major}-{minor}"
        if mode == "r":
            bundle.device(path, kind, major, minor)
            verbs.append(["mknod", f"{path}-new", kind, str(major), str(minor)])
            expected.append(judge(parsed, kind, major, minor, "m"))
        verbs.append(["open", path, MODES[mode], "nonblock"])
        expected.append(judge(parsed, kind, major, minor, mode))
    return verbs, expected


def not_for_version_1(rules: list[dict[str, Any]], pointer: str) -> list[str]:
    """Return the places of what version 1 cannot say, if that is what this machine has."""
    found = effective_rules([DeviceRule(rule) for rule in rules], pointer)[0]
    return [] if PURE else [problem.pointer for problem in legacy_lines(found, pointer)[1]]


def wrong_answers(result: Result, verbs: list[list[str]], expected: list[bool]) -> list[tuple[list[str], str]]:
    """Return what the kernel decided in another way than the model."""
    answers = [line.get("errno", "ok") for line in result.ok().lines if line["verb"] in ("mknod", "open")]
    assert set(answers) <= {"ok", "ENXIO", "EPERM"}
    return [(verb, answer) for verb, answer, should in zip(verbs, answers, expected, strict=True)
            if (answer != "EPERM") != should]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_access_is_as_the_rules_say(runtime: RuntimeCommand, bundle: Bundle, seed: int) -> None:
    """Each of 28 accesses is granted or denied as the model has it; what version 1 cannot say is refused."""
    rules = random_rules(seed)
    bundle.linux(resources={"devices": rules})
    verbs, expected = accesses(bundle, rules)
    result = runtime.run(bundle.seq(*verbs))
    if problems := not_for_version_1(rules, "/linux/resources/devices"):
        result.refused(*problems)
        return
    assert wrong_answers(result, verbs, expected) == [], rules


@pytest.mark.parametrize("seed", range(20))
def test_access_after_update_is_as_the_new_rules_say(runtime: RuntimeCommand, bundle: Bundle, seed: int) -> None:
    """From any list to any other; what version 1 cannot say is refused, and the list before holds."""
    before = next(rules for number in range(seed * 50, seed * 50 + 50) if not not_for_version_1(rules := random_rules(number), ""))
    after = random_rules(seed + 5000)
    bundle.linux(resources={"devices": before})
    problems = not_for_version_1(after, "/devices")
    verbs, expected = accesses(bundle, before if problems else after)
    container = runtime.create(bundle.seq(*verbs))
    result = runtime.call("update", "-r", "-", bundle.id, stdin=json.dumps({"devices": after}).encode())
    if problems:
        result.refused(*problems)
    else:
        result.ok()
    assert wrong_answers(container.finish(), verbs, expected) == [], (before, after)


def test_rules_are_for_the_process(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Nodes of linux.devices are made whatever the rules forbid the process."""
    bundle.device("/tmp/odd", "c", 120, 0).linux(resources={"devices": [{"allow": False, "access": "rwm"}]})
    bundle.seq(["open", "/tmp/odd", "rdonly", "nonblock"])
    result = runtime.run(bundle).ok()
    assert result.outcomes("open") == {"/tmp/odd": "EPERM"}


def test_the_lists_ask_for_something() -> None:
    """They are of both kinds: with accesses granted and denied, for version 1 and not."""
    lists = [[DeviceRule(rule) for rule in random_rules(seed)] for seed in range(40)]
    granted = sum(judge(rules, *device, mode) for rules in lists for device in DEVICES[:5] for mode in MODES)
    assert 100 < granted < 500
    legacy = [not legacy_lines(effective_rules(rules)[0])[1] for rules in lists]
    assert 5 < sum(legacy) < 35
