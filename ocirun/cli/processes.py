# SPDX-License-Identifier: Apache-2.0
"""ps: the processes of a container, as numbers or as ps(1) describes them."""

from __future__ import annotations

import os
import posix

from ocirun.cli import print_text
from ocirun.errors import KernelError, OcirunError
from ocirun.strict_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime

_SIGPIPE = 13


def ps(invocation: Invocation, runtime: Runtime) -> int:
    """The command `ps`."""
    container_id, *options = invocation.arguments
    pids = runtime.load(container_id).processes()
    if invocation.value("format") == "json":
        print_text(dumps(pids) + "\n")
        return 0
    print_text(select_lines(_run_ps(options or ["-ef"]), frozenset(pids)))
    return 0


def select_lines(text: str, pids: Container[int]) -> str:
    """Return the heading and the lines that are about *pids* of what ps(1) printed.

    Errors: OcirunError where the lines do not tell their pid.
    """
    hint = "let ps print the column PID, before any that has spaces: -o pid,args"
    heading, *lines = text.splitlines() or [""]
    columns = heading.split()
    if "PID" not in columns:
        raise OcirunError("ps prints no column PID", op="ps", hint=hint)
    place = columns.index("PID")
    chosen = [heading]
    for line in lines:
        words = line.split(None, place + 1)
        if len(words) <= place or not words[place].isdigit():
            raise OcirunError(f"ps prints no pid in {line!r}", op="ps", hint=hint)
        if int(words[place]) in pids:
            chosen.append(line)
    return "".join(f"{line}\n" for line in chosen)


def _run_ps(options: Sequence[str]) -> str:
    """Return what ps(1) prints; what it complains about goes to our standard error."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = posix.posix_spawnp(
            "ps",
            ("ps", *options),
            posix.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
            setsigdef=[_SIGPIPE],  # Python ignores it
        )
    except OSError as error:
        os.close(reader)
        raise KernelError(error.errno or 0, "execve", "ps", hint="--format json does without ps") from error
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="surrogateescape") as output:
        text = output.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise OcirunError(f"ps ended with status {os.waitstatus_to_exitcode(status)}", op="ps")
    return text
