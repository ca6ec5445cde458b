# SPDX-License-Identifier: Apache-2.0
"""The plot of the benchmarks: horizontal bars, one panel for each kind of thing that can be compared."""

from __future__ import annotations

import statistics
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT, _ROW, _TITLE = 820, 250, 90, 24, 44
_COLOURS = {"ocirun": "#2f6fab", "library": "#2f6fab", "create": "#2f6fab", "crun": "#d08a4a", "runc": "#b5525c"}
_OTHER = "#8c8c8c"
_PANELS = (
    ("lives", "one container: create, start, wait, delete (ms)"),
    ("seccomp", "the same with a seccomp profile of Docker's shape (ms)"),
    ("state", "state of a created container (ms)"),
    ("memory", "memory of a created container's init, PSS (KiB)"),
    ("crowd", "create with others present (ms)"),
)

Bar = tuple[str, float, float, float]


def draw(results: dict[str, Any]) -> str:
    """Return an SVG document: the bars are medians, the lines across their ends go from quartile to quartile."""
    body: list[str] = []
    top = 8
    for name, title in _PANELS:
        if name in results["parts"] and (bars := _bars(results["parts"][name]["values"])):
            body += _panel(title, bars, top)
            top += _TITLE + _ROW * len(bars)
    size = f'width="{_WIDTH}" height="{top + 36}"'
    footer = escape(f"{results['date']}; {results['machine']}")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
            f'<rect {size} fill="white"/>',
            *body,
            f'<text x="10" y="{top + 22}" font-size="11" fill="#555">{footer}</text>',
            "</svg>",
            "",
        ]
    )


def _bars(values: dict[str, Any]) -> list[Bar]:
    """Label, lower quartile, middle, upper quartile: in milliseconds, or as it is for a single number."""
    bars: list[Bar] = []
    for label, value in values.items():
        if isinstance(value, int):
            bars.append((label, value, value, value))
        elif isinstance(value, list) and len(value) > 1:
            first, middle, third = (each / 1e6 for each in statistics.quantiles(value, n=4, method="inclusive"))
            bars.append((label, first, middle, third))
    return bars


def _panel(title: str, bars: list[Bar], top: int) -> list[str]:
    scale = (_WIDTH - _LEFT - _RIGHT) / max(third for _, _, _, third in bars)
    parts = [f'<text x="10" y="{top + 26}" font-size="15" font-weight="bold">{escape(title)}</text>']
    for index, (label, first, middle, third) in enumerate(bars):
        y = top + _TITLE - 4 + index * _ROW
        colour = _COLOURS.get(label.replace(",", " ").split()[0], _OTHER)
        number = f"{middle:.0f}" if middle >= 100 else f"{middle:.1f}"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{middle * scale:.1f}" height="17" fill="{colour}"/>',
            f'<path d="M{_LEFT + first * scale:.1f} {y + 8.5}H{_LEFT + third * scale:.1f}" stroke="black"/>',
            f'<text x="{_LEFT + max(middle, third) * scale + 6:.1f}" y="{y + 13}">{number}</text>',
        ]
    return parts
