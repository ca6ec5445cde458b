# SPDX-License-Identifier: Apache-2.0
"""The parser.  By hand, because argparse takes longer to import than `state` to run.

Long options may have one dash or two (Go programs write `-no-subreaper`), values follow "=" or stand in the next word,
switches take "=true" or "=false", single letters may be joined (`-qf json`, `-bDIR`), "--" ends the options.  Options
may stand before and after the arguments of a command, and global options after the command too.  Of an option that is
given twice, the last one counts, unless it is one of those that may be repeated.
"""

from __future__ import annotations

from ocirun.cli.table import GLOBAL_OPTIONS, HELP, find_command
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.table import Command, Option

# What Go's flag package takes for a truth value: engines are written in Go.
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class UsageError(OcirunError):
    """The command line cannot be understood."""

    code = "usage"


class Invocation:
    """A parsed command line: `values` of options, and `switches` that are on or off, all by long name.

    `repeated` has all values of options that may be given several times.
    """

    __slots__ = ("arguments", "command", "off", "repeated", "switches", "values")

    def __init__(self) -> None:
        self.command: Command | None = None
        self.arguments: list[str] = []
        self.values: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {}
        self.switches: set[str] = set()
        self.off: set[str] = set()

    def value(self, name: str) -> str | None:
        """Return the value of an option.  An empty one is as good as none: Go programs pass those."""
        return self.values.get(name) or None

    def has(self, name: str) -> bool:
        """Say whether a switch is on."""
        return name in self.switches

    def switch(self, name: str) -> bool | None:
        """Return what was said of a switch, None where nothing was."""
        return True if name in self.switches else False if name in self.off else None

    @property
    def asks(self) -> bool:
        """Whether only a text about the command is wanted."""
        return not self.switches.isdisjoint(("help", "usage", "version"))

    @property
    def container_id(self) -> str | None:
        """The ID that the command is about, None where it is about none."""
        if self.command is None or "ID" not in self.command.arguments:
            return None
        position = self.command.arguments.index("ID")
        return self.arguments[position] if len(self.arguments) > position else None


def parse(words: Sequence[str], into: Invocation) -> None:
    """Parse the words after the program's name.

    After an error `into` holds what was before it, so that the error can be reported as the options say.
    Errors: UsageError.
    """
    left = list(words)
    _take_options(left, (GLOBAL_OPTIONS,), None, into)
    if not left or into.asks:
        return
    name = left.pop(0)
    command = find_command(name)
    if command is None:
        raise UsageError(f"unknown command {name!r}", hint="`ocirun --help` lists the commands")
    into.command = command
    tables = ((*command.options, HELP), GLOBAL_OPTIONS)
    if _passes_words_on(command):
        _take_options(left, tables, None, into)
        into.arguments += left[:1]
        into.arguments += left[2:] if left[1:2] == ["--"] else left[1:]
    else:
        _take_options(left, tables, into.arguments, into)
    if not into.asks:
        _check_arguments(command, into.arguments)


def _passes_words_on(command: Command) -> bool:
    """Say whether what follows the first argument, options and all, is another program's."""
    return command.arguments[-1:] != () and command.arguments[-1].endswith("...]")


def _take_options(
    words: list[str], tables: Sequence[Sequence[Option]], arguments: list[str] | None, into: Invocation
) -> None:
    """Take options from the front of `words`, and arguments among them; without `arguments` stop at the first."""
    while words:
        if words[0] == "--":
            words.pop(0)
            break
        if words[0] != "-" and words[0].startswith("-"):
            _take_option(words, tables, into)
        elif arguments is None:
            return
        else:
            arguments.append(words.pop(0))
    if arguments is not None:
        arguments += words
        words.clear()


def _take_option(words: list[str], tables: Sequence[Sequence[Option]], into: Invocation) -> None:
    word = words.pop(0)
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    option = _find(name, tables)
    if option is not None:
        _set(option, value if equals else None, words, into)
    elif word.startswith("--") or not _take_letters(word[1:], words, tables[0], into):
        raise UsageError(f"unknown option {word.partition('=')[0]!r}", hint=_help_hint(into))


def _find(name: str, tables: Sequence[Sequence[Option]]) -> Option | None:
    for table in tables:
        for option in table:
            if option.name == name:
                return option
    return None


def _take_letters(
    letters: str, words: list[str], table: Sequence[Option], into: Invocation
) -> bool:
    """Take "qf=json" as -q and -f json; False, and nothing taken, where a letter is not known."""
    found: list[tuple[Option, str | None]] = []
    letters, equals, value = letters.partition("=")
    while letters:
        option = next((each for each in table if letters[0] in each.short), None)
        letters = letters[1:]
        if option is None:
            return False
        if option.value is not None and letters:
            found.append((option, letters + equals + value))
            letters = equals = ""
        else:
            found.append((option, value if equals and not letters else None))
    for option, attached in found:
        _set(option, attached, words, into)
    return bool(found)


def _set(option: Option, value: str | None, words: list[str], into: Invocation) -> None:
    """Set an option to the value that was given with it, None for none."""
    if option.value is None:
        if value is None or value in _TRUE:
            into.switches.add(option.name)
            into.off.discard(option.name)
        elif value in _FALSE:
            into.switches.discard(option.name)
            into.off.add(option.name)
        else:
            raise UsageError(f"option --{option.name} takes no value but true or false")
        return
    if value is None:
        if not words:
            raise UsageError(f"option --{option.name} needs a value: {option.value}")
        value = words.pop(0)
    if option.choices and value not in option.choices:
        raise UsageError(f"option --{option.name} is one of {', '.join(option.choices)}, not {value!r}")
    into.values[option.name] = value
    if option.is_repeatable:
        into.repeated.setdefault(option.name, []).append(value)


def _check_arguments(command: Command, given: Sequence[str]) -> None:
    hint = f"usage: {usage(command)}"
    for position, name in enumerate(command.arguments):
        if position >= len(given) and not name.startswith("["):
            raise UsageError(f"the argument {name} is missing", hint=hint)
    if len(given) > len(command.arguments) and not _passes_words_on(command):
        raise UsageError(f"one argument too many: {given[len(command.arguments)]!r}", hint=hint)


def _help_hint(into: Invocation) -> str:
    command = f" {into.command.name}" if into.command is not None else ""
    return f"`ocirun{command} --help` lists the options"


def usage(command: Command) -> str:
    """Return the line that says how a command is called."""
    return " ".join(("ocirun", command.name, "[OPTIONS]", *command.arguments))
