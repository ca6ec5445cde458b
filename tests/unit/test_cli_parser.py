# SPDX-License-Identifier: Apache-2.0
"""The command line's parser: whatever is written in a way that engines write comes out as it was meant."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cli.exec import parse_user
from ocirun.cli.help import help_text, version_text
from ocirun.cli.parser import Invocation, UsageError, parse
from ocirun.cli.signals import RTMAX, RTMIN, SIGNALS, WAITS, parse_signal
from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP, Command, Option

# What runc 1.5 and crun 1.29 have for these commands.
PEERS = {
    "": "root log log-format log-level debug cgroup-manager systemd-cgroup rootless version help usage criu",
    "create": "bundle config console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds no-subreaper",
    "run": "bundle config console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds no-subreaper"
    " detach keep",
    "start": "",
    "state": "",
    "kill": "all regex",
    "delete": "force regex",
    "list": "format quiet",
    "spec": "bundle file rootless",
    "features": "",
    "checkpoint": "image-path work-path parent-path leave-running tcp-established tcp-skip-in-flight link-remap ext-unix-sk"
    " shell-job lazy-pages status-fd page-server file-locks pre-dump manage-cgroups-mode empty-ns auto-dedup network-lock",
    "restore": "bundle detach pid-file console-socket image-path work-path tcp-established tcp-close ext-unix-sk shell-job"
    " file-locks manage-cgroups-mode lsm-profile lsm-mount-context no-pivot no-subreaper empty-ns auto-dedup lazy-pages"
    " network-lock",
    "exec": "console-socket cwd env tty user additional-gids process detach pid-file process-label apparmor no-new-privs cap"
    " preserve-fds cgroup ignore-paused pidfd-socket",
}
SHORT = {
    "": {"v": "version", "V": "version", "h": "help", "?": "help"},
    "create": {"b": "bundle", "f": "config"},
    "run": {"b": "bundle", "f": "config", "d": "detach"},
    "kill": {"a": "all", "r": "regex"},
    "delete": {"f": "force", "r": "regex"},
    "list": {"f": "format", "q": "quiet"},
    "spec": {"b": "bundle", "f": "file"},
    "checkpoint": {"R": "leave-running"},
    "restore": {"b": "bundle", "d": "detach"},
    "exec": {"e": "env", "t": "tty", "u": "user", "g": "additional-gids", "p": "process", "d": "detach", "c": "cap"},
}


def parsed(*words: str) -> Invocation:
    """Return what the parser makes of the words."""
    invocation = Invocation()
    parse(list(words), invocation)
    return invocation


def options_of(name: str) -> dict[str, Option]:
    """Return the options of a command, or the global ones, by long name."""
    if not name:
        return {option.name: option for option in GLOBAL_OPTIONS}
    (command,) = (command for command in COMMANDS if command.name == name)
    return {option.name: option for option in (*command.options, HELP)}


@pytest.mark.parametrize("name", PEERS)
def test_options_of_the_peers(name: str) -> None:
    """Every option that runc or crun has for a command is there, with its letter."""
    known = options_of(name)
    assert set(PEERS[name].split()) <= known.keys()
    for letter, option in SHORT.get(name, {}).items():
        assert letter in known[option].short


def passes_words_on(command: Command) -> bool:
    """Say whether what follows the ID is for another program."""
    return any(name.endswith("...]") for name in command.arguments)


@st.composite
def _given(draw: st.DrawFn, option: Option) -> tuple[list[str], str | None]:
    """Return an option as somebody may write it, and the value that is meant (None: a switch)."""
    dashes = draw(st.sampled_from(("-", "--")))
    letter = draw(st.sampled_from([*option.short, ""]))
    written = f"-{letter}" if letter else f"{dashes}{option.name}"
    if option.value is None:
        return [draw(st.sampled_from((written, f"{written}=true")))], None
    value = draw(st.sampled_from(option.choices) if option.choices else st.text(max_size=8))
    form = draw(st.sampled_from(("next", "equals")))
    return ([written, value] if form == "next" else [f"{written}={value}"]), value


@st.composite
def _command_lines(draw: st.DrawFn) -> tuple[list[str], Command, dict[str, str], set[str], list[str]]:
    """Return a command line and what it means: command, values, switches, arguments."""
    command = draw(st.sampled_from(COMMANDS))
    values: dict[str, str] = {}
    switches: set[str] = set()
    words = []
    skip = ("help", "usage", "version", "root")  # they end everything, or have rules of their own
    for table, at in ((GLOBAL_OPTIONS, 0), (command.options, 1)):
        parts = []
        for option in draw(st.lists(st.sampled_from(table), max_size=4)) if table else ():
            if option.name in skip:
                continue
            written, value = draw(_given(option))
            parts.append(written)
            if value is None:
                switches.add(option.name)
            else:
                values[option.name] = value
        if at == 0:
            words += [word for part in parts for word in part] + [command.name]
            continue
        most = len(command.arguments)
        least = sum(not name.startswith("[") for name in command.arguments)
        plain = st.text(min_size=1, max_size=6).filter(lambda text: not text.startswith("-"))
        arguments = draw(st.lists(plain, min_size=least, max_size=most))
        cut = 0 if passes_words_on(command) else draw(st.integers(0, len(arguments)))
        words += arguments[:cut] + [word for part in parts for word in part] + arguments[cut:]
    return words, command, values, switches, arguments


@given(_command_lines())
def test_everything_comes_out_as_meant(
    line: tuple[list[str], Command, dict[str, str], set[str], list[str]],
) -> None:
    """Options in any form and order, around the arguments, give what was put in; the last one counts."""
    words, command, values, switches, arguments = line
    invocation = parsed(*words)
    assert invocation.command is command
    assert invocation.values == values
    assert invocation.switches == switches
    assert invocation.arguments == arguments


@given(st.lists(st.one_of(
    st.text(max_size=6),
    st.sampled_from([f"--{option.name}" for option in GLOBAL_OPTIONS]),
    st.sampled_from([command.name for command in COMMANDS]),
    st.sampled_from(["-", "--", "---", "-=", "--=", "=", "-qf", "-fq", "-f=", "--bundle=", "-b", "\udcff"]),
), max_size=8))  # fmt: skip
def test_anything_else_is_a_usage_error(words: list[str]) -> None:
    """Whatever the words, the parser either understands them or says why not."""
    try:
        invocation = parsed(*words)
    except UsageError as error:
        assert str(error)
        return
    command = invocation.command
    if command is not None and not invocation.asks and not passes_words_on(command):
        assert len(invocation.arguments) <= len(command.arguments)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["kill", "c", "KILL"], ["c", "KILL"]),
        (["kill", "c"], ["c"]),
        (["kill", "--all", "c", "9"], ["c", "9"]),
        (["kill", "c", "--all", "9"], ["c", "9"]),
        (["kill", "c", "9", "-a"], ["c", "9"]),
        (["kill", "--", "-x", "9"], ["-x", "9"]),
        (["kill", "-a", "--", "-x", "-9"], ["-x", "-9"]),
    ],
)
def test_orders_of_kill(words: list[str], arguments: list[str]) -> None:
    """The ID, the signal and --all in every order that is in use."""
    invocation = parsed(*words)
    assert invocation.arguments == arguments
    assert invocation.has("all") == ("--all" in words or "-a" in words)


# What docker, containerd, buildah and podman called in recorded runs, with the commands that exist here.
RECORDED = (
    "--debug --root R --log L --log-format json create --bundle B --pid-file P ID",
    "--debug --root R --log L --log-format json delete --force ID",
    "--log L --log-format json run --bundle B ID",
    "--root R --log L --log-format json create --bundle B --pid-file P --console-socket S ID",
    "--root R --log L --log-format json create --bundle B --pid-file P --no-pivot ID",
    "--root R --log L --log-format json create --bundle B --pid-file P ID",
    "--root R --log L --log-format json delete --force ID",
    "--root R --log L --log-format json delete ID",
    "--root R --log L --log-format json kill --all ID SIG",
    "--root R --log L --log-format json kill ID SIG",
    "--root R --log L --log-format json start ID",
    "--root R --log L --log-format json run --detach --pid-file P -no-subreaper --bundle B ID",
    "--log-format=json --log L create --bundle B --pid-file P --console-socket S ID",
    "--log-format=json --log L create --bundle B --pid-file P --preserve-fds 1 ID",
    "--cgroup-manager disabled --log-format=json --log L create --bundle B --pid-file P ID",
    "create --bundle B --pid-file P --no-new-keyring ID",
    "delete --force ID",
    "delete ID",
    "kill ID SIG",
    "start ID",
    "state ID",
)
MEANING = {"root": "R", "log": "L", "log-format": "json", "bundle": "B", "pid-file": "P", "console-socket": "S",
           "preserve-fds": "1", "cgroup-manager": "disabled"}  # fmt: skip


@pytest.mark.parametrize("line", RECORDED)
def test_recorded_calls(line: str) -> None:
    """Each call of an engine is understood, every word of it."""
    words = line.split()
    invocation = parsed(*words)
    assert invocation.command is not None
    assert invocation.command.name in words
    assert invocation.arguments == [word for word in words if word in ("ID", "SIG")]
    assert invocation.values.items() <= MEANING.items()
    options = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")}
    assert options == invocation.values.keys() | invocation.switches


def test_letters_may_be_joined() -> None:
    """-qf json, -qfjson and -fjson -q are the same."""
    for words in (["-qf", "json"], ["-qfjson"], ["-qf=json"], ["-fjson", "-q"], ["-f", "json", "-q"]):
        invocation = parsed("list", *words)
        assert invocation.has("quiet"), words
        assert invocation.value("format") == "json", words


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["create"],
        ["create", "a", "b"],
        ["kill"],
        ["kill", "a", "9", "b"],
        ["list", "a"],
        ["features", "a"],
        ["state", "--nosuch", "a"],
        ["state", "-x", "a"],
        ["create", "--bundle"],
        ["delete", "--force=perhaps", "a"],
        ["list", "--format", "yaml"],
        ["--log-format", "xml", "list"],
        ["--log-level", "loud", "list"],
        ["--cgroup-manager", "mine", "list"],
        ["--rootless", "maybe", "list"],
        ["--nosuch", "list"],
        ["kill", "c", "-9"],
    ],
)
def test_refused(words: list[str]) -> None:
    """What cannot be understood is refused, and nothing is guessed."""
    with pytest.raises(UsageError):
        parsed(*words)


def test_what_was_understood_before_an_error_is_kept() -> None:
    """An error in the command's words is still reported to the log that the global options name."""
    invocation = Invocation()
    with pytest.raises(UsageError):
        parse(["--log", "/x", "--log-format=json", "create", "--nosuch"], invocation)
    assert invocation.value("log") == "/x"
    assert invocation.value("log-format") == "json"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_every_option(command: Command) -> None:
    """The help of a command has each option that is not there for others' sake alone, in lines that fit a terminal."""
    text = help_text(command)
    for option in (*command.options, HELP):
        assert (f"--{option.name} " in text) == (option.help is not None)
    assert max(map(len, text.splitlines())) <= 110


def test_version_is_what_engines_parse() -> None:
    """docker splits at the one line with "version", podman shows it; commit and spec follow."""
    first, *rest = version_text().splitlines()
    assert first.startswith("ocirun version ")
    assert not any("version" in line for line in rest)
    assert any(line.startswith("spec: ") for line in rest)
    assert not any("libseccomp" in line for line in rest), "it is no part of ocirun: features tells which is found"


def test_places_where_a_signal_may_interrupt() -> None:
    """The functions that the command names as waits are there."""
    for name, functions in WAITS.items():
        source = ast.parse(Path(importlib.import_module(name).__file__ or "").read_text())
        defined = {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
        assert set(functions) <= defined, name


@given(st.text(max_size=12))
def test_signals_are_words_of_the_table(text: str) -> None:
    """S-74: a signal is accepted exactly if it is in the table; unicode digits and signs are not."""
    accepted = {str(number): number for number in range(1, 65)}
    accepted |= {f"0{number}": number for number in range(1, 10)}
    names = {**SIGNALS, "RTMIN": RTMIN, "RTMAX": RTMAX}
    for offset in range(RTMAX - RTMIN + 1):
        for digits in {str(offset), f"{offset:02}"}:
            names[f"RTMIN+{digits}"] = RTMIN + offset
            names[f"RTMAX-{digits}"] = RTMAX - offset
    name = text.upper() if text.isascii() else ""
    expected = accepted.get(text, names.get(name, names.get(name.removeprefix("SIG"))))
    try:
        found: int | None = parse_signal(text)
    except UsageError:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    "text", ["0", "-1", "65", "+9", "9 ", " 9", "\u0669", "\uff19", "0x9", "1_0", "", "SIG", "SIGSIGTERM", "RTMIN+31", "RTMIN-1"]
)
def test_no_signals(text: str) -> None:
    """S-74: numbers in other notations, other alphabets or out of range, and names cut or doubled."""
    with pytest.raises(UsageError):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigkill", 9), ("hup", 1), ("64", 64), ("RTMIN", 34), ("SIGRTMAX", 64),
     ("RTMIN+3", 37), ("rtmax-1", 63), ("IO", 29), ("POLL", 29), ("CLD", 17), ("IOT", 6)],
)  # fmt: skip
def test_signals(text: str, number: int) -> None:
    """Numbers and names, in any case, with and without SIG, as runc takes them."""
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    ("words", "arguments", "values", "switches"),
    [
        (["c", "ls", "-t", "--env", "--"], ["c", "ls", "-t", "--env", "--"], {}, set()),
        (["-t", "c", "sh", "-c", "exit 3"], ["c", "sh", "-c", "exit 3"], {}, {"tty"}),
        (["-tde", "A=1", "-e", "B=--", "c", "p"], ["c", "p"], {"env": ["A=1", "B=--"]}, {"tty", "detach"}),
        (["--", "c", "--tty"], ["c", "--tty"], {}, set()),
        (["c", "--", "p", "--"], ["c", "p", "--"], {}, set()),
        (["-g", "1", "--additional-gids=2", "--cap", "A", "-c=B", "c", "p"], ["c", "p"],
         {"additional-gids": ["1", "2"], "cap": ["A", "B"]}, set()),
        (["-cwd", "/x", "-user", "1:2", "c", "p"], ["c", "p"], {}, set()),
        (["c", "\udcff"], ["c", "\udcff"], {}, set()),
    ],
)  # fmt: skip
def test_program_of_exec(
    words: list[str], arguments: list[str], values: dict[str, list[str]], switches: set[str]
) -> None:
    """As with runc and crun the options end at the ID; options that may be repeated keep all their values."""
    invocation = parsed("exec", *words)
    assert invocation.arguments == arguments
    assert invocation.repeated == values
    assert invocation.switches == switches


@pytest.mark.parametrize(
    ("words", "said"),
    [([], None), (["--no-new-privs"], True), (["--no-new-privs=false"], False), (["--no-new-privs", "--no-new-privs=0"], False)],
)
def test_switch_that_was_turned_off(words: list[str], said: bool | None) -> None:
    """--no-new-privs=false is something else than not to say anything."""
    assert parsed("exec", *words, "c", "p").switch("no-new-privs") is said


@pytest.mark.parametrize(
    ("text", "user"),
    [("0", (0, None)), ("1", (1, None)), ("01", (1, None)), ("1:1", (1, 1)), ("4294967294:0", (4294967294, 0))],
)
def test_user_of_exec(text: str, user: tuple[int, int | None]) -> None:
    """S-40: digits, and a group after a colon."""
    assert parse_user(text) == user


@pytest.mark.parametrize(
    "text",
    ["", ":", "1:", ":1", "0x1", "1_0", "\uff11", "\u0661", "\u00b2", "1 ", " 1", "+1", "-1", "1\n", "1.0", "1:2:3", "root",
     "4294967295", "4294967296", "99999999999999999999", "1:4294967295", "1:root"],
)  # fmt: skip
def test_user_that_is_none(text: str) -> None:
    """S-40: whatever Python's int() or a table of names would make of it."""
    with pytest.raises(UsageError):
        parse_user(text)
