# SPDX-License-Identifier: Apache-2.0
"""Lists of CPUs and of memory nodes.  cpuset(7), "List format" """

from __future__ import annotations

#: The largest numbers that a kernel can be built for: NR_CPUS and, as a power of two, NODES_SHIFT.
LAST_CPU = 8191
LAST_NODE = 1023


def parse_ranges(text: str, last: int) -> list[tuple[int, int]]:
    """Parse a list such as "0-3,7" into (first, last) pairs.

    Errors: ValueError, in words, for what is no such list or names a number above *last*.
    """
    result = []
    for part in text.split(","):
        first, dash, end = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(end)):
            raise ValueError(f'"{text}" is not a list of numbers and ranges such as "0-3,7"')
        numbers = int(first), int(end) if dash else int(first)
        if numbers[0] > numbers[1]:
            raise ValueError(f'"{part.strip()}" is a range that ends before it begins')
        if numbers[1] > last:
            raise ValueError(f"{numbers[1]} is more than any kernel has, the last is {last}")
        result.append(numbers)
    return result


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
