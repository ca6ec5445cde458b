# SPDX-License-Identifier: Apache-2.0
"""What the documents refer to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DOCUMENTS = [*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("bundles/*.md"), *TOP.glob("benchmarks/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link is a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_conformance_names_tests_that_exist() -> None:
    """Every test that the table names is defined, and every file is there."""
    text = (TOP / "docs/spec-conformance.md").read_text(encoding="utf-8")
    defined = set()
    for path in (TOP / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    for name in re.findall(r"`(test_\w+)`", text):
        assert name in defined, name
    for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (TOP / name).is_file(), name


def test_readme_names_every_command() -> None:
    """The commands that the README lists are those of the table."""
    from ocirun.cli.table import COMMANDS

    text = (TOP / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"This version has `([a-z ]+)`", text)
    assert listed is not None
    assert set(listed.group(1).split()) == {command.name for command in COMMANDS} - {"help"}
