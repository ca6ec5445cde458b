# SPDX-License-Identifier: Apache-2.0
"""The parser.  By hand, because argparse takes longer to import than `state` to run.

Long options may have one dash or two (Go programs write `-no-subreaper`), values follow "=" or a blank, "--" ends the
options.  Options of a command may stand before and after its arguments.
"""

from __future__ import annotations

from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, Command, find_command, options_of
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.table import Option

PROGRAM = "ocirun"


class UsageError(OcirunError):
    """The command line cannot be understood."""

    code = "usage"


class Invocation:
    """A parsed command line.  `values` holds options with a value, `switches` those without, both by long name."""

    __slots__ = ("arguments", "command", "switches", "values")

    def __init__(self) -> None:
        self.command: Command | None = None
        self.values: dict[str, str] = {}
        self.switches: set[str] = set()
        self.arguments: list[str] = []

    def value(self, name: str, default: str | None = None) -> str | None:
        """Return the value of an option."""
        return self.values.get(name, default)

    def has(self, name: str) -> bool:
        """Say whether a switch was given."""
        return name in self.switches


def parse(argv: Sequence[str]) -> Invocation:
    """Parse the words after the program's name.  Errors: UsageError."""
    result = Invocation()
    rest = _parse_options(list(argv), GLOBAL_OPTIONS, result, stop_at_argument=True)
    # -v and -h want no command.
    if not rest or result.has("version") or result.has("help"):
        return result
    name = rest.pop(0)
    command = find_command(name)
    if command is None:
        raise UsageError(f"unknown command {name!r}, see {PROGRAM} --help")
    result.command = command
    result.arguments = _parse_options(rest, options_of(command), result, stop_at_argument=False)
    if not result.has("help") and not command.least <= len(result.arguments) <= command.most:
        usage = f"{PROGRAM} {command.name} [OPTIONS] {command.arguments}".rstrip()
        raise UsageError(
            f"{command.name}: {len(result.arguments)} arguments given, usage: {usage}"
        )
    return result


def _parse_options(
    words: list[str], options: Sequence[Option], result: Invocation, *, stop_at_argument: bool
) -> list[str]:
    arguments: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return arguments + words
        if word == "-" or not word.startswith("-"):
            if stop_at_argument:
                return [word, *words]
            arguments.append(word)
        else:
            _parse_option(word, words, options, result)
    return arguments


def _parse_option(
    word: str, words: list[str], options: Sequence[Option], result: Invocation
) -> None:
    name, equals, value = word.lstrip("-").partition("=")
    option = _find(name, word, options)
    if option is None:
        if _parse_cluster(word, options, result):
            return
        raise UsageError(f"unknown option {word.partition('=')[0]}, see {PROGRAM} --help")
    if option.value is None:
        if equals and value not in ("true", "false"):
            raise UsageError(f"option --{option.name} takes no value")
        if value == "false":
            result.switches.discard(option.name)
        else:
            result.switches.add(option.name)
        return
    if not equals:
        if not words:
            raise UsageError(f"option --{option.name} needs a value: {option.value}")
        value = words.pop(0)
    result.values[option.name] = value


def _find(name: str, word: str, options: Sequence[Option]) -> Option | None:
    for option in options:
        if option.name == name or (option.short == name and not word.startswith("--")):
            return option
    return None


def _parse_cluster(word: str, options: Sequence[Option], result: Invocation) -> bool:
    """Take "-qf" as "-q -f" where all of them are switches."""
    if word.startswith("--"):
        return False
    found = []
    for letter in word[1:]:
        option = _find(letter, word, options)
        if option is None or option.value is not None:
            return False
        found.append(option.name)
    result.switches.update(found)
    return bool(found)


def help_text(command: Command | None) -> str:
    """Return the help of the program or of a command."""
    if command is None:
        lines = [
            f"usage: {PROGRAM} [OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]",
            "",
            "A container runtime after the Open Container Initiative's specification.",
            "",
            "commands:",
            *(f"  {each.name:<10} {each.help}" for each in COMMANDS),
            "",
            "options:",
        ]
        options: Sequence[Option] = GLOBAL_OPTIONS
    else:
        usage = f"usage: {PROGRAM} {command.name} [OPTIONS] {command.arguments}".rstrip()
        lines = [usage, "", command.help, "", "options:"]
        options = options_of(command)
    for option in options:
        left = f"--{option.name}" + (f" {option.value}" if option.value else "")
        if option.short:
            left = f"-{option.short}, {left}"
        default = f" (default: {option.default})" if option.default else ""
        lines.append(f"  {left:<28} {option.help}{default}")
    return "\n".join(lines) + "\n"
