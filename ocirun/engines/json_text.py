# SPDX-License-Identifier: Apache-2.0
"""Settings in JSON: /etc/docker/daemon.json."""

from __future__ import annotations

from ocirun.engines import EngineConfigError, merge, same
from ocirun.errors import InvalidConfig
from ocirun.strict_json import dumps_pretty, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.engines import Table

INDENT = "    "


def parse(text: str, name: str) -> Table:
    """Return the object that a file holds; an empty file holds an empty one.

    A key that is given twice is refused: one of the two values would be lost.
    Errors: EngineConfigError with the file, the line and the reason.
    """
    if not text.strip():
        return {}
    try:
        document = loads(text.encode(), what=name)
    except InvalidConfig as error:
        problems = [p.message if p.message.startswith(name) else f"{name}: {p}" for p in error.problems]
        raise EngineConfigError("; ".join(problems)) from None
    if not isinstance(document, dict):
        raise EngineConfigError(f"{name}: the file holds no object")
    return document


def edited(text: str, settings: Table, name: str) -> str:
    """Return *text* with the settings in it, and the keys that are there in their order.

    It is *text* itself where they are in it.  Errors: EngineConfigError
    """
    before = parse(text, name)
    after = merge(before, settings, name)
    if same(before, after) and text.strip():
        return text
    return f"{dumps_pretty(after, _indent(text))}\n"


def render(settings: Table) -> str:
    """Return settings as a file of their own."""
    return f"{dumps_pretty(settings, INDENT)}\n"


def _indent(text: str) -> str:
    """Return what the first indented line begins with."""
    for line in text.splitlines():
        space = line[: len(line) - len(line.lstrip(" \t"))]
        if space and line.strip():
            return space
    return INDENT
