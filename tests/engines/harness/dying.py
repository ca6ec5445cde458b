# SPDX-License-Identifier: Apache-2.0
"""A runtime that is killed in the middle of an exec: by a signal that nothing can catch, whatever it has done by then."""

from __future__ import annotations

from pathlib import Path

SCRIPT = """\
#!/bin/sh
[ -e {late} ] || exec {command} "$@"
case " $* " in
*" exec "*)
	{command} "$@" &
	sleep "$(cat {late})"
	kill -9 $!
	wait $!
	;;
*) exec {command} "$@" ;;
esac
"""
MILLISECONDS = (0, 2, 5, 10, 15, 20, 30, 45, 60, 100)  # from before it does anything until after it is done


class DyingRuntime:
    """A command that calls the runtime *command* and, once `kill_after` was called, kills it in each exec."""

    def __init__(self, directory: Path, command: str) -> None:
        self.path = directory / "dying"
        self._late = directory / "late"
        self.path.write_text(SCRIPT.format(command=command, late=self._late))
        self.path.chmod(0o755)

    def kill_after(self, milliseconds: float) -> None:
        """From now on each exec is killed so much later."""
        self._late.write_text(str(milliseconds / 1000))

    def spare(self) -> None:
        """From now on none is."""
        self._late.unlink(missing_ok=True)
