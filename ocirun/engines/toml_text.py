# SPDX-License-Identifier: Apache-2.0
"""Settings in TOML: changed line by line, so that comments, order and layout stay as they are.

What a line means tomllib is asked, never guessed: a line begins a statement if what stands before it is a document by
itself.  And the result is parsed again: unless it is exactly what was there with the settings in it, it is refused.
"""

from __future__ import annotations

from ocirun.engines import EngineConfigError, leaves, lookup, merge, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ocirun.engines import Table

    Path = tuple[str, ...]

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def parse(text: str, name: str) -> Table:
    """Return the document that a file holds.  Errors: EngineConfigError with the file, the line and the reason."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        raise EngineConfigError(f"{name}: {reason[:1].lower()}{reason[1:]}") from None
    except RecursionError:
        raise EngineConfigError(f"{name}: nested too deeply") from None


def edited(text: str, settings: Table, name: str) -> str:
    """Return *text* with the settings in it and everything else as it was, to the letter.

    Errors: EngineConfigError, also where a setting stands in a place that cannot be changed by lines, such as an
    inline table.
    """
    before = parse(text, name)
    wanted = merge(before, settings, name)
    lines = [f"{line}\n" for line in text.split("\n")]  # str.splitlines knows ends of lines that TOML does not
    lines[-1:] = [lines[-1]] if lines[-1] != "\n" else []
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    for path, value in leaves(settings):
        if not same(lookup(before, *path), value):
            _set(lines, path, value, newline)
    after = "".join(lines) if not same(before, wanted) else text
    if not same(_loads(after), wanted):
        raise EngineConfigError(
            f"{name}: the settings cannot be added without touching others",
            hint="without --write the command prints what to add by hand",
        )
    return after


def render(settings: Table) -> str:
    """Return settings as a file of their own, the tables in the order in which they are first named."""
    lines: list[str] = []
    for path, value in leaves(settings):
        _set(lines, path, value, "\n")
    return "".join(lines)


def _set(lines: list[str], path: Path, value: object, newline: str) -> None:
    sections = list(_sections(lines))
    # The longest header first: "[a.b]" before "b.c = 1" in "[a]".
    for header, start, end in sorted(sections, key=lambda section: -len(section[0])):
        if header == path[: len(header)] and _replace(lines, start, end, path[len(header) :], value):
            return
    for header, start, end in sections:
        if header == path[:-1]:
            _insert(lines, start, end, f"{_key(path[-1])} = {_value(value)}{newline}")
            return
    if lines and lines[-1].strip():
        lines.append(newline)
    lines += [f"[{'.'.join(map(_key, path[:-1]))}]{newline}", f"{_key(path[-1])} = {_value(value)}{newline}"]


def _sections(lines: list[str]) -> Iterator[tuple[Path, int, int]]:
    """Yield the path of each table that has a header, and the lines from behind it to the next header.

    First of all what stands before any header; elements of arrays are left out.
    """
    path: Path | None = ()
    start = 0
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("[") or _loads("".join(lines[:number])) is None:
            continue
        if path is not None:
            yield path, start, number
        document = _loads(line)
        path, start = None if document is None else _only_path(document, {}), number + 1
    if path is not None:
        yield path, start, len(lines)


def _replace(lines: list[str], start: int, end: int, path: Path, value: object) -> bool:
    """Give the setting another value where it is set between two lines; False where it is not."""
    for number in range(start, end):
        line = lines[number]
        left = _left_side(line, path)
        if left is None or _loads("".join(lines[:number])) is None:
            continue
        last = number + 1
        while last < end and _loads("".join(lines[number:last])) is None:
            last += 1
        statement = "".join(lines[number:last])
        body = statement.rstrip("\r\n")
        ending = _comment(body) + statement[len(body) :]
        lines[number:last] = [f"{left}= {_value(value)}{ending}"]
        return True
    return False


def _left_side(line: str, path: Path) -> str | None:
    """Return what stands before "=" in a line that sets *path*, None for other lines."""
    at = line.find("=")
    while at >= 0:
        document = _loads(f"{line[:at]}= 0")
        if document is not None:
            return line[:at] if _only_path(document, 0) == path else None
        at = line.find("=", at + 1)
    return None


def _comment(statement: str) -> str:
    """Return the comment at the end of a statement, with the space before it; "" for none."""
    whole = _loads(statement)
    at = statement.find("#")
    while at >= 0:
        before = _loads(statement[:at])
        if before is not None and same(before, whole):
            return statement[len(statement[:at].rstrip()) :]
        at = statement.find("#", at + 1)
    return ""


def _insert(lines: list[str], start: int, end: int, line: str) -> None:
    """Put a line behind the last one of a table; comments before the next header are that one's."""
    at = end
    while at > start and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    model = lines[at - 1] if at > 0 else ""
    # A closing bracket is indented less than what it closes; it is as good a guess as any.
    lines.insert(at, model[: len(model) - len(model.lstrip(" \t"))] + line)


def _loads(text: str) -> Table | None:
    """Return the document, None where it is none."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _only_path(document: Any, end: object) -> Path | None:
    """Return the path of keys in a document that has one leaf: *end*."""
    path: list[str] = []
    while document != end:
        if not isinstance(document, dict) or len(document) != 1:
            return None
        [(key, document)] = document.items()
        path.append(key)
    return tuple(path)


def _key(key: str) -> str:
    return key if key and _BARE.issuperset(key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    assert isinstance(value, str), value
    from _json import encode_basestring

    # JSON leaves this one control character as it is, TOML does not.
    return encode_basestring(value).replace("\x7f", "\\u007f")
