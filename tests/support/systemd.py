# SPDX-License-Identifier: Apache-2.0
"""Units of systemd, as systemctl shows them."""

from __future__ import annotations

import subprocess

from support.bundle import TAG


def systemctl(*words: str) -> str:
    """Return what systemctl prints; it must succeed."""
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout


def show(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit; one that is given several times is one text."""
    found: dict[str, str] = {}
    for line in systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


def units(tag: str = TAG) -> set[str]:
    """Return the loaded units that carry the tag, whatever their state."""
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", f"*{tag}*")
    return {line.split()[0] for line in listed.splitlines() if not line.split()[0].endswith(".slice")}
