# SPDX-License-Identifier: Apache-2.0
"""JSON as strict as the parsers of other languages, and without importing `json`.

`json` imports `re`, and the two cost more than everything else that `ocirun state` imports.  The
work is done by the C accelerator `_json` that `json` itself uses.

What is refused here although `json.loads` accepts it: duplicate keys (an engine may have checked
the other one), NaN, Infinity and numbers that overflow to infinity, a byte order mark and
encodings other than UTF-8, NUL characters (they end a string in the kernel) and lone surrogates
(they cannot be written again), integers of thousands of digits, nesting deeper than 64, documents
larger than 16 MiB.
"""

from __future__ import annotations

import sys
from _json import encode_basestring, make_encoder, make_scanner

from ocirun.errors import InvalidConfig, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_DIGITS = 4300

_WHITESPACE = " \t\n\r"


def loads(data: bytes, *, what: str = "config.json") -> object:
    """Parse one JSON document; *what* is its name in messages about its syntax.

    Errors: InvalidConfig with problems of the gate "json": all of them, or the one syntax error.
    """
    text = _decode(data, what)
    context = _Context()
    try:
        value, end = _scan(text, context)
    except StopIteration as stop:
        raise _refuse(what, f"a value is expected{_place(text, stop.value)}") from None
    except RecursionError:
        raise _refuse(what, f"nested deeper than {MAX_DEPTH}") from None
    except (ValueError, SystemError):
        # Without json.decoder the C scanner has no exception to raise, hence SystemError.
        raise _syntax_error(text, what) from None
    end = _skip_whitespace(text, end)
    if end != len(text):
        raise _refuse(what, f"more text after the end of the document{_place(text, end)}")
    if _depth_exceeds(value, MAX_DEPTH):
        raise _refuse(what, f"nested deeper than {MAX_DEPTH}")
    # Escapes are the only way by which NUL and surrogates pass the decoder and the scanner.
    if context.refused or ("\\" in text and "\\u" in text):
        problems = list(_find_problems(value, ""))
        if problems:
            raise InvalidConfig(problems)
    return value


def dumps(value: object) -> str:
    """Return *value* as JSON on one line without spaces, keys in their own order.

    Errors: ValueError or TypeError for what JSON cannot say.
    """
    encode = make_encoder({}, _refuse_type, encode_basestring, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def dumps_pretty(value: object, indent: str = "    ") -> str:
    """Return *value* as indented JSON without a final newline.

    Errors: ValueError or TypeError for what JSON cannot say.
    """
    return "".join(_pretty(value, "\n", indent))


def pointer_token(key: str) -> str:
    """Return *key* escaped as one token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


class _Refused:
    """Stands in a parsed value for a number that is not accepted."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


_SCALARS = frozenset({str, int, float, bool, type(None), _Refused})


class _Repeats(dict[str, object]):
    """An object of which keys were given more than once."""

    __slots__ = ("repeated",)
    repeated: list[str]


class _Context:
    """The settings and hooks that `_json.make_scanner` reads from its argument."""

    strict = True
    object_hook = None

    def __init__(self) -> None:
        self.refused = False
        self.parse_int: Callable[[str], object] = int
        if not 0 < sys.get_int_max_str_digits() <= MAX_DIGITS:
            # The host program lifted the interpreter's own limit; the time would be quadratic.
            self.parse_int = self._parse_bounded_int

    def object_pairs_hook(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        self.refused = True
        return _find_repeats(pairs)

    def parse_constant(self, name: str) -> object:
        self.refused = True
        return _Refused(f"{name} is not a JSON number")

    def parse_float(self, digits: str) -> object:
        number = float(digits)
        if number - number == 0.0:
            return number
        self.refused = True
        return _Refused(f"the number {_shorten(digits)} is too large")

    def _parse_bounded_int(self, digits: str) -> object:
        if len(digits) <= MAX_DIGITS:
            return int(digits)
        self.refused = True
        return _Refused(f"the number {_shorten(digits)} is too large")


def _scan(text: str, context: _Context) -> tuple[object, int]:
    scan_once = make_scanner(context)  # type: ignore[arg-type]  # anything with these attributes
    result: tuple[object, int] = scan_once(text, _skip_whitespace(text, 0))
    return result


def _find_repeats(pairs: list[tuple[str, object]]) -> _Repeats:
    result = _Repeats()
    repeated: dict[str, None] = {}
    for key, value in pairs:
        if key in result:
            repeated[key] = None
        result[key] = value
    result.repeated = list(repeated)
    return result


def _decode(data: bytes, what: str) -> str:
    if len(data) > MAX_BYTES:
        raise _refuse(what, f"larger than {MAX_BYTES >> 20} MiB ({len(data)} bytes)")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _refuse(what, "starts with a byte order mark, must be plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(what, f"byte {error.start} is not UTF-8") from None


def _skip_whitespace(text: str, start: int) -> int:
    end = len(text)
    while start < end and text[start] in _WHITESPACE:
        start += 1
    return start


def _syntax_error(text: str, what: str) -> InvalidConfig:
    from json.decoder import JSONDecodeError

    try:
        _scan(text, _Context())
    except JSONDecodeError as error:
        message = error.msg[:1].lower() + error.msg[1:]
        return _refuse(what, f"{message.removesuffix(' at')}{_place(text, error.pos)}")
    except (ValueError, StopIteration):
        pass
    return _refuse(what, f"a number has more than {MAX_DIGITS} digits")


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f" (line {line} column {column})"


def _refuse(what: str, message: str) -> InvalidConfig:
    return InvalidConfig([Problem("json", "", f"{what}: {message}")])


def _depth_exceeds(value: object, limit: int) -> bool:
    level: list[Any] = [] if type(value) in _SCALARS else [value]  # dicts and lists
    for _ in range(limit):
        deeper: list[Any] = []
        for item in level:
            members: Iterable[object] = item.values() if isinstance(item, dict) else item
            if not _SCALARS.issuperset(map(type, members)):
                deeper += [member for member in members if type(member) not in _SCALARS]
        if not deeper:
            return False
        level = deeper
    return True


def _find_problems(value: object, pointer: str) -> Iterator[Problem]:
    if isinstance(value, _Refused):
        yield Problem("json", pointer, value.reason)
    elif isinstance(value, str):
        yield from _find_bad_characters(value, pointer, "the string")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_problems(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            # The pointer is for printing, which a lone surrogate would not survive.
            token = pointer_token(key).encode("utf-8", "backslashreplace").decode()
            below = f"{pointer}/{token}"
            yield from _find_bad_characters(key, below, "the key")
            if isinstance(value, _Repeats) and key in value.repeated:
                yield Problem("json", below, "the key is given more than once")
            yield from _find_problems(item, below)


def _find_bad_characters(text: str, pointer: str, what: str) -> Iterator[Problem]:
    if "\0" in text:
        yield Problem("json", pointer, f"{what} contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield Problem("json", pointer, f"{what} contains half of a surrogate pair")


def _shorten(digits: str) -> str:
    return digits if len(digits) <= 30 else f"{digits[:20]}... ({len(digits)} characters)"


def _refuse_type(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _pretty(value: object, newline: str, indent: str) -> Iterator[str]:
    inner = newline + indent
    if isinstance(value, dict) and value:
        separator = "{"
        for key, item in value.items():
            yield f"{separator}{inner}{encode_basestring(key)}: "
            yield from _pretty(item, inner, indent)
            separator = ","
        yield newline + "}"
    elif isinstance(value, list | tuple) and value:
        separator = "["
        for item in value:
            yield separator + inner
            yield from _pretty(item, inner, indent)
            separator = ","
        yield newline + "]"
    else:
        yield dumps(value)
