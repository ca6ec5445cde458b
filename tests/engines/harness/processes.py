# SPDX-License-Identifier: Apache-2.0
"""Which processes run what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def running(*words: str) -> list[int]:
    """Return the numbers of the processes in whose command line *words* stand one after the other."""
    wanted = "\0" + "\0".join(words) + "\0"
    return [pid for pid, line in _commands() if wanted in f"\0{line}"]


def _commands() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_text(errors="replace")
            except OSError:
                continue  # has just ended
