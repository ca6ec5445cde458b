# SPDX-License-Identifier: Apache-2.0
"""Random lists of device rules, asked by mknod and open from inside a container.

The numbers are of no driver of any machine (120 is for local use), so that an open that is let pass ends with ENXIO.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from device_model import judge
from support.bundle import Bundle
from support.cgroup import PURE
from support.command import RuntimeCommand

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


@pytest.mark.parametrize("seed", range(40))
def test_access_is_as_the_rules_say(runtime: RuntimeCommand, bundle: Bundle, seed: int) -> None:
    """Each of 28 accesses is granted or denied as the model has it; what version 1 cannot say is refused."""
    rules = random_rules(seed)
    bundle.linux(resources={"devices": rules})
    verbs: list[list[str]] = []
    expected: list[bool] = []
    parsed = [DeviceRule(rule) for rule in rules]
    for (kind, major, minor), mode in itertools.product(DEVICES, MODES):
        path = f"/tmp/{kind}{major}-{minor}"
        if mode == "r":
            bundle.device(path, kind, major, minor)
            verbs.append(["mknod", f"{path}-new", kind, str(major), str(minor)])
            expected.append(judge(parsed, kind, major, minor, "m"))
        verbs.append(["open", path, MODES[mode], "nonblock"])
        expected.append(judge(parsed, kind, major, minor, mode))
    result = runtime.run(bundle.seq(*verbs))
    if not PURE and (problems := legacy_lines(effective_rules(parsed)[0])[1]):
        result.refused(*(problem.pointer for problem in problems))
        return
    answers = [line.get("errno", "ok") for line in result.ok().lines if line["verb"] in ("mknod", "open")]
    assert set(answers) <= {"ok", "ENXIO", "EPERM"}
    found = [answer != "EPERM" for answer in answers]
    wrong = [(verb, answer) for verb, answer, is_ok, should in zip(verbs, answers, found, expected, strict=True)
             if is_ok != should]  # fmt: skip
    assert wrong == [], rules


def test_the_lists_ask_for_something() -> None:
    """They are of both kinds: with accesses granted and denied, for version 1 and not."""
    lists = [[DeviceRule(rule) for rule in random_rules(seed)] for seed in range(40)]
    granted = sum(judge(rules, *device, mode) for rules in lists for device in DEVICES[:5] for mode in MODES)
    assert 100 < granted < 500
    legacy = [not legacy_lines(effective_rules(rules)[0])[1] for rules in lists]
    assert 5 < sum(legacy) < 35
