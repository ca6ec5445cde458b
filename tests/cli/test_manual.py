# SPDX-License-Identifier: Apache-2.0
"""The manual pages and the completions that are installed with the command, in the programs that they are for."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand

from ocirun.cli.completion import PLACES, SHELLS
from ocirun.cli.manual import DESCRIPTIONS
from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP, Command

SHARE = Path(sys.prefix)
MANUAL = SHARE / "share/man/man1"
NAMES = ("ocirun", *(f"ocirun-{command.name}" for command in COMMANDS))


def need(program: str) -> None:
    """The image of tests/vm has the kernel's side of things, and no manual pages' and few shells' programs."""
    if os.path.exists("/run/vm/as-user") and shutil.which(program) is None:
        pytest.skip(f"machine: the image of tests/vm has no {program}")


def output(*words: str, **keywords: object) -> str:
    """Run a program that must succeed; return all that it says."""
    need(words[0])
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60, **keywords)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


# ---- manual pages --------------------------------------------------------------------------------------


def test_every_command_has_its_page() -> None:
    """A page for each command and none else is installed; each command has more said of it than its phrase."""
    assert {path.name for path in MANUAL.glob("ocirun*")} == {f"{name}.1" for name in NAMES}
    assert DESCRIPTIONS.keys() >= {command.name for command in COMMANDS}


@pytest.mark.parametrize("program", [("groff", "-ww", "-z", "-man"), ("mandoc", "-Tlint", "-Wwarning")], ids=lambda words: words[0])
def test_pages_without_a_warning(program: tuple[str, ...]) -> None:
    """groff and mandoc have nothing to say against any page."""
    for name in NAMES:
        assert output(*program, str(MANUAL / f"{name}.1")) == "", name


@pytest.mark.parametrize("command", [None, *COMMANDS], ids=lambda command: command.name if command else "ocirun")
def test_pages_say_what_the_table_says(command: Command | None) -> None:
    """Every option is there as one types it, with its phrase and its values."""
    name = "ocirun" if command is None else f"ocirun-{command.name}"
    text = output("mandoc", "-Tascii", "-Owidth=1000", str(MANUAL / f"{name}.1"))
    shown = " ".join("".join(c for at, c in enumerate(text) if c != "\b" and text[at + 1 : at + 2] != "\b").split())
    for option in GLOBAL_OPTIONS if command is None else (*command.options, HELP):
        assert (f"--{option.name} " in shown) == (option.help is not None), option.name
        if option.help is not None:
            assert option.help[1:] in shown
            assert all(choice in shown for choice in option.choices)
    for each in COMMANDS if command is None else ():
        assert f"ocirun-{each.name}(1)" in shown


# ---- completions ---------------------------------------------------------------------------------------


@pytest.fixture
def path(ocirun: RuntimeCommand, workdir: Path) -> str:
    """A PATH on which `ocirun` is the command under test."""
    (workdir / "bin").mkdir()
    (workdir / "bin/ocirun").symlink_to(ocirun.argv[0])
    return f"{workdir}/bin:{os.environ['PATH']}"


@pytest.mark.parametrize("shell", SHELLS)
def test_printed_and_installed(ocirun: RuntimeCommand, shell: str) -> None:
    """`completion` prints what is installed where the shell looks for it."""
    assert ocirun.call("completion", shell).ok().stdout.decode() == (SHARE / PLACES[shell]).read_text()


def test_completion_of_no_shell(ocirun: RuntimeCommand) -> None:
    """Others are refused by name."""
    ocirun.call("completion", "ksh").refused("ksh", "bash, zsh, fish")


class Bash:
    """What bash would offer for a line of words; the last is what is being typed."""

    name = "bash"

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *words: str) -> set[str]:
        quoted = " ".join(f"'{word}'" for word in ("ocirun", *words))
        program = (
            f"compopt() {{ :; }}; source '{SHARE / PLACES['bash']}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words)};"
            " _ocirun; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        return set(output("bash", "--norc", "-c", program, env={"PATH": self.path}).split())


class Fish:
    """The same for fish."""

    name = "fish"

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *words: str) -> set[str]:
        line = " ".join(("ocirun", *words))
        program = f"source '{SHARE / PLACES['fish']}'; complete -C '{line}'"
        lines = output("fish", "--no-config", "-c", program, env={"PATH": self.path, "HOME": "/nonexistent"}).splitlines()
        return {line.partition("\t")[0] for line in lines}


@pytest.fixture(params=[Bash, Fish], ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest, path: str) -> Bash | Fish:
    """Each shell that can be asked."""
    made: Bash | Fish = request.param(path)
    return made


def test_words(shell: Bash | Fish) -> None:
    """Commands, options and the values that they take, behind other options too."""
    assert shell("st") == {"start", "state"}
    assert shell("--root", "/x", "res") >= {"resume"}
    assert shell("--cgroup-manager", "s") == {"systemd"}
    assert shell("create", "--pid") == {"--pid-file", "--pidfd-socket"}
    assert shell("list", "--format", "") == {"table", "json"}
    assert shell("--log-format", "json", "list", "--q") == {"--quiet"}
    assert shell("completion", "z") == {"zsh"}
    assert shell("help", "pau") == {"pause"}
    assert shell("mounts", "") >= {"add", "remove"}
    assert shell("--lo") >= {"--log", "--log-format", "--log-level"}
    assert shell("state", "--he") == {"--help"}


def test_forms_of_options(path: str) -> None:
    """Of --root=DIR bash makes three words; and one dash is enough for a long name, as Go has it."""
    bash = Bash(path)
    assert bash("--root", "=", "/x", "res") == {"restore", "resume"}
    assert bash("--cgroup-manager", "=", "sy") == {"systemd"}
    assert bash("-cgroup-manager", "sy") == {"systemd"}
    assert bash("-root", "/x", "res") == {"restore", "resume"}
    assert bash("create", "-pid-file", "/x", "--no-p") == {"--no-pivot"}


def test_files(shell: Bash | Fish, workdir: Path) -> None:
    """What a path is wanted for: a directory for a bundle, a file for others."""
    (workdir / "dir").mkdir()
    (workdir / "document").write_text("")
    found = {each.rstrip("/") for each in shell("create", "--bundle", f"{workdir}/d")}
    assert found == {f"{workdir}/dir"}
    found = {each.rstrip("/") for each in shell("exec", "--process", f"{workdir}/d")}
    assert found == {f"{workdir}/dir", f"{workdir}/document"}


@pytest.mark.root
def test_containers(shell: Bash | Fish, runtime: RuntimeCommand, bundle: Bundle) -> None:
    """IDs are those of the state root that the line names; of arguments behind them they are none."""
    runtime.create(bundle)
    root = ("--root", str(runtime.root))
    assert shell(*root, "kill", "") >= {bundle.id}
    assert shell(*root, "delete", "--force", bundle.id[:5]) == {bundle.id}
    assert shell(*root, "kill", bundle.id, "US") == {"USR1", "USR2"}
    assert bundle.id not in shell(*root, "kill", bundle.id, "")
    assert bundle.id not in shell(*root, "list", "")
    assert shell(*root, "mounts", "add", bundle.id[:5]) == {bundle.id}


@pytest.fixture
def terminal(path: str) -> Iterator[int]:
    """A terminal with a zsh in it that has loaded the completion."""
    need("zsh")
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {"PATH": path, "TERM": "dumb", "PS1": "> ", "HOME": "/nonexistent"})
    setup = f"autoload -Uz compinit && compinit -u -D; source {SHARE / PLACES['zsh']}; setopt no_beep; echo lo''aded\n"
    try:
        os.write(fd, setup.encode())
        wait_for(fd, "loaded\r\n")
        yield fd
    finally:
        os.close(fd)
        os.waitpid(pid, 0)


def wait_for(fd: int, *words: str) -> None:
    """Read a terminal until all the words were shown."""
    shown, deadline = "", time.monotonic() + 60
    while not all(word in shown for word in words):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, shown
        shown += os.read(fd, 4096).decode(errors="replace")


def type_line(fd: int, line: str, *words: str) -> None:
    """Type a line and the key for completion, wait for what is to appear, and clear the line."""
    os.write(fd, line.encode() + b"\t")
    wait_for(fd, *words)
    os.write(fd, b"\x15")


def test_zsh(terminal: int) -> None:
    """Commands with their phrases, options, values: in a real zsh, as one types."""
    type_line(terminal, "ocirun sta", "start", "state", "print the state of a container")
    type_line(terminal, "ocirun paus", "ocirun pause ")
    type_line(terminal, "ocirun create --pid", "--pid-file", "--pidfd-socket")
    type_line(terminal, "ocirun list --format js", "--format json ")
    type_line(terminal, "ocirun completion z", "completion zsh ")


@pytest.mark.root
def test_zsh_containers(runtime: RuntimeCommand, bundle: Bundle, terminal: int) -> None:
    """The IDs of the state root that the line names."""
    runtime.create(bundle)
    type_line(terminal, f"ocirun --root {runtime.root} state {bundle.id[:5]}", f"state {bundle.id} ")
