# SPDX-License-Identifier: Apache-2.0
"""Manual pages, made from the table and from the texts of `manual` when the package is built.

Sources: man(7), groff_man(7)
"""

from __future__ import annotations

from ocirun.cli.manual import DESCRIPTIONS, SECTIONS, paragraphs
from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP
from ocirun.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.cli.table import Command, Option

#: Of the pages, which say what this version does: the day on which the texts were last looked through.
_DATE = "2026-11-26"


def pages() -> dict[str, str]:
    """Return the text of each page by the name of its file."""
    made = {"ocirun.1": "\n".join(_program())}
    for command in COMMANDS:
        made[f"ocirun-{command.name}.1"] = "\n".join(_command(command))
    return {name: text + "\n" for name, text in made.items()}


def _program() -> Iterator[str]:
    yield from _head("OCIRUN", "ocirun", "run containers as the Open Container Initiative specifies it")
    yield ".SH SYNOPSIS"
    yield "\\fBocirun\\fR [\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from _text(DESCRIPTIONS[""])
    yield ".SH COMMANDS"
    for command in COMMANDS:
        yield ".TP"
        yield f"\\fB{_escape(f'ocirun-{command.name}')}\\fR(1)"
        yield _escape(f"{_sentence(command.help)}")
    yield ".SH GLOBAL OPTIONS"
    yield from _options(GLOBAL_OPTIONS)
    for title, text in SECTIONS.items():
        yield f".SH {title}"
        yield from _text(text)
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {_escape(f'ocirun-{command.name}')} (1)" for command in COMMANDS)


def _command(command: Command) -> Iterator[str]:
    name = f"ocirun-{command.name}"
    yield from _head(name.upper(), name, command.help)
    yield ".SH SYNOPSIS"
    words = " ".join(_argument(each) for each in command.arguments)
    yield f"\\fBocirun {_escape(command.name)}\\fR [\\fIOPTIONS\\fR] {words}".rstrip()
    yield ".SH DESCRIPTION"
    yield from _text(DESCRIPTIONS.get(command.name, command.help))
    yield ".SH OPTIONS"
    yield from _options((*command.options, HELP))
    yield ".PP"
    yield "The global options of \\fBocirun\\fR(1) are accepted too."
    yield ".SH SEE ALSO"
    yield ".BR ocirun (1)"


def _head(title: str, name: str, phrase: str) -> Iterator[str]:
    yield '.\\" Made from the table of the command line: what is changed here is lost with the next build.'
    yield f'.TH {_escape(title)} 1 {_DATE} "ocirun {VERSION}" "ocirun"'
    yield ".SH NAME"
    yield f"{_escape(name)} \\- {_escape(phrase)}"


def _argument(name: str) -> str:
    optional = name.startswith("[")
    bare = name.strip("[]")
    if bare.islower():
        return f"\\fB{_escape(bare)}\\fR"
    return f"[\\fI{_escape(bare)}\\fR]" if optional else f"\\fI{_escape(bare)}\\fR"


def _options(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        if option.help is None:
            continue
        yield ".TP"
        left = f"\\fB\\-{option.short[0]}\\fR, " if option.short else ""
        left += f"\\fB\\-\\-{_escape(option.name)}\\fR"
        yield left + (f" \\fI{_escape(option.value)}\\fR" if option.value is not None else "")
        yield _escape(_sentence(option.help)) + _values(option)


def _values(option: Option) -> str:
    words = ""
    if option.choices:
        words += " One of " + ", ".join(f"\\fB{_escape(each)}\\fR" for each in option.choices) + "."
    if option.default is not None:
        words += f" The default is \\fB{_escape(option.default)}\\fR."
    return words


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:] + ("" if phrase.endswith(".") else ".")


def _text(text: str) -> Iterator[str]:
    for number, (is_example, words) in enumerate(paragraphs(text)):
        if is_example:
            yield ".PP"
            yield ".RS 4"
            yield ".EX"
            yield _escape(words)
            yield ".EE"
            yield ".RE"
            continue
        if number:
            yield ".PP"
        parts = _escape(words).split("`")
        yield "".join(f"\\fB{part}\\fR" if at % 2 else part for at, part in enumerate(parts))


def _escape(text: str) -> str:
    """Return text as roff takes it: a hyphen that is typed is a minus, and no line begins with a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\\&" + text if text[:1] in (".", "'") else text
