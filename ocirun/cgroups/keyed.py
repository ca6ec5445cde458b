# SPDX-License-Identifier: Apache-2.0
"""What the kernel writes into the files of a cgroup: numbers, keyed numbers, pressure.

The text is that of a file, or None where there is no such file, and then there is no value either.  What is no number
is left out: later kernels may add words to any of these files.

Kernel: admin-guide/cgroup-v2.rst, "Format"; accounting/psi.rst
"""

from __future__ import annotations

from ocirun.spec.ranges import LAST_CPU, parse_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: How "max" is shown, and what engines that are written in Go take for no limit.
UNLIMITED = (1 << 64) - 1


def known(**members: Any) -> dict[str, Any]:
    """Return the members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def integer(text: str | None) -> int | None:
    """Return the number that a file consists of."""
    return None if text is None else _integer(text.strip())


def bound(text: str | None) -> int | None:
    """Return the limit that a file consists of; "max" is UNLIMITED."""
    return UNLIMITED if text is not None and text.strip() == "max" else integer(text)


def flat(text: str | None) -> dict[str, int]:
    """Return the values of a file of "KEY VALUE" lines."""
    return _pairs(line.partition(" ") for line in (text or "").splitlines())


def nested(text: str | None) -> dict[str, dict[str, int]]:
    """Return the values of a file of "KEY SUBKEY=VALUE SUBKEY=VALUE" lines."""
    found: dict[str, dict[str, int]] = {}
    for line in (text or "").splitlines():
        words = line.split()
        # io.stat before Linux 5.13: devices without numbers stand in front of the next one.
        keys = [word for word in words if "=" not in word]
        if keys:
            found.setdefault(keys[-1], {}).update(_pairs(word.partition("=") for word in words if "=" in word))
    return found


def pressure(text: str | None) -> dict[str, dict[str, float]] | None:
    """Return the averages (percent) and totals (microseconds) of a pressure file."""
    found: dict[str, dict[str, float]] = {}
    for line in (text or "").splitlines():
        kind, *pairs = line.split()
        values: dict[str, float] = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            values[name] = int(value) if name == "total" else float(value)
        found[kind] = values
    return found or None


def numbers(text: str | None) -> list[int] | None:
    """Return the members of a list of CPUs or memory nodes, such as "0-3,7"."""
    if text is None:
        return None
    if not text.strip():
        return []
    return [number for first, last in parse_ranges(text, LAST_CPU) for number in range(first, last + 1)]


def _pairs(pairs: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    found = {}
    for name, _, value in pairs:
        number = _integer(value.strip())
        if number is not None:
            found[name] = number
    return found


def _integer(word: str) -> int | None:
    return int(word) if word.isascii() and word.removeprefix("-").isdigit() else None
