# SPDX-License-Identifier: Apache-2.0
"""The strict JSON reader and the writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.upstream import REPOSITORY, SAMPLES, needs_samples

from ocirun import strict_json
from ocirun.errors import InvalidConfig, Problem
from ocirun.strict_json import MAX_BYTES, MAX_DEPTH, dumps, dumps_pretty, loads, pointer_token


def _refusals(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidConfig) as caught:
        loads(data)
    problems = caught.value.problems
    assert all(problem.gate == "json" for problem in problems)
    assert all(str(problem).isprintable() for problem in problems)
    return [(problem.pointer, problem.message) for problem in problems]


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[]", "null", "true", "0", "-0", "1.5e300", '"a"', " \t\r\n[1 , 2]\n ", "-0.0"),
        *("18446744073709551616", '{"a":{"b":[{"c":"é"}]}}', '"\\ud83d\\ude00"', '"\\\\u0000"'),
        *('"\\\\ud800"', "1e-400", '{"a":1,"A":2}', '["]}{["]', '{"":""}'),
    ],
)
def test_json_is_read(text: str) -> None:
    """Whatever is plain JSON has the value that json.loads gives it."""
    assert loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a value is expected (line 1 column 1)"),
        (b" \n ", "a value is expected (line 2 column 2)"),
        (b"[1,", "a value is expected (line 1 column 4)"),
        (b"[1]\n\n x", "more text after the end of the document (line 3 column 2)"),
        (b'{"a" 1}', "expecting ':' delimiter (line 1 column 6)"),
        (b'{"a":1,}', "(line 1 column 8)"),
        (b'{\n"a":\n"\x01"}', "invalid control character (line 3 column 2)"),
        (b'"\0"', "invalid control character"),
        (b'"abc', "unterminated string starting (line 1 column 1)"),
        (b'"\\x"', "invalid \\escape"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte 0 is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "byte 6 is not UTF-8"),
        (b'"\xc0\x80"', "byte 1 is not UTF-8"),
        (b"1" * 5000, "more than 4300 digits"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
        (b"/**/{}", "a value is expected"),
        (b"'a'", "a value is expected"),
        (b"{}" + b" " * MAX_BYTES, "larger than 16 MiB"),
    ],
    ids=range(20),
)
def test_bad_syntax_is_refused_in_one_line(data: bytes, message: str) -> None:
    """One problem of the whole document, with the document's name and the place."""
    [(pointer, text)] = _refusals(data)
    assert pointer == ""
    assert text.startswith("config.json: ")
    assert message in text


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ('{"a":1,"a":1}', ["/a"]),
        ('{"a":1,"a":1,"a":1}', ["/a"]),
        ('{"x":[{"b/~":{},"b/~":[]}],"y":1,"y":2}', ["/x/0/b~1~0", "/y"]),
        ('{"a":1,"\\u0061":2}', ["/a"]),
        ("[NaN,-Infinity,1e400,-1e400]", ["/0", "/1", "/2", "/3"]),
        ('{"a":"\\u0000","b\\u0000":1}', ["/a", "/b\0"]),
        ('["\\ud800","\\udc00\\ud800","x\\uDFFF"]', ["/0", "/1", "/2"]),
        ('{"\\ud800":1}', ["/\\ud800"]),
        ('{"a":{"b":"\\u0000","b":"\\u0000"},"c":[1e999]}', ["/a/b", "/a/b", "/c/0"]),
    ],
)
def test_dangerous_values_are_refused_by_pointer(text: str, pointers: list[str]) -> None:
    """Everything that other parsers would read in another way is found, each with its place."""
    assert [pointer for pointer, _ in _refusals(text.encode())] == pointers


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_limited_exactly(opening: str) -> None:
    """64 objects or arrays inside each other are read, 65 are not."""
    closing = "]" if opening == "[" else "}"
    core = opening.replace(":", ":0") + closing
    deepest = opening * (MAX_DEPTH - 1) + core + closing * (MAX_DEPTH - 1)
    assert loads(deepest.encode()) == json.loads(deepest)
    too_deep = opening + deepest + closing
    assert _refusals(too_deep.encode()) == [("", "config.json: nested deeper than 64")]
    # Brackets in strings are no nesting.
    assert loads(json.dumps({"a": opening * 100, "b": [opening * 100]}).encode())


def test_large_documents_are_read_in_time() -> None:
    """A million keys or a string of megabytes is nothing special."""
    keys = "{" + ",".join(f'"{number}":0' for number in range(1_000_000)) + "}"
    assert len(loads(keys.encode())) == 1_000_000  # type: ignore[arg-type]
    assert loads(b'"' + b"x" * (MAX_BYTES - 2) + b'"') == "x" * (MAX_BYTES - 2)


@needs_samples
def test_configs_of_engines_are_read() -> None:
    """What engines write means the same to json.loads."""
    for path in SAMPLES.glob("*.json"):
        assert loads(path.read_bytes()) == json.loads(path.read_bytes())


def test_document_is_named_in_messages() -> None:
    """The name of the document is the caller's."""
    with pytest.raises(InvalidConfig, match=r"state\.json: a value is expected"):
        loads(b"", what="state.json")


@pytest.mark.parametrize("limit", ["0", "100000"])
def test_digits_are_limited_whatever_the_host_program_does(limit: str) -> None:
    """A program that lifted Python's limit of digits does not lift this one."""
    code = (
        "from ocirun.strict_json import loads\n"
        "from ocirun.errors import InvalidConfig\n"
        "assert loads(b'[' + b'1' * 4300 + b']')\n"
        "try: loads(b'[' + b'1' * 4301 + b']')\n"
        "except InvalidConfig as error: print(error.problems[0].pointer)"
    )
    environment = {**os.environ, "PYTHONINTMAXSTRDIGITS": limit, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "/0\n"


def test_nothing_expensive_is_imported() -> None:
    """Reading and writing good JSON loads neither json nor re."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ocirun.strict_json import dumps, dumps_pretty, loads\n"
        "dumps(loads(b'{\"a\": [1, 2.5, \"x\\\\u0001\"]}')); dumps_pretty({'a': [1]})\n"
        "print([m for m in ('json', 're', 'typing', 'enum') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


VALUE = {"a": [1, 2.5, None, True, 'é"\n', {}, []], "b": {"c": [[1], {"d": "x"}]}, "": ()}


def test_compact_form() -> None:
    """One line, no spaces, keys in their order, text as it is."""
    assert dumps({"b": [1, "é"], "a": None}) == '{"b":[1,"é"],"a":null}'
    assert json.loads(dumps(VALUE)) == json.loads(json.dumps(VALUE))


@pytest.mark.parametrize("indent", ["    ", "\t"])
def test_pretty_form(indent: str) -> None:
    """The same text as json.dumps makes with an indent."""
    assert dumps_pretty(VALUE, indent) == json.dumps(VALUE, indent=indent, ensure_ascii=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2}.items(), b"x"])
@pytest.mark.parametrize("write", [dumps, dumps_pretty])
def test_what_json_cannot_say_is_not_written(write: object, value: object) -> None:
    """Numbers that are none and foreign objects are the caller's mistake."""
    assert callable(write)
    with pytest.raises((ValueError, TypeError)):
        write([value])


def test_pointer_tokens_are_escaped() -> None:
    """As in RFC 6901."""
    assert pointer_token("a/b~c~1") == "a~1b~0c~01"


def test_problems_print_on_one_line() -> None:
    """Control characters of the document reach no terminal, and no line of a log ends early."""
    text = str(Problem("json", "/a\n\x1b[2J", "x\u2028y"))
    assert text == "/a\\n\\x1b[2J: x\\u2028y"
    assert strict_json.MAX_DEPTH == 64
