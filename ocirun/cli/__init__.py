# SPDX-License-Identifier: Apache-2.0
"""The command: a thin adaptor over the library.  Here, and only here, the process is ours to change (design D6)."""

from __future__ import annotations

from ocirun.cli.parser import UsageError, help_text, parse
from ocirun.cli.report import Reporter, print_text, silence_closed_output
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime

#: Commands that need no state root.
_WITHOUT_ROOT = frozenset({"spec", "features", "validate", "plan"})


def main(argv: Sequence[str]) -> int:
    """Run the command line (without the program's name) and return the exit status."""
    reporter = Reporter()
    try:
        invocation = parse(argv)
        reporter = Reporter(invocation)
        return _run(invocation, reporter)
    except BrokenPipeError:
        silence_closed_output()
        return 1
    except KeyboardInterrupt:
        return 130
    except (OcirunError, OSError) as error:
        reporter.error(error)
        return 1
    except Exception as error:  # the last resort: never a traceback for a user
        reporter.error(error)
        if reporter.debug:
            raise
        return 1


def _run(invocation: Invocation, reporter: Reporter) -> int:
    if invocation.has("version") and invocation.command is None:
        print_text(version_text())
        return 0
    if invocation.has("help") or invocation.command is None:
        print_text(help_text(invocation.command))
        return 0
    _check_globals(invocation)
    name = invocation.command.name
    run = _load(invocation.command.module, name)
    if name in _WITHOUT_ROOT:
        return run(invocation, None, reporter)
    from ocirun.runtime import Runtime

    with Runtime(
        invocation.value("root"),
        cgroup_manager=invocation.value("cgroup-manager", "cgroupfs") or "cgroupfs",
    ) as runtime:
        status = run(invocation, runtime, reporter)
        for warning in runtime.warnings:
            reporter.warning(warning)
        return status


def _check_globals(invocation: Invocation) -> None:
    if invocation.has("systemd-cgroup") or invocation.value("cgroup-manager") == "systemd":
        raise UsageError(
            "the systemd cgroup manager is not in this build",
            hint="use --cgroup-manager cgroupfs, and the cgroupfs driver in the engine's configuration",
        )
    if invocation.value("cgroup-manager", "cgroupfs") not in ("cgroupfs", "disabled"):
        raise UsageError("--cgroup-manager is cgroupfs or disabled")
    if invocation.value("log-format", "text") not in ("text", "json"):
        raise UsageError("--log-format is text or json")


def _load(module: str, name: str) -> Callable[[Invocation, Runtime | None, Reporter], int]:
    found = __import__(f"ocirun.cli.{module}", fromlist=[name])
    function: Callable[[Invocation, Runtime | None, Reporter], int] = getattr(
        found, "list_" if name == "list" else name
    )
    return function


def version_text() -> str:
    """Return what --version prints; docker and podman parse the first lines."""
    from ocirun.version import SPEC_VERSION, VERSION

    return f"ocirun version {VERSION}\nspec: {SPEC_VERSION}\n"
