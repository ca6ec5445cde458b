# SPDX-License-Identifier: Apache-2.0
"""state and list: what runc prints, in its shapes."""

from __future__ import annotations

from ocirun.cli import print_text
from ocirun.strict_json import dumps, dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime
    from ocirun.spec.state import State

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def state(invocation: Invocation, runtime: Runtime) -> int:
    """The command `state`."""
    document = runtime.state(invocation.arguments[0]).to_json()
    print_text(dumps_pretty(document, indent="  ") + "\n")
    return 0


def list_(invocation: Invocation, runtime: Runtime) -> int:
    """The command `list`.  No containers are `[]` in JSON, where runc prints `null`.

    A container whose record cannot be read is listed as "unknown" with an `error`, and does not hide the others.
    """
    if invocation.has("quiet"):
        print_text("".join(f"{each}\n" for each in runtime.store.ids()))
        return 0
    states = runtime.list()
    if invocation.value("format") == "json":
        print_text(dumps([each.to_json() for each in states]) + "\n")
        return 0
    print_text(_table(states))
    for each in states:
        if each.error is not None:
            runtime.warn(f"{each.id}: {each.error}")
    return 0


def _table(states: Iterable[State]) -> str:
    from ocirun.cli.report import escape

    rows: list[Sequence[str]] = [_COLUMNS]
    for each in states:
        owner = _user_name(each.owner)
        cells = (each.id, str(each.pid), each.status, each.bundle, each.created, owner)
        rows.append([escape(cell) for cell in cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in rows
    )


def _user_name(owner: str) -> str:
    """Return the name of the user who made a container, "#uid" where nobody has the uid."""
    if not owner.isdigit():
        return owner
    import pwd

    try:
        return pwd.getpwuid(int(owner)).pw_name
    except KeyError:
        return f"#{owner}"
