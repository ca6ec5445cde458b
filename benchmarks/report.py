# SPDX-License-Identifier: Apache-2.0
"""The table and the plot of the benchmarks."""

from __future__ import annotations

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any


def write_report(results: dict[str, Any], directory: Path) -> str:
    """Write latest.md, latest.json and latest.svg, and dated copies; returns the table."""
    directory.mkdir(exist_ok=True)
    text = _table(results)
    summary = {key: _summary(value) for key, value in results.items()}
    for stem in ("latest", results["date"]):
        (directory / f"{stem}.md").write_text(text, encoding="utf-8")
        (directory / f"{stem}.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (directory / f"{stem}.svg").write_text(_plot(results), encoding="utf-8")
    return text


def _ms(times: list[int]) -> float:
    return statistics.median(times) / 1e6


def _summary(value: Any) -> Any:
    """Replace lists of times by quartiles, in milliseconds."""
    if not isinstance(value, dict):
        return value
    return {
        name: {
            "n": len(times),
            "min": min(times) / 1e6,
            "quartiles": [round(each / 1e6, 3) for each in statistics.quantiles(times, n=4)],
        }
        if isinstance(times, list) and len(times) > 1
        else times
        for name, times in value.items()
    }


def _table(results: dict[str, Any]) -> str:
    lives = {name: _ms(times) for name, times in results["lives"].items()}
    state = {name: _ms(times) for name, times in results["state"].items()}
    crowd = {name: _ms(times) for name, times in results["crowd"].items()}
    largest = max(crowd, key=int)
    rows = [
        ("library / floor", lives["library"] / lives["floor"], 1.5),
        ("library / `crun run`", lives["library"] / lives["crun run"], 0.5),
        ("library / `runc run`", lives["library"] / lives["runc run"], 0.2),
        ("`ocirun state` / `python3 -I -S -c pass`", state["ocirun state"] / state["python3 -I -S -c pass"], 1.3),
        ("`ocirun run` / `runc run`", lives["ocirun run"] / lives["runc run"], 0.6),
        ("`ocirun run` / `crun run`", lives["ocirun run"] / lives["crun run"], 1.6),
        ("PSS of a created init, KiB", results["memory"]["ocirun"], 200),
        (f"create with {largest} containers present / with none", crowd[largest] / crowd["0"], 1.2),
    ]
    lines = [
        "# Benchmarks",
        "",
        f"{results['date']}; {results['machine']}; {'; '.join(results['peers'])}; {results['rounds']} rounds.",
        "Medians of interleaved runs; the ratios are what counts, the machine is shared.",
        "",
        "| what | measured | budget | |",
        "|---|---|---|---|",
        *(
            f"| {what} | {value:.2f} | ≤ {budget} | {'within' if value <= budget else 'missed'} |"
            for what, value, budget in rows
        ),
        "",
    ]
    sections = (
        ("create, start, wait, delete of `/bin/true`, configuration of `runc spec`", "lives"),
        ("the same with a seccomp profile of Docker's shape", "seccomp"),
        ("state of a created container", "state"),
        ("library create with so many containers present", "crowd"),
        ("library create, by the size of the calling process", "large"),
        ("library create, by the number of bind mounts", "mounts"),
    )
    for title, key in sections:
        lines += [f"## {title}", "", "| | min ms | median ms | 75 % ms |", "|---|---|---|---|"]
        for name, times in results[key].items():
            upper = statistics.quantiles(times, n=4)[2] / 1e6
            lines.append(f"| {name} | {min(times) / 1e6:.2f} | {_ms(times):.2f} | {upper:.2f} |")
        lines.append("")
    lines += ["## PSS of a created container's init, KiB", "", "| | KiB |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results["memory"].items()]
    return "\n".join(lines) + "\n"


def _plot(results: dict[str, Any]) -> str:
    """Horizontal bars: the median of one life, with the quartiles as a line."""
    bars = [(name, times) for name, times in results["lives"].items()]
    bars += [(f"{name}, seccomp", times) for name, times in results["seccomp"].items()]
    width, left, row = 760, 190, 26
    longest = max(statistics.quantiles(times, n=4)[2] for _, times in bars)
    scale = (width - left - 70) / longest
    height = row * len(bars) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="22" font-size="15">one container: create, start, wait, delete (median, ms)</text>',
    ]
    for index, (name, times) in enumerate(bars):
        first, middle, third = statistics.quantiles(times, n=4)
        y = 40 + index * row
        colour = {"floor": "#999999", "crun": "#d08770", "runc": "#bf616a"}.get(name.split()[0], "#4c78a8")
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{middle * scale:.1f}" height="18" fill="{colour}"/>',
            f'<line x1="{left + first * scale:.1f}" x2="{left + third * scale:.1f}"',
            f' y1="{y + 9}" y2="{y + 9}" stroke="black"/>',
            f'<text x="{left + third * scale + 6:.1f}" y="{y + 14}">{middle / 1e6:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
