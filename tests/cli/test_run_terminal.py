# SPDX-License-Identifier: Apache-2.0
"""run on a terminal, and with a terminal in the container while ours is none."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import ENVIRONMENT, RuntimeCommand
from support.oracle import HostSnapshot
from support.report import Json, parse_lines
from support.terminal import read_terminal, window_size

pytestmark = pytest.mark.root


class Session:
    """`run` in the foreground of a terminal of ours, whose other side, `main`, is what a person sees and types.

    `words` are another command than run, whose container is there.
    """

    def __init__(
        self, runtime: RuntimeCommand, bundle: Bundle, *, words: Sequence[str] = (), rows: int = 24, columns: int = 80
    ) -> None:
        self.main, self.terminal = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.terminal)
        self._text = b""
        if not words:
            bundle.process(terminal=True).write()
            runtime.remember(bundle.id)
        self.process = subprocess.Popen(
            runtime.command(*(words or ("run", "--bundle", str(bundle.path), bundle.id))),
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env=ENVIRONMENT,
            preexec_fn=self._take_terminal,  # noqa: PLW1509  (the test process has one thread)
        )

    @staticmethod
    def _take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        """Type something."""
        os.write(self.main, data)

    def until(self, word: bytes, timeout: float = 60.0) -> bytes:
        """Return what is shown up to a word."""
        deadline = time.monotonic() + timeout
        while word not in self._text:
            left = deadline - time.monotonic()
            assert left > 0, f"{word!r} is not in {self._text!r}"
            assert select.select([self.main], [], [], left)[0], f"{word!r} is not in {self._text!r}"
            self._text += os.read(self.main, 65536)
        shown, _, self._text = self._text.partition(word)
        return shown + word

    def lines(self, word: bytes) -> list[Json]:
        """Return the probe's lines up to one with a word."""
        return parse_lines(self.until(word).replace(b"\r\n", b"\n"))

    def close(self) -> None:
        """End everything."""
        self.process.kill()
        self.process.wait()
        for fd in (self.main, self.terminal):
            os.close(fd)


@pytest.fixture
def session(runtime: RuntimeCommand, bundle: Bundle) -> Iterator[Any]:
    """Make sessions that are ended after the test."""
    made = []

    def make(**size: int) -> Session:
        made.append(Session(runtime, bundle, **size))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_size_and_its_changes(session: Any, bundle: Bundle) -> None:
    """The container's terminal has the size of ours, at first and after SIGWINCH."""
    bundle.seq("report", ["on-signal", "28", "-1"], "ready", ["wait-signal"], "report")
    here = session(rows=33, columns=101)
    (report, *_) = here.lines(b'"verb":"ready"')
    assert [(each["rows"], each["cols"]) for each in report["stdio"]] == [(33, 101)] * 3
    assert report["has_ctty"]
    here.until(b'"wait-signal","ready":true')
    here.resize(44, 55)
    os.kill(here.process.pid, signal.SIGWINCH)
    here.until(b'"signal":28')
    rest = here.until(b'"seccomp"') + here.until(b"\n")
    assert b'"rows":44' in rest
    assert here.process.wait(60) == 0


def test_size_changes_after_the_end() -> None:
    """SIGWINCH may come while `run` deletes the container and has no terminal any more."""
    main, terminal = pty.openpty()
    code = (
        "import os; from ocirun.cli.terminal import Terminal;"
        "terminal = Terminal(os.dup(0)); terminal.close(); terminal.resize()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], stdin=terminal, capture_output=True, text=True, check=False)
    os.close(main)
    os.close(terminal)
    assert (done.returncode, done.stderr) == (0, "")


def test_size_changes_before_anybody_listens() -> None:
    """A window may change between the coupling of the terminals and the handler of SIGWINCH."""
    main, terminal = pty.openpty()
    code = (
        "import os, pty, termios; from ocirun.cli.foreground import Foreground; from ocirun.cli.terminal import Terminal;"
        "main, theirs = pty.openpty(); terminal = Terminal(main); termios.tcsetwinsize(0, (20, 30)); terminal.couple();"
        "termios.tcsetwinsize(0, (40, 50)); Foreground(lambda _: False).attach(terminal);"
        "print(termios.tcgetwinsize(theirs)); terminal.close()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], stdin=terminal, capture_output=True, text=True, check=False)
    os.close(main)
    os.close(terminal)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(40, 50)\n", "")


def test_control_characters_are_the_containers(session: Any, bundle: Bundle) -> None:
    """Ctrl-C, Ctrl-backslash and Ctrl-Z reach the container's processes and do nothing to run itself."""
    bundle.seq(["on-signal", "2", "-1"], ["on-signal", "3", "-1"], ["on-signal", "20", "5"], "ready", "sleep")
    here = session()
    here.until(b'"verb":"ready"')
    for typed, number in ((b"\x03", 2), (b"\x1c", 3), (b"\x1a", 20)):
        here.type(typed)
        here.until(f'"signal":{number}'.encode())
    assert here.process.wait(60) == 5


def test_signals_while_on_a_terminal(session: Any, bundle: Bundle) -> None:
    """A signal to run goes to the container's first process."""
    bundle.seq(["on-signal", "15", "6"], "ready", "sleep")
    here = session()
    here.until(b'"verb":"ready"')
    here.process.send_signal(signal.SIGTERM)
    assert here.process.wait(60) == 6


@pytest.mark.parametrize("end", ["exit", "signal", "start fails"])
def test_mode_is_given_back(session: Any, bundle: Bundle, end: str) -> None:
    """However it ends, our terminal has the mode that it had."""
    if end == "start fails":
        bundle.process(args=["nosuch"])
    elif end == "signal":
        bundle.namespaces(without=("pid",)).seq("ready", "sleep")
    else:
        bundle.seq("ready")
    here = session()
    if end == "signal":
        here.until(b'"verb":"ready"')
        assert not termios.tcgetattr(here.terminal)[3] & termios.ECHO
        here.process.send_signal(signal.SIGTERM)
    assert here.process.wait(60) == {"exit": 0, "signal": 128 + 15, "start fails": 1}[end]
    assert termios.tcgetattr(here.terminal) == here.before


def test_much_output(session: Any, bundle: Bundle) -> None:
    """All that the container wrote is shown, also what it wrote last before it ended."""
    words = [f"{number:06}" for number in range(10000)]
    bundle.args("echo", *words, "END")
    here = session()
    assert here.until(b"END").decode().split() == [*words, "END"]
    assert here.process.wait(60) == 0


def test_last_words(session: Any, bundle: Bundle, workdir: Path) -> None:
    """What was written before the end is shown even if run sees both at once."""
    bundle.seq("ready", "wait-signal", *(["echo", "x" * 50, str(number)] for number in range(50)))
    here = session()
    here.until(b'"wait-signal","ready":true')
    (init,) = Path(f"/proc/{here.process.pid}/task/{here.process.pid}/children").read_text().split()
    pidfd = os.pidfd_open(int(init))
    try:
        here.process.send_signal(signal.SIGSTOP)
        os.kill(int(init), signal.SIGTERM)
        assert select.select([pidfd], [], [], 60)[0]
        here.process.send_signal(signal.SIGCONT)
    finally:
        os.close(pidfd)
    here.until(b"x 49")
    assert here.process.wait(60) == 0


def test_typing_at_a_container_that_does_not_read(session: Any, bundle: Bundle) -> None:
    """What is typed at a container that never reads does not keep us from showing what it writes, or from ending."""
    bundle.seq(["on-signal", "15", "7"], "ready", "sleep")
    here = session()
    here.until(b'"verb":"ready"')
    for _ in range(64):
        if select.select([], [here.main], [], 0.05)[1]:
            here.type(b"x" * 512 + b"\n")
    here.process.send_signal(signal.SIGTERM)
    here.until(b'"signal":15')
    assert here.process.wait(60) == 7


def test_processes_that_keep_the_terminal(session: Any, bundle: Bundle) -> None:
    """run ends with the first process, whoever else still has the terminal open."""
    bundle.namespaces(without=("pid",)).seq(["run", "/probe", "fork", "2"], ["exit", "8"])
    assert session().process.wait(60) == 8


def run_without(runtime: RuntimeCommand, bundle: Bundle, stdin: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a bundle with a terminal while ours is no terminal at all."""
    bundle.process(terminal=True).write()
    runtime.remember(bundle.id)
    return subprocess.run(
        runtime.command("run", "--bundle", str(bundle.path), bundle.id),
        check=False, timeout=60, env=ENVIRONMENT, start_new_session=True, capture_output=True,
        **({"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}),
    )  # fmt: skip


def test_input_from_a_pipe(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The end of a pipe is the end-of-file character on the container's terminal."""
    done = run_without(runtime, bundle.args("stdin"), b"one\ntwo\n")
    assert done.returncode == 0, done
    (line,) = parse_lines(done.stdout.replace(b"\r\n", b"\n"))
    assert line["data"] == "one\ntwo\n"


@pytest.mark.parametrize("kind", ["/dev/null", "closed"])
def test_no_input(runtime: RuntimeCommand, bundle: Bundle, kind: str, oracle: HostSnapshot) -> None:
    """Without any input there is a terminal nevertheless, and nothing hangs."""
    if kind == "closed":
        runtime = runtime.under("sh", "-c", 'exec "$@" <&-', "sh")
    done = run_without(runtime, bundle.seq("report", ["exit", "3"]), subprocess.DEVNULL)
    assert done.returncode == 3, done
    (report,) = parse_lines(done.stdout.replace(b"\r\n", b"\n"))
    assert all(each["tty"] for each in report["stdio"])
    oracle.assert_clean()


def test_output_that_nobody_reads(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """When whoever looked has left, the container goes on, and run ends as it does."""
    bundle.process(terminal=True).seq(["echo", "hello"], "report", ["exit", "6"]).write()
    runtime.remember(bundle.id)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            runtime.command("run", "--bundle", str(bundle.path), bundle.id),
            stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60, env=ENVIRONMENT,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (6, b"")
    runtime.call("state", bundle.id).refused("does not exist")


def test_console_socket_in_the_foreground(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """With a console socket the terminal is its owner's, and run only waits."""
    from support.terminal import ConsoleSocket

    with ConsoleSocket(workdir / "console") as console:
        bundle.process(terminal=True, consoleSize={"height": 20, "width": 30}).seq("report", ["exit", "4"]).write()
        runtime.remember(bundle.id)
        process = subprocess.Popen(
            runtime.command("run", "--bundle", str(bundle.path), "--console-socket", str(console.path), bundle.id),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        try:
            main = console.receive()
            assert window_size(main) == (20, 30)
            (report,) = parse_lines(read_terminal(main))
            assert process.communicate(timeout=60)[0] == b""
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 4
    assert report["has_ctty"]
