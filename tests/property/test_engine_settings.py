# SPDX-License-Identifier: Apache-2.0
"""Laws of changing an engine's configuration: nothing is lost, and the second time there is nothing to do."""

from __future__ import annotations

import copy
import json
import tomllib
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from ocirun.engines import EngineConfigError, json_text, toml_text

Json = Any

# Few names, so that what is there and what is wanted meet often.
NAMES = st.sampled_from(["a", "b", "runtimes", "io.cri.v1", "x y", 'q"uote', "é", "=", "#", ""])
WORDS = st.sampled_from(["", "/usr/bin/ocirun", "a#b", 'a"b', "a\\b", "[a]", "a = 1", "é\u2028\U0001f600", "\t\x01\x7f"])
LEAVES = st.one_of(st.booleans(), st.integers(-3, 1 << 60), WORDS, st.lists(WORDS, max_size=3))
SETTINGS = st.recursive(
    st.dictionaries(NAMES, LEAVES, min_size=1, max_size=3),
    lambda below: st.dictionaries(NAMES, st.one_of(LEAVES, below), min_size=1, max_size=3),
    max_leaves=6,
)


def merged(before: Json, wanted: Json) -> Json:
    """The model: tables are merged, everything else is replaced; None where one meets something that is none."""
    result = copy.deepcopy(before)
    for key, value in wanted.items():
        if isinstance(value, dict):
            if not isinstance(result.get(key, {}), dict):
                return None
            below = merged(result.get(key, {}), value)
            if below is None:
                return None
            result[key] = below
        elif isinstance(result.get(key), dict):
            return None
        else:
            result[key] = value
    return result


def exact(value: Json) -> str:
    """A form in which true is not 1 and the order of keys counts not."""
    return json.dumps(value, sort_keys=True)


# ---- JSON --------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.one_of(st.none(), LEAVES, st.floats(allow_nan=False, allow_infinity=False)),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(NAMES, below, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=5), SETTINGS, st.sampled_from([None, 2, 4, "\t"]), st.booleans())
@example({"a": 1}, {"a": True}, 2, False)  # equal for Python, and two values for everybody else
def test_json_loses_nothing(before: Json, settings: Json, indent: int | str | None, ascii_only: bool) -> None:
    """daemon.json has afterwards what it had and the settings, in the order in which it was; again changes nothing."""
    text = json.dumps(before, indent=indent, ensure_ascii=ascii_only)
    wanted = merged(before, settings)
    try:
        after = json_text.edited(text, settings, "daemon.json")
    except EngineConfigError:
        assert wanted is None
        return
    assert wanted is not None
    assert exact(json.loads(after)) == exact(wanted)
    assert list(json.loads(after))[: len(before)] == list(before)
    assert json_text.edited(after, settings, "daemon.json") is after
    if exact(wanted) == exact(before):
        assert after is text
    assert exact(json.loads(json_text.render(settings))) == exact(settings)


# ---- TOML --------------------------------------------------------------------------------------------


def basic(text: str) -> str:
    """A basic string, with everything escaped that may be."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


def key_text(draw: st.DrawFn, key: str) -> str:
    if key.isascii() and key.isalnum() and draw(st.booleans()):
        return key
    return basic(key)


def value_text(draw: st.DrawFn) -> str:
    """A value as people may write it: also over several lines that look like something else."""
    return draw(
        st.sampled_from(
            ["1", "true", '"x"', "'#'", "[]", '[ "a", # first\n  "b" ]', "[\n  [1],\n  [2]\n]", '"""\n[a]\nb = 1\n"""',
             "'''\nno # comment\n[runtimes]'''", "1.5", "1979-05-27T07:32:00Z", '"a = 1 # b"', "nan"]
        )
    )  # fmt: skip


@st.composite
def documents(draw: st.DrawFn, plain: bool = True) -> str:
    """A document; one that is not plain has inline tables, dotted keys and arrays of tables in it too."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines: list[str] = []

    def filler() -> None:
        lines.extend(draw(st.lists(st.sampled_from(["", "  ", "# note", "\t# [a] b = 1", "# \u2028[a]"]), max_size=2)))

    def section(indent: str) -> None:
        for key in draw(st.lists(NAMES, unique=True, max_size=3)):
            filler()
            left = key_text(draw, key)
            right = value_text(draw)
            if not plain:
                left += draw(st.sampled_from(["", "", ".a", ' . "b"']))
                right = draw(st.sampled_from([right, "{ a = 1, b = { c = 2 } }", "{}"]))
            comment = draw(st.sampled_from(["", "  # why", "#", '\t# "=["']))
            lines.append(f"{indent}{left}{draw(st.sampled_from([' = ', '=', '  =']))}{right}{comment}")

    section("")
    for header in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), unique=True, max_size=4)):
        filler()
        indent = draw(st.sampled_from(["", "  ", "\t"]))
        inner = ".".join(key_text(draw, key) for key in header)
        array = not plain and draw(st.booleans())
        lines.append(f"{indent}[[{inner}]]" if array else f"{indent}[{inner}]{draw(st.sampled_from(['', ' # here']))}")
        section(indent + draw(st.sampled_from(["", "  "])))
    filler()
    text = newline.join(line.replace("\n", newline) for line in lines) + draw(st.sampled_from(["", newline]))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # a name was used for two things
        assume(False)
    return text


def shown(value: Json) -> str:
    """A form of a TOML document in which nan is nan and true is not 1."""
    return json.dumps(value, sort_keys=True, default=repr)


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    left = iter(whole)
    return all(line in left for line in part)


@given(documents(), SETTINGS)
@example("a = 1\n", {"a": True})
def test_toml_loses_nothing(text: str, settings: Json) -> None:
    """A document has afterwards what it had and the settings; lines that are not concerned stay; again changes nothing."""
    before = tomllib.loads(text)
    wanted = merged(before, settings)
    try:
        after = toml_text.edited(text, settings, "config.toml")
    except EngineConfigError:
        assert wanted is None
        return
    assert wanted is not None
    assert shown(tomllib.loads(after)) == shown(wanted)
    assert toml_text.edited(after, settings, "config.toml") is after
    if shown(wanted) == shown(before):
        assert after is text
    comments = [line for line in text.split("\n") if line.lstrip().startswith("#")]
    assert is_subsequence([line.rstrip("\r") for line in comments], [line.rstrip("\r") for line in after.split("\n")])


@given(documents(plain=False), SETTINGS)
def test_toml_is_right_or_refused(text: str, settings: Json) -> None:
    """Whatever the layout: the result is exactly what is wanted, or there is none."""
    wanted = merged(tomllib.loads(text), settings)
    try:
        after = toml_text.edited(text, settings, "config.toml")
    except EngineConfigError as error:
        assert str(error).startswith("config.toml: ")
        return
    assert shown(tomllib.loads(after)) == shown(wanted)
    assert toml_text.edited(after, settings, "config.toml") is after


@given(SETTINGS)
def test_toml_of_its_own(settings: Json) -> None:
    """Settings as a file of their own are those settings."""
    assert shown(tomllib.loads(toml_text.render(settings))) == shown(settings)
