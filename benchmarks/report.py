# SPDX-License-Identifier: Apache-2.0
"""The table of the benchmarks.  What was not measured says so: there is no number that was not taken."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from plot import draw

Times = dict[str, list[int]]
NOT_MEASURED = "not measured"

#: What the design allows: the title, what is divided by what, the budget.
_BUDGETS = (
    ("library / floor", "library", "floor", 1.5),
    ("library / `crun run`", "library", "crun run", 0.5),
    ("library / `runc run`", "library", "runc run", 0.2),
    ("`ocirun state` / `python3 -I -S -c pass`", "ocirun state", "python3 -I -S -c pass", 1.3),
    ("`ocirun run` / `crun run`", "ocirun run", "crun run", 1.6),
    ("`ocirun run` / `runc run`", "ocirun run", "runc run", 0.6),
)
#: Ratios that explain, without a budget of their own.
_OTHERS = (
    ("library / floor, both with seccomp", "library, seccomp", "floor, seccomp"),
    ("library / `crun run`, both with seccomp", "library, seccomp", "crun run, seccomp"),
    ("library / `runc run`, both with seccomp", "library, seccomp", "runc run, seccomp"),
    ("`ocirun run` / `crun run`, both with seccomp", "ocirun run, seccomp", "crun run, seccomp"),
    ("`ocirun run` / `runc run`, both with seccomp", "ocirun run, seccomp", "runc run, seccomp"),
    ("create, caller of 1 GB and 16 threads / small", "create, caller of 1 GB and 16 threads", "create, small caller"),
)


def write_report(results: dict[str, Any], directory: Path | None) -> str:
    """Write latest.md, latest.json and latest.svg with dated copies, if there is a directory; returns the table."""
    text = _document(results)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for stem in ("latest", results["date"]):
            (directory / f"{stem}.md").write_text(text, encoding="utf-8")
            (directory / f"{stem}.json").write_text(json.dumps(_summary(results), indent=1) + "\n", encoding="utf-8")
            (directory / f"{stem}.svg").write_text(draw(results), encoding="utf-8")
    return text


def _summary(results: dict[str, Any]) -> dict[str, Any]:
    """The results with quartiles, in milliseconds, for lists of times."""
    parts = {}
    for name, part in results["parts"].items():
        parts[name] = {
            label: {
                "n": len(value),
                "min": round(min(value) / 1e6, 3),
                "quartiles": [round(each / 1e6, 3) for each in statistics.quantiles(value, n=4, method="inclusive")],
            }
            if isinstance(value, list) and len(value) > 1
            else value or None
            for label, value in part["values"].items()
        }
    return {**results, "parts": parts}


def _ratio(times: Times, above: str, below: str, statistic: Callable[[list[int]], float]) -> float | None:
    if not times.get(above) or not times.get(below):
        return None
    return statistic(times[above]) / statistic(times[below])


def _slope(times: Times, label: str, small: int, large: int, statistic: Callable[[list[int]], float]) -> float | None:
    """What one more of something costs between two numbers of it, in microseconds."""
    first, second = (times.get(label.format(count)) for count in (small, large))
    if not first or not second:
        return None
    return (statistic(second) - statistic(first)) / (large - small) / 1000


def _all_times(results: dict[str, Any]) -> Times:
    return {
        label: value
        for part in results["parts"].values()
        for label, value in part["values"].items()
        if isinstance(value, list)
    }


def _number(value: float | None, digits: int = 2) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def _verdict(value: float | None, budget: float) -> str:
    if value is None:
        return ""
    return "within" if value <= budget else "**missed**"


def _budget_rows(results: dict[str, Any], times: Times) -> list[str]:
    rows = []
    for title, above, below, budget in _BUDGETS:
        if above not in times:  # its part was not asked for; what was tried and failed has an empty list
            continue
        value = _ratio(times, above, below, statistics.median)
        minima = _ratio(times, above, below, min)
        rows.append(f"| {title} | {_number(value)} | {_number(minima)} | ≤ {budget} | {_verdict(value, budget)} |")
    if "memory" in results["parts"]:
        kib = results["parts"]["memory"]["values"]["ocirun"]
        rows.append(f"| PSS of a created container's init, KiB | {_number(kib, 0)} | | ≤ 200 | {_verdict(kib, 200)} |")
    for size in (100, 1000):
        if (crowded := f"create, {size} present") in times:
            value = _ratio(times, crowded, "create, 0 present", statistics.median)
            minima = _ratio(times, crowded, "create, 0 present", min)
            title = f"create with {size:,} containers present / with none"
            rows.append(f"| {title} | {_number(value)} | {_number(minima)} | ≤ 1.2 | {_verdict(value, 1.2)} |")
    return rows


def _other_rows(times: Times) -> list[str]:
    rows = []
    for title, above, below in _OTHERS:
        if above in times:
            value = _ratio(times, above, below, statistics.median)
            minima = _ratio(times, above, below, min)
            rows.append(f"| {title} | {_number(value)} | {_number(minima)} |")
    for size in (100, 1000):
        crowded, own_root = f"create, {size} present", f"create, {size} present in another root"
        for title, above, below in (
            (f"the floor with {size:,} containers present / with none", f"floor, {size} present", "floor, 0 present"),
            (f"create with {size:,} present in its state root / in another", crowded, own_root),
        ):
            if above in times:
                value = _ratio(times, above, below, statistics.median)
                minima = _ratio(times, above, below, min)
                rows.append(f"| {title} | {_number(value)} | {_number(minima)} |")
    return rows


def _growth_rows(times: Times) -> list[str]:
    """What one more costs, at two places of the line: the same number twice is a straight line."""
    rows = []
    for what, label, counts in (
        ("library create, bind mounts", "create, {} mounts", (10, 100, 1000)),
        ("`crun run`, bind mounts", "crun run, {} mounts", (10, 100, 1000)),
        ("`runc run`, bind mounts", "runc run, {} mounts", (10, 100, 1000)),
        ("library create, seccomp rules to compile", "create, {} rules", (10, 100, 400)),
    ):
        for small, large in pairwise(counts):
            slope, minima = (_slope(times, label, small, large, each) for each in (statistics.median, min))
            if slope is not None:
                rows.append(f"| {what} | {small} to {large} | {_number(slope, 1)} | {_number(minima, 1)} |")
    return rows


def part_rows(values: dict[str, Any]) -> list[str]:
    if all(value is None or isinstance(value, int) for value in values.values()):
        return ["| | KiB |", "|---|---|", *(f"| {name} | {_number(value, 0)} |" for name, value in values.items())]
    lines = ["| | runs | min ms | 25 % | median | 75 % |", "|---|---|---|---|---|---|"]
    for name, times in values.items():
        if len(times) < 2:
            lines.append(f"| {name} | 0 | {NOT_MEASURED} | | | |")
            continue
        first, middle, third = (each / 1e6 for each in statistics.quantiles(times, n=4, method="inclusive"))
        lines.append(f"| {name} | {len(times)} | {min(times) / 1e6:.2f} | {first:.2f} | {middle:.2f} | {third:.2f} |")
    return lines


def _document(results: dict[str, Any]) -> str:
    times = _all_times(results)
    about = (
        f"{results['date']}, commit {results['commit'] or 'unknown'}. {results['machine']};"
        f" load {results['load'][0]:.1f} at the start, {results['load'][1]:.1f} at the end."
        f" Beside {' and '.join(results['peers'])}. {results['rounds']} rounds."
    )
    how = (
        "Ratios of medians of runs that took turns, and beside them the ratios of the fastest runs, which other work on"
        " the machine disturbs least. How to read this: [README](../README.md)."
    )
    lines = ["# Benchmarks", "", about, "", how, ""]
    if rows := _budget_rows(results, times):
        lines += ["| what | measured | of the minima | budget | |", "|---|---|---|---|---|", *rows, ""]
    if rows := _other_rows(times):
        lines += ["| without a budget | measured | of the minima |", "|---|---|---|", *rows, ""]
    if rows := _growth_rows(times):
        lines += ["| what one more costs, µs | from .. to | measured | of the minima |", "|---|---|---|---|", *rows, ""]
    if "lives" in results["parts"]:
        lines += ["![one container, in every way](latest.svg)", ""]
    for part in results["parts"].values():
        lines += [f"## {part['title'].rstrip('.')}", "", *part_rows(part["values"]), ""]
    if results["problems"]:
        lines += ["## Not measured", ""]
        lines += [f"- {name}: `{problem}`" for name, problem in results["problems"].items()]
        lines.append("")
    return "\n".join(lines)
