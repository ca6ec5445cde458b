# SPDX-License-Identifier: Apache-2.0
"""What is measured, each in a small process of its own that takes the time itself: a command, or the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Reads {"run": [argument, ...]} a line; answers {"ns": from spawn to exit, "status": as waitpid has it, "stderr"}.
#: posix_spawn is vfork underneath, so the size of this process has no part in the time.  Standard error is a file,
#: not a pipe: a created container keeps it open, and nobody may wait for that.
_SERVER = """
import json, os, sys, time
command, log = json.loads(sys.argv[1]), sys.argv[2]
null = os.open("/dev/null", os.O_RDWR)
for line in sys.stdin:
    errors = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    argv = [*command, *json.loads(line)["run"]]
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    before = time.perf_counter_ns()
    try:
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        status = os.waitpid(pid, 0)[1]
        after = time.perf_counter_ns()
        text = os.pread(errors, 2000, 0).decode(errors="replace")
    except OSError as error:
        after, status, text = before, -1, str(error)
    os.close(errors)
    print(json.dumps({"ns": after - before, "status": status, "stderr": text}), flush=True)
"""


class NotMeasuredError(Exception):
    """Something that was to be measured does not work; the message is its own first words about why."""


class _Server:
    """A process that answers lines of text with lines of JSON.

    It leads a session, so that an interrupt from the keyboard ends the benchmark, which then tidies up with its help.
    """

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def _exchange(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise NotMeasuredError(f"its process ended with {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """Let it see the end of its input, and wait for it."""
        try:
            self._process.communicate()
        except BrokenPipeError:
            self._process.wait()


class Command(_Server):
    """A command, run and timed from spawn to exit.

    crun 1.8 refuses the hybrid layout of cgroups.  With *hide_unified* the server, and so the command, lives in a mount
    namespace without the unified hierarchy; the time is taken inside, so that entering it costs nothing.
    """

    def __init__(self, command: list[str], log: Path, *, hide_unified: bool = False) -> None:
        argv = [sys.executable, "-c", _SERVER, json.dumps(command), str(log)]
        if hide_unified and os.path.ismount("/sys/fs/cgroup/unified"):
            script = 'umount /sys/fs/cgroup/unified && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
        super().__init__(argv)

    def time(self, *arguments: str) -> int:
        """Run the command with *arguments*; returns nanoseconds.  Raises NotMeasuredError if it fails."""
        answer = self._exchange(json.dumps({"run": arguments}))
        if answer["status"] != 0:
            words = answer["stderr"].strip().splitlines() or [f"wait status {answer['status']:#x}, without a word"]
            raise NotMeasuredError(words[0])
        return int(answer["ns"])


class Library(_Server):
    """A process of `worker.py`, which uses the library."""

    def __init__(self, root: Path) -> None:
        super().__init__([sys.executable, str(Path(__file__).with_name("worker.py")), str(root)])

    def ask(self, *words: object) -> Any:
        """Send a command of `worker.py` and return the answer.  Raises NotMeasuredError if it fails."""
        answer = self._exchange(" ".join(map(str, words)))
        if isinstance(answer, dict) and "error" in answer:
            raise NotMeasuredError(answer["error"])
        return answer
