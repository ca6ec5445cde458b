# SPDX-License-Identifier: Apache-2.0
"""What the specification demands of `linux.seccomp` beyond its schema, and what no runtime can do.

Pure, and independent of libseccomp and the kernel: `ocirun validate` asks this on any machine.

Spec: config-linux.md#configLinuxSeccomp
"""

from __future__ import annotations

from ocirun.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Actions that carry a number, and the largest that arrives: the kernel lowers an errno to its
# MAX_ERRNO, and of either number it sees 16 bits (65536 would be "success").
_LARGEST_NUMBER = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}

# runc hands the listener over with write(2), under the filter: the agent would be asked about the very call that
# brings it the listener.  ocirun-init has a thread without the filter for this, yet a profile that starts under one
# runtime and hangs under another helps nobody.
_NEVER_NOTIFIED = "write"


def uses_notify(profile: Mapping[str, Any]) -> bool:
    """Say whether the profile asks for a listener."""
    rules = profile.get("syscalls") or ()
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in rules)


def check_listener(profile: Mapping[str, Any], pointer: str = "/linux/seccomp") -> list[Problem]:
    """Return the problems with the two listener fields, which have no part in the filter itself.

    An empty string counts as absent, as engines written in Go mean it.
    """
    problems: list[Problem] = []
    has_path = bool(profile.get("listenerPath"))
    if profile.get("listenerMetadata") and not has_path:
        problems.append(Problem("rule", f"{pointer}/listenerMetadata", "must not be set without listenerPath"))
    if not has_path and uses_notify(profile):
        problems.append(Problem("rule", f"{pointer}/syscalls", "SCMP_ACT_NOTIFY needs a listenerPath"))
    return problems


def check_seccomp(profile: Mapping[str, Any], pointer: str = "/linux/seccomp") -> list[Problem]:
    """Return all problems of a schema-valid profile; *pointer* is its place in config.json."""
    problems = check_listener(profile, pointer)
    default = profile["defaultAction"]
    number = profile.get("defaultErrnoRet")
    problems += _check_number(default, number, f"{pointer}/defaultErrnoRet")
    if default == "SCMP_ACT_NOTIFY":
        problems.append(
            Problem(
                "rule",
                f"{pointer}/defaultAction",
                "SCMP_ACT_NOTIFY cannot be the default: it would include write",
            )
        )
    for index, rule in enumerate(profile.get("syscalls") or ()):
        where = f"{pointer}/syscalls/{index}"
        problems += _check_number(rule["action"], rule.get("errnoRet"), f"{where}/errnoRet")
        if rule["action"] == "SCMP_ACT_NOTIFY" and _NEVER_NOTIFIED in rule["names"]:
            problems.append(
                Problem(
                    "rule",
                    f"{where}/names/{rule['names'].index(_NEVER_NOTIFIED)}",
                    "SCMP_ACT_NOTIFY cannot be used for write: runtimes hand the listener over with it",
                )
            )
        for position, argument in enumerate(rule.get("args") or ()):
            if argument["index"] > 5:
                problems.append(
                    Problem(
                        "rule",
                        f"{where}/args/{position}/index",
                        f"{argument['index']} is not an argument: system calls have six, 0 to 5",
                    )
                )
    return problems


def _check_number(action: str, number: int | None, where: str) -> list[Problem]:
    if number is None:
        return []
    largest = _LARGEST_NUMBER.get(action)
    if largest is None:
        return [Problem("rule", where, f"{action} cannot carry a number")]
    if number > largest:
        return [Problem("rule", where, f"{number} is more than {action} can carry ({largest})")]
    return []
