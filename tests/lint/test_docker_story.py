# SPDX-License-Identifier: Apache-2.0
"""docs/engines/docker-story.md is what docs/engines/docker-story prints."""

from __future__ import annotations

import re
from pathlib import Path

ENGINES = Path(__file__).resolve().parents[2] / "docs/engines"
SCRIPT = (ENGINES / "docker-story").read_text(encoding="utf-8")
PAGE = (ENGINES / "docker-story.md").read_text(encoding="utf-8")


def pattern(word: str) -> str:
    """Return what a quoted word of the shell becomes, as a regular expression: a variable may be anything."""
    if word[0] == "'":
        return re.escape(word[1:-1])
    parts = re.split(r"(\$\w+)", word[1:-1].replace("\\$", "\0"))
    return "".join(".+" if part[:1] == "$" else re.escape(part.replace("\0", "$")) for part in parts)


def test_chapters_are_those_of_the_script() -> None:
    """The same titles in the same order."""
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == re.findall(r"^chapter '(.*)'$", SCRIPT, re.MULTILINE)


def test_commands_are_those_of_the_script() -> None:
    """Each command that the script shows is on the page, in its order, and no other."""
    shown = re.findall(r"^(?:run|refused|show) (\"[^$].*\"|'.*')$", SCRIPT, re.MULTILINE)
    files = re.findall(r"^put (\S+) <<", SCRIPT, re.MULTILINE)
    printed = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    assert [line for line in printed if line.startswith("cat ")] == [f"cat {name}" for name in files]
    rest = [line for line in printed if not line.startswith("cat ")]
    assert len(rest) == len(shown) > 50
    for line, word in zip(rest, shown, strict=True):
        assert re.fullmatch(pattern(word), line), (line, word)


def test_files_are_those_of_the_script() -> None:
    """Each file that the script writes is shown whole."""
    for name, text in re.findall(r"^put (\S+) <<'END'\n(.*?)^END$", SCRIPT, re.MULTILINE | re.DOTALL):
        assert f"$ cat {name}\n{text}" in PAGE


def test_checks_hold_on_the_page() -> None:
    """What the script says that a command must say is there."""
    for word in re.findall(r"^says '(.*)'$", SCRIPT, re.MULTILINE):
        assert word in PAGE, word
