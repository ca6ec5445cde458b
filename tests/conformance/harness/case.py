# SPDX-License-Identifier: Apache-2.0
"""A case: a function, what it shows of the specification, and how it can end."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SUITE = Path(__file__).resolve().parent.parent
PASS, FAIL, NOT_APPLICABLE, NEWER, DEVIATES = "pass", "FAIL", "n/a", "newer", "deviates"


class Failed(Exception):
    """The runtime did not do what the specification says."""

    def __init__(self, what: str, expected: Any, seen: Any) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.seen = seen


class NotApplicable(Exception):
    """This machine, or this kind of runtime, cannot show it; the message says why."""


class Sentence:
    """One requirement of the specification: `at` is document#section, `text` our words for it."""

    def __init__(self, name: str, at: str, level: str, text: str, since: str = "1.0") -> None:
        self.name = name
        self.at = at
        self.level = level
        self.text = text
        self.since = since

    def __str__(self) -> str:
        newer = "" if self.since == "1.0" else f", since {self.since}"
        return f"{self.at} ({self.level}{newer}): {self.text}"


def load_sentences() -> dict[str, Sentence]:
    """Read sentences.toml: [document.section] tables of `name = [level, text, since]`."""
    with (SUITE / "sentences.toml").open("rb") as file:
        tables = tomllib.load(file)
    found: dict[str, Sentence] = {}
    for at, table in tables.items():
        for name, words in table.items():
            assert name not in found, f"two sentences are called {name}"
            found[name] = Sentence(name, at, *words)
    return found


SENTENCES = load_sentences()
CASES: dict[str, Case] = {}


class Case:
    """One case.  `name` is unique; `sentences[0]` decides in which section it is listed."""

    def __init__(self, name: str, sentences: tuple[str, ...], title: str, run: Callable[[Any], None]) -> None:
        self.name = name
        self.sentences = [SENTENCES[sentence] for sentence in sentences]
        self.title = title
        self.run = run

    @property
    def section(self) -> str:
        """Return document#section."""
        return self.sentences[0].at

    @property
    def since(self) -> tuple[int, ...]:
        """Return the version of the specification that first has all of it."""
        return max(version(sentence.since) for sentence in self.sentences)


def version(text: str) -> tuple[int, ...]:
    """Return a version as numbers to compare: the last one is -1 before a release, else 0."""
    numbers, pre, _ = text.partition("+")[0].partition("-")
    try:
        major, minor, patch = [int(number) for number in f"{numbers}.0.0".split(".")[:3]]
    except ValueError:
        return 1, 0, 0, 0
    return major, minor, patch, -1 if pre else 0


def case(*sentences: str, each: Mapping[str, Any] | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a case that shows these sentences.

    The function's docstring is the title.  With `each` it is a case per entry: "name[key]", given the entry's value
    (a tuple: its members) after the context.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.strip("_").replace("_", "-")
        title = (function.__doc__ or "").strip()
        if each is None:
            add(Case(name, sentences, title, function))
        else:
            for key, value in each.items():
                values = value if isinstance(value, tuple) else (value,)
                add(Case(f"{name}[{key}]", sentences, title, lambda c, v=values: function(c, *v)))  # type: ignore[misc]
        return function

    return register


def add(new: Case) -> None:
    """Enter a case into the list."""
    assert new.name not in CASES, f"two cases are called {new.name}"
    CASES[new.name] = new


class Result:
    """How a case ended for a runtime."""

    def __init__(
        self, name: str, outcome: str, why: str = "", detail: Mapping[str, Any] | None = None, seconds: float = 0
    ) -> None:
        self.name = name
        self.outcome = outcome
        self.why = why
        self.detail = dict(detail or {})
        self.seconds = seconds

    def encode(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.__dict__, default=repr)
