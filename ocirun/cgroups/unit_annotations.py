# SPDX-License-Identifier: Apache-2.0
"""Annotations "org.systemd.property.NAME": more properties for a container's scope.  Pure.

The value is GVariant text of a type that properties have: a boolean, an integer, a string, an array of strings.

    org.systemd.property.CollectMode      'inactive-or-failed'
    org.systemd.property.TimeoutStopSec   uint64 90
    org.systemd.property.After            ['network.target', "time-sync.target"]

A name that ends in Sec stands for one that ends in USec, of type uint64; its number, which may have a fraction, is in
seconds.

Format: GLib reference, "GVariant Text Format"
"""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.strict_json import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .systemd_bus import Property

PREFIX = "org.systemd.property."
#: What a scope is made with: changed, the container would be elsewhere, not be found again, or lose its cgroup.
_OURS = ("Delegate", "Description", "PIDs", "PIDFDs", "Slice")
_TYPES = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
    "string": "s",
}  # fmt: skip
_RANGES = {
    "y": (0, 0xFF),
    "n": (-0x8000, 0x7FFF),
    "q": (0, 0xFFFF),
    "i": (-0x8000_0000, 0x7FFF_FFFF),
    "u": (0, 0xFFFF_FFFF),
    "x": (-(1 << 63), (1 << 63) - 1),
    "t": (0, (1 << 64) - 1),
}
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def annotation_properties(annotations: Mapping[str, str]) -> tuple[list[Property], list[Problem]]:
    """Return the properties that the annotations ask for, and what is wrong with them."""
    found: list[Property] = []
    problems = []
    for key, text in annotations.items():
        if key.startswith(PREFIX):
            try:
                found.append(_property(key.removeprefix(PREFIX), text))
            except ValueError as error:
                problems.append(Problem("host", annotation_pointer(key), str(error)))
    return found, problems


def annotation_pointer(key: str) -> str:
    """Return the JSON pointer of an annotation."""
    return f"/annotations/{pointer_token(key)}"


def _property(name: str, text: str) -> Property:
    if len(name) < 3 or not (name.isascii() and name.isalpha()):
        raise ValueError(f"{name!r} is not the name of a property: three ASCII letters or more")
    if name in _OURS:
        raise ValueError(f"the property {name} of a container's scope is fixed")
    if name.endswith("Sec") and not name.endswith("USec"):
        return name.removesuffix("Sec") + "USec", ("t", _Reader(text).seconds())
    return name, _Reader(text).whole()


class _Reader:
    """Reads one value of GVariant text.  Errors: ValueError."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> tuple[str, Any]:
        """Return (signature, value) of all of the text."""
        value = self._value()
        self._end()
        return value

    def seconds(self) -> int:
        """Return a number of seconds, which may have a fraction, in microseconds."""
        word = self._word()
        if word in _TYPES or word == "double":
            word = self._word()
        self._end()
        whole, point, fraction = word.partition(".")
        if not (whole.isascii() and whole.isdecimal()) or (
            point and not (fraction.isascii() and fraction.isdecimal())
        ):
            raise self._wrong("not a number of seconds")
        usec = int(whole) * 1_000_000 + int(fraction[:6].ljust(6, "0"))
        if usec > _RANGES["t"][1]:
            raise self._wrong("out of range")
        return usec

    def _value(self) -> tuple[str, Any]:
        if self._peek() == "@":
            self._at += 1
            signature = self._word()
            if signature == "as":
                return "as", self._array()
            if signature not in _TYPES.values():
                raise self._wrong(f"no property has a value of type {signature!r}")
            return signature, self._scalar(signature)
        if self._peek() == "[":
            return "as", self._array()
        if self._peek() in ("'", '"'):
            return "s", self._string()
        start = self._at
        signature = _TYPES.get(self._word(), "")
        if signature:
            return signature, self._scalar(signature)
        self._at = start
        # As in GVariant, a number is an int32 unless something says otherwise.
        signature = "b" if self._text[start:].lstrip().startswith(("t", "f")) else "i"
        return signature, self._scalar(signature)

    def _scalar(self, signature: str) -> object:
        if signature == "s":
            if self._peek() not in ("'", '"'):
                raise self._wrong("not a quoted string")
            return self._string()
        word = self._word()
        if signature == "b":
            if word not in ("true", "false"):
                raise self._wrong("not a boolean")
            return word == "true"
        number = _integer(word)
        if number is None:
            raise self._wrong("not a boolean, an integer, a quoted string or an array of strings")
        low, high = _RANGES[signature]
        if not low <= number <= high:
            raise self._wrong("out of range of its type (write uint64 before it?)")
        return number

    def _array(self) -> list[str]:
        if self._peek() != "[":
            raise self._wrong("not an array")
        self._at += 1
        found: list[str] = []
        while self._peek() != "]":
            if found:
                if self._peek() != ",":
                    raise self._wrong("no comma between the elements")
                self._at += 1
            if self._peek() not in ("'", '"'):
                raise self._wrong("the elements are not quoted strings")
            found.append(self._string())
        self._at += 1
        return found

    def _string(self) -> str:
        quote = self._peek()
        self._at += 1
        found: list[str] = []
        while True:
            letter = self._next()
            if letter == quote:
                return "".join(found)
            found.append(self._escaped() if letter == "\\" else letter)

    def _escaped(self) -> str:
        letter = self._next()
        if letter in "uU":
            size = 4 if letter == "u" else 8
            digits = "".join([self._next() for _ in range(size)])
            if digits.strip("0123456789abcdefABCDEF") or not 0 < int(digits, 16) < 0x110000:
                raise self._wrong("not a Unicode escape")
            letter = chr(int(digits, 16))
            if "\ud800" <= letter <= "\udfff":
                raise self._wrong("not a Unicode escape")
            return letter
        if letter == "\n":
            return ""
        return _ESCAPES.get(letter, letter)

    def _next(self) -> str:
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if not letter or letter == "\0":
            raise self._wrong("the string does not end")
        return letter

    def _peek(self) -> str:
        while self._text[self._at : self._at + 1] in (" ", "\t", "\n"):
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _word(self) -> str:
        self._peek()
        start = self._at
        while self._text[self._at : self._at + 1] not in ("", " ", "\t", "\n"):
            self._at += 1
        return self._text[start : self._at]

    def _end(self) -> None:
        if self._peek():
            raise self._wrong("something follows the value")

    def _wrong(self, why: str) -> ValueError:
        return ValueError(f"{self._text!r}: {why}")


def _integer(word: str) -> int | None:
    """Read decimal, 0x and 0 (octal) numbers, with a sign."""
    digits = word.removeprefix("-") if word.startswith("-") else word.removeprefix("+")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") and digits != "0" else 10
    digits = digits[2:] if base == 16 else digits
    allowed = {8: "01234567", 10: "0123456789", 16: "0123456789abcdefABCDEF"}[base]
    if not digits or digits.strip(allowed) or len(digits) > 20:
        return None
    return -int(digits, base) if word.startswith("-") else int(digits, base)
