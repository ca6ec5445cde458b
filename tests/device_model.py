# SPDX-License-Identifier: Apache-2.0
"""What device rules mean, from the definition."""

from __future__ import annotations

from collections.abc import Sequence

from ocirun.cgroups.devices import DEFAULT_RULES, Rule
from ocirun.spec.resources import DeviceRule

LETTERS = {"m": 1, "r": 2, "w": 4}


def judge(rules: Sequence[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """Decide an access from the definition: for each right, the last rule that names it."""

    def last(letter: str) -> bool:
        verdict = False
        for rule in [*rules, *DEFAULT_RULES]:
            if isinstance(rule, Rule):
                names_type = rule.kind in (None, kind)
                names_right = bool(rule.rights & LETTERS[letter])
            else:
                names_type = rule.type in (None, "a", kind) or (rule.type == "u" and kind == "c")
                names_right = letter in (rule.access or "")
            if (
                names_type
                and names_right
                and rule.major in (None, -1, major)
                and rule.minor in (None, -1, minor)
            ):
                verdict = rule.allow
        return verdict

    return all(last(letter) for letter in access)
