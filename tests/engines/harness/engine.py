# SPDX-License-Identifier: Apache-2.0
"""An engine's command, driven as a user drives it."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT = float(os.environ.get("OCIRUN_ENGINES_TIMEOUT", "180"))


class Result:
    """A finished command: `rc`, `out`, `err`; `ok()` and `fails()` say what was expected."""

    def __init__(self, argv: Sequence[str], rc: int, out: str, err: str) -> None:
        self.argv, self.rc, self.out, self.err = list(argv), rc, out, err

    def __repr__(self) -> str:
        return f"{' '.join(self.argv)}: rc={self.rc} out={self.out[-3000:]!r} err={self.err[-3000:]!r}"

    def ok(self) -> Result:
        """Return this, if the status is 0."""
        assert self.rc == 0, self
        return self

    def fails(self, rc: int | None = None, words: str = "") -> Result:
        """Return this, if the status is *rc*, or any but 0, and *words* are in what was said."""
        assert self.rc != 0 if rc is None else self.rc == rc, self
        assert words.lower() in (self.out + self.err).lower(), self
        return self

    @property
    def text(self) -> str:
        """What was printed, without the white space around it."""
        return self.out.strip()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Session:
    """A command that goes on, with pipes or with a terminal of *rows* x *columns*."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], size: tuple[int, int] | None) -> None:
        self.argv = list(argv)
        self.seen = ""
        self.terminal: int | None = None
        if size is None:
            self.process = subprocess.Popen(
                argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            return
        self.terminal, slave = pty.openpty()
        self.resize(*size)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv], env=env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size, as a user's window would."""
        import termios

        assert self.terminal is not None
        termios.tcsetwinsize(self.terminal, (rows, columns))

    def write(self, text: str) -> None:
        """Type *text*."""
        data = text.encode()
        if self.terminal is not None:
            os.write(self.terminal, data)
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def expect(self, words: str, timeout: float = TIMEOUT) -> str:
        """Read until *words* come; returns all that was read up to and with them, and forgets it."""
        end = time.monotonic() + timeout
        while words not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{self.argv}: no {words!r} in {self.seen[-2000:]!r}"
            if not self._read(left):
                assert words in self.seen, f"{self.argv}: ended without {words!r}: {self.seen[-2000:]!r}"
        at = self.seen.index(words) + len(words)
        found, self.seen = self.seen[:at], self.seen[at:]
        return found

    def end_input(self) -> None:
        """Close the standard input (pipes only)."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Read the rest into `seen` and return the exit status."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0 and self._read(left):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, timeout: float) -> bool:
        """Read what there is; False at the end."""
        fd = self.terminal
        if fd is None:
            assert self.process.stdout is not None
            fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(fd, 65536)
        except OSError:  # EIO: the last slave is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        if self.terminal is not None:
            os.close(self.terminal)


class Engine:
    """`engine("run", "--rm", …)` runs the engine's command and returns its `Result`."""

    def __init__(self, argv: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.env = {**os.environ, **(env or {})}

    def __call__(
        self,
        *words: str | Path,
        stdin: str | bytes | None = None,
        timeout: float = TIMEOUT,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Result:
        argv = [*self.argv, *map(str, words)]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            argv,
            env={**self.env, **(env or {})},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            timeout=timeout,
            pass_fds=pass_fds,
            check=False,
        )
        return Result(argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def under(self, *words: str | Path) -> Engine:
        """Return the same engine, started by *words*: `env`, or `sh -c 'exec 3<FILE; exec "$@"' sh`."""
        return Engine([*map(str, words), *self.argv], self.env)

    def session(self, *words: str | Path, size: tuple[int, int] | None = None) -> Session:
        """Start the command and go on with it; with a *size*, on a terminal."""
        return Session([*self.argv, *map(str, words)], self.env, size)


def eventually(check: Callable[[], Any], what: str = "", timeout: float = TIMEOUT) -> Any:
    """Return the first true answer of *check*; for what an engine does in its own time."""
    end = time.monotonic() + timeout
    while not (answer := check()):
        assert time.monotonic() < end, what or f"{check} did not come true in {timeout} s"
        time.sleep(0.05)
    return answer
