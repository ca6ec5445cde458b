# SPDX-License-Identifier: Apache-2.0
"""state and list: what runc prints, in its shapes."""

from __future__ import annotations

from ocirun.cli.parser import UsageError
from ocirun.cli.report import print_text
from ocirun.strict_json import dumps, dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.parser import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.runtime import Runtime
    from ocirun.spec.state import State

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def state(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `state`."""
    print_text(dumps_pretty(runtime.state(invocation.arguments[0]).to_json()) + "\n")
    return 0


def list_(invocation: Invocation, runtime: Runtime, reporter: Reporter) -> int:
    """The command `list`.  An empty list is `[]` in JSON, where runc prints `null`."""
    wanted = invocation.value("format", "table")
    if wanted not in ("table", "json"):
        raise UsageError(f"list: --format is table or json, not {wanted!r}")
    if invocation.has("quiet"):
        print_text("".join(f"{each}\n" for each in runtime.store.ids()))
        return 0
    states = runtime.list()
    if wanted == "json":
        print_text(dumps([each.to_json() for each in states]) + "\n")
    else:
        print_text(_table(states))
    for each in states:
        if each.error is not None:
            reporter.warning(f"{each.id}: {each.error}")
    return 0


def _table(states: Sequence[State]) -> str:
    rows = [
        _COLUMNS,
        *(
            (each.id, str(each.pid), each.status, each.bundle, each.created, each.owner)
            for each in states
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in rows
    )
