# SPDX-License-Identifier: Apache-2.0
"""The texts of --help and --version."""

from __future__ import annotations

from ocirun.cli.manual import DESCRIPTIONS, paragraphs
from ocirun.cli.parser import usage
from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP
from ocirun.version import SPEC_VERSION, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.cli.table import Command, Option

_COLUMN = 28
_WIDTH = 100
# As crun has it, for people.  `features` says the same, but it takes its answers from where they are used.
_PARTS = "+SECCOMP +CGROUPFS +CGROUP1 +CGROUP2 +SYSTEMD +APPARMOR +SELINUX -CRIU"


def version_text() -> str:
    """Return what --version prints.

    docker reads the first line with "version" in it and the one with "commit:", podman shows the whole; nobody reads
    runc's "libseccomp:".  There is none: that library compiles no filter of ours, and is loaded only where system calls
    have no numbers yet, which would take longer than the rest.  `features` says which one is found.
    """
    return f"ocirun version {VERSION}\ncommit: {VERSION}\nspec: {SPEC_VERSION}\n{_PARTS}\n"


def help_text(command: Command | None = None) -> str:
    """Return the help of a command, or of the program."""
    lines = _program() if command is None else _command(command)
    return "\n".join(lines) + "\n"


def _program() -> Iterator[str]:
    yield "usage: ocirun [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]"
    yield ""
    yield "Runs containers as the Open Container Initiative specifies it."
    yield ""
    yield "commands:"
    for command in COMMANDS:
        yield f"  {command.name:<10} {command.help}"
    yield ""
    yield "global options:"
    yield from _options(GLOBAL_OPTIONS)


def _command(command: Command) -> Iterator[str]:
    yield f"usage: {usage(command)}"
    yield ""
    for is_example, text in paragraphs(DESCRIPTIONS.get(command.name, command.help)):
        yield from [f"    {text}"] if is_example else wrap(text.replace("`", ""))
        yield ""
    yield "options:"
    yield from _options((*command.options, HELP))


def wrap(text: str) -> Iterator[str]:
    """Break a paragraph into lines."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = ""
        line += f" {word}" if line else word
    yield line


def _options(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        if option.help is None:
            continue
        left = f"-{option.short[0]}, --{option.name}" if option.short else f"    --{option.name}"
        if option.value is not None:
            left += f" {option.value}"
        choices = f": {', '.join(option.choices)}" if option.choices else ""
        default = f" (default: {option.default})" if option.default is not None else ""
        text = f"{option.help}{choices}{default}"
        if len(left) >= _COLUMN:
            yield f"  {left}"
            left = ""
        yield f"  {left:<{_COLUMN}} {text}"
