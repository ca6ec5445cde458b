# SPDX-License-Identifier: Apache-2.0
"""Generated containers through ocirun and through Debian's runc: the same is seen, or docs/differences.md says why not.

    OCIRUN_DIFFERENTIAL_SECONDS=600    how long; without it always the same 50 containers, and at most 30 s
    OCIRUN_DIFFERENTIAL_SEED=7         which containers; the seed of every run is printed
    OCIRUN_DIFFERENTIAL_REPLAY=FILE    run the scenario in FILE instead, as printed by a failure
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from differential.differences import Case, Difference, compare, explanation
from differential.observe import Place, Run
from differential.scenarios import scenarios
from hypothesis import HealthCheck, Phase, given, seed, settings
from support.command import RuntimeCommand, find_runtime
from support.oracle import remove_leftovers
from support.report import Json

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.userns]
SECONDS = float(os.environ.get("OCIRUN_DIFFERENTIAL_SECONDS", "30"))
BATCH = 50
MOST_SHOWN = 20


class Comparison:
    """Runs scenarios through both runtimes and keeps what nothing explains, the smallest scenario for each place."""

    def __init__(self, workdir: Path, probe: Path) -> None:
        self.place = Place(workdir, probe)
        self.runtimes = []
        for name, peer in (("ocirun", None), ("runc", "runc")):
            argv = find_runtime(peer)
            assert argv is not None
            (workdir / name).mkdir()
            self.runtimes.append(RuntimeCommand(name, argv, workdir / name))
        self.used: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.unexplained: dict[str, Case] = {}

    def run(self, scenario: Json) -> list[tuple[Case, Difference | None]]:
        """Return where the two differ, each with what explains it."""
        runs = [Run(runtime, self.place, scenario) for runtime in self.runtimes]
        ours, theirs = (run.observe() for run in runs)
        self.outcomes[f"ocirun {ours['life']['create']}, runc {theirs['life']['create']}"] += 1
        errors = ("\n".join(runs[0].errors), "\n".join(runs[1].errors))
        found = [(case, explanation(case)) for case in compare(scenario, ours, theirs, errors)]
        for case, difference in found:
            if difference is not None:
                self.used[difference.name] += 1
            elif case.key not in self.unexplained or _size(case) < _size(self.unexplained[case.key]):
                self.unexplained[case.key] = case
        return found

    def report(self) -> str:
        """Return a text with every unexplained difference; scenarios can be given to REPLAY."""
        lines = [f"outcomes: {dict(self.outcomes)}", f"explained: {dict(self.used)}"]
        cases = sorted(self.unexplained.values(), key=_size)
        scenarios_shown = set()
        for case in cases[:MOST_SHOWN]:
            lines += [f"{case.key}", f"    ocirun: {case.ours}", f"    runc:   {case.theirs}"]
            lines += [f"    {who}: {text[-400:]}" for who, text in zip(("ocirun", "runc"), case.errors, strict=True) if text]
            text = json.dumps(case.scenario)
            if text not in scenarios_shown:
                scenarios_shown.add(text)
                lines.append(f"    scenario: {text}")
        return "\n".join(lines)


def _size(case: Case) -> int:
    return len(json.dumps(case.scenario))


@pytest.fixture
def comparison(private_host: None, workdir: Path, probe: Path) -> Iterator[Comparison]:
    """Both runtimes, and the place of the bundle."""
    comparison = Comparison(workdir, probe)
    yield comparison
    for runtime in comparison.runtimes:
        runtime.cleanup()
    comparison.place.close()
    remove_leftovers()


@pytest.mark.ocirun_only("compares with a peer by itself")
def test_ocirun_and_runc_make_the_same_containers(comparison: Comparison) -> None:
    """What is seen inside, on the host and afterwards is the same, but for the listed differences."""
    if replay := os.environ.get("OCIRUN_DIFFERENTIAL_REPLAY"):
        for case, difference in comparison.run(json.loads(Path(replay).read_text())):
            print(f"{case.key}: {case.ours} | {case.theirs} ({difference.name if difference else 'unexplained'})")
        assert not comparison.unexplained, comparison.report()
        return
    chosen = random.randrange(2**32) if "OCIRUN_DIFFERENTIAL_SECONDS" in os.environ else 100
    first = int(os.environ.get("OCIRUN_DIFFERENTIAL_SEED") or chosen)
    print(f"OCIRUN_DIFFERENTIAL_SEED={first}")
    end = time.monotonic() + SECONDS

    def one(scenario: Json) -> None:
        # However slow the machine is: one container at least that both can make.
        if time.monotonic() < end or not comparison.outcomes["ocirun ok, runc ok"]:
            comparison.run(scenario)

    batches = 10**6 if "OCIRUN_DIFFERENTIAL_SECONDS" in os.environ else 1
    for number in range(first, first + batches):
        if time.monotonic() >= end:
            break
        # Collected, not shrunk: a run of two containers costs a second, and the smallest of many is small.
        configured = settings(
            max_examples=BATCH, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        configured(seed(number)(given(scenarios())(one)))()
    print(comparison.report())
    assert comparison.outcomes["ocirun ok, runc ok"] > 0
    assert not comparison.unexplained, f"OCIRUN_DIFFERENTIAL_SEED={first}\n{comparison.report()}"
