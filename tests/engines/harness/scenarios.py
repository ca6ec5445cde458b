# SPDX-License-Identifier: Apache-2.0
"""What came of every scenario with every runtime, as a table, and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

OURS = "ocirun"
SIGNS = {"passed": "yes", "failed": "**no**", "skipped": "-"}


class Scenarios:
    """engine → scenario → runtime → outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, dict[str, str]]] = {}
        self.reasons: dict[tuple[str, str, str], str] = {}

    def read(self, path: Path) -> None:
        """Add the lines that the tests of one engine with one runtime wrote."""
        for line in path.read_text().splitlines() if path.exists() else ():
            one = json.loads(line)
            engine, scenario, runtime = one["engine"], one["scenario"], one["runtime"]
            self.outcomes.setdefault(engine, {}).setdefault(scenario, {})[runtime] = one["outcome"]
            if one["reason"]:
                self.reasons[engine, scenario, runtime] = one["reason"]

    def worse(self) -> list[str]:
        """Return what ocirun fails and a peer passes, or nobody but ocirun was asked."""
        return [
            f"{engine}: {scenario}"
            for engine, scenario, outcomes in self._rows()
            if outcomes.get(OURS) == "failed" and (len(outcomes) == 1 or "passed" in outcomes.values())
        ]

    def impossible(self) -> list[str]:
        """Return what no runtime passes: the machine, or the engine."""
        return [
            f"{engine}: {scenario}: {self.reasons.get((engine, scenario, OURS), '')}"
            for engine, scenario, outcomes in self._rows()
            if len(outcomes) > 1 and set(outcomes.values()) == {"failed"}
        ]

    def table(self, runtimes: Iterable[str]) -> str:
        """Return all of it as Markdown."""
        runtimes = list(runtimes)
        lines = []
        for engine, scenarios in self.outcomes.items():
            counts = []
            for runtime in runtimes:
                found = [outcomes[runtime] for outcomes in scenarios.values() if runtime in outcomes]
                counts.append(f"{runtime} {found.count('passed')} of {len(found)}")
            lines += [f"# {engine}", "", f"{', '.join(counts)}.", ""]
            lines += [f"| scenario | {' | '.join(runtimes)} |", f"|---|{'---|' * len(runtimes)}"]
            for scenario, outcomes in sorted(scenarios.items()):
                signs = " | ".join(SIGNS[outcomes[runtime]] if runtime in outcomes else "" for runtime in runtimes)
                lines.append(f"| {scenario} | {signs} |")
            lines.append("")
        return "\n".join(lines)

    def _rows(self) -> Iterable[tuple[str, str, dict[str, str]]]:
        for engine, scenarios in self.outcomes.items():
            for scenario, outcomes in sorted(scenarios.items()):
                yield engine, scenario, outcomes
