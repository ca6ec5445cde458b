# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of signals.  The module `signal` would import `enum`, which costs more than a kill."""

from __future__ import annotations

from ocirun.cli.parser import UsageError

#: signal(7), the numbering of x86 and ARM.
SIGNALS = {
    name: number
    for number, name in enumerate(
        (
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
            "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
            "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
        ),
        start=1,
    )
}  # fmt: skip
SIGNALS |= {"IOT": 6, "POLL": 29, "CLD": 17}
RTMIN, RTMAX = 34, 64


def parse_signal(text: str) -> int:
    """Return the number of a signal given as a number or a name, with or without SIG.  Errors: UsageError."""
    if text.isascii() and text.isdigit() and len(text) <= 2:
        number = int(text)
        if 0 < number <= RTMAX:
            return number
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    for base, start, sign in (("RTMIN", RTMIN, "+"), ("RTMAX", RTMAX, "-")):
        if name == base:
            return start
        offset = name.removeprefix(base + sign)
        if offset != name and offset.isascii() and offset.isdigit() and int(offset) <= RTMAX - RTMIN:
            return start + int(offset) if sign == "+" else start - int(offset)
    raise UsageError(f"unknown signal {text!r}")
