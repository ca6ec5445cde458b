# SPDX-License-Identifier: Apache-2.0
"""The ENOSYS rule: system calls that are newer than a profile answer "not implemented".

A profile that denies by default cannot name system calls that did not exist when it was written.
Answering EPERM for those (or killing the caller) breaks C libraries, which try the newest call
first and fall back on ENOSYS only.  So every number above the highest one that the profile names
for the architecture in question is answered with ENOSYS.

No rule can be overridden by this: whatever its action is, the number it names is not above the
highest.  What it cannot see are calls that got a low number late, such as close_range(2) (436,
younger than 437 and 438), and the gaps of a table; those get the default action.
"""

from __future__ import annotations

from ocirun.plan.seccomp_program import LAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirun.plan.seccomp_program import Range

X32_BIT = 0x4000_0000

# Which numbers belong to an architecture, where that is not all of them, or where they do not form
# one growing series.  Each series is looked at by itself; else one named member of a far series
# would hide everything below it.
_SERIES: dict[str, tuple[Range, ...]] = {
    # -1 is nobody's call.  It is what a tracer writes to have a call skipped, and ENOSYS is what
    # the kernel itself answers to it.
    "x86_64": ((0, X32_BIT - 1), (LAST, LAST)),
    # 512 to 547 are calls that x32 has in its own version; new ones join the series below.
    "x32": ((X32_BIT, X32_BIT + 511), (X32_BIT + 512, LAST - 1)),
    # From 0xf0000 on are the private calls of ARM (cacheflush, set_tls).
    "arm": ((0, 0xEFFFF), (0xF0000, LAST)),
}
_ONE_SERIES = ((0, LAST),)


def series(arch: str) -> tuple[Range, ...]:
    """Return the numbers of an architecture, by libseccomp's name ("x86_64")."""
    return _SERIES.get(arch, _ONE_SERIES)


def newer(arch: str, named: Iterable[int]) -> list[Range]:
    """Return the numbers of *arch* that are newer than all of *named*, in disjoint ranges.

    *named* holds every number that the profile names there, with the architecture's offset or bit
    included.  Without any named number there is no highest one, and nothing is newer.
    """
    numbers = sorted(set(named))
    found: list[Range] = []
    if not numbers:
        return found
    # On s390, numbers above 255 are passed beside the instruction.  If the kernel does not know
    # the number, the filter sees 0 instead, which is no call that any program makes.
    if arch in {"s390", "s390x"} and numbers[0] != 0:
        found.append((0, 0))
    for first, last in series(arch):
        here = [number for number in numbers if first <= number <= last]
        start = here[-1] + 1 if here else first
        # A series without named members is newer only if a lower series has some.
        if start <= last and numbers[0] < start:
            found.append((start, last))
    return found
