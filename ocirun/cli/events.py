# SPDX-License-Identifier: Apache-2.0
"""events: one JSON object a line, in runc's shape."""

from __future__ import annotations

from ocirun.cli import print_text, report_warnings
from ocirun.cli.parser import UsageError
from ocirun.cli.signals import raise_at_once
from ocirun.errors import ContainerNotRunning
from ocirun.events import STATS, Event
from ocirun.spec.state import STOPPED
from ocirun.strict_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime

_STDOUT = 1
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def events(invocation: Invocation, runtime: Runtime) -> int:
    """The command `events`: ends when the container's process does, or nobody reads standard output any more."""
    interval_s = parse_duration(invocation.value("interval") or "5s")
    if interval_s <= 0:
        raise UsageError("option --interval: duration interval must be greater than 0")
    container = runtime.load(invocation.arguments[0])
    if invocation.has("stats"):
        if container.state().status == STOPPED:
            raise ContainerNotRunning("container not running", status=STOPPED, container_id=container.id)
        _print(Event(STATS, container.id, container.stats()))
        return 0
    import gc

    gc.enable()  # the launcher turns it off for commands that are over in a moment
    raise_at_once()
    with container.events(interval_s, consumer=_STDOUT) as stream:
        if stream.problem is not None:
            runtime.warn(f"{container.id}: there will be no events of type oom: {stream.problem}")
            report_warnings(invocation, runtime)
        for event in stream:
            _print(event)
    return 0


def _print(event: Event) -> None:
    print_text(f"{dumps(event.to_json())}\n")


def parse_duration(text: str) -> float:
    """Return the seconds that a duration as Go writes it stands for: "5s", "1m30s", "-1.5h", "0".

    Errors: UsageError
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    seconds = 0.0
    while rest and rest != "0":
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("hmnsuµμ"))
        unit, rest = rest[:letters], rest[letters:]
        if unit not in _UNITS_S or number.count(".") > 1 or number in ("", ".") or rest == "0":
            rest = "?"
            break
        seconds += float(number) * _UNITS_S[unit]
    if rest not in ("", "0") or text in ("", "+", "-"):
        raise UsageError(f"{text!r} is no duration", hint="a number with a unit, such as 5s, 100ms or 1m30s")
    return -seconds if text[0] == "-" else seconds
