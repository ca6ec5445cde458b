# SPDX-License-Identifier: Apache-2.0
"""The documents say what is so, as far as a program can tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance import cases
from conformance.harness.case import CASES, SENTENCES
from support import resource_table

TOP = Path(__file__).resolve().parents[2]
CONFORMANCE = TOP / "docs/spec-conformance.md"
KERNEL_FEATURES = TOP / "docs/kernel-features.md"
SENTENCE_TABLE = TOP / "docs/spec-sentences.md"
RESOURCES = TOP / "docs/resources.md"
GLOSSARY = TOP / "docs/glossary.md"
MADE_BY_THE_BUILD = {"ocirun/schemas/", "ocirun/spec/_validator.py", "tests/payload/probe"}


def documents() -> list[Path]:
    """Return the Markdown files of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=TOP, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [TOP / name for name in listed.stdout.splitlines()]
    return [*TOP.glob("*.md"), *TOP.glob("[!.]*/*.md")]  # an archive without git


def anchors(text: str) -> set[str]:
    """Return what a link may name after "#", as the usual viewers make it of headings."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link is a file of the repository, and every anchor a heading of that file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = document.parent / name if name else document
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), target


def defined_tests() -> set[str]:
    """Return the names of all tests."""
    names: set[str] = set()
    for path in (TOP / "tests").rglob("test_*.py"):
        names |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return names


def rows(document: Path) -> Iterator[list[str]]:
    """Yield the cells of every row of the document's tables, headings and rulers left out."""
    lines = document.read_text(encoding="utf-8").splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_tests_that_are_named_exist(document: Path) -> None:
    """Every test and every file of ours that a document names is there."""
    text = document.read_text(encoding="utf-8")
    defined = defined_tests()
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in defined] == []
    places = set(re.findall(r"`((?:tests|ocirun|docs|bundles|schemas|benchmarks)/[\w/.]+)`", text)) - MADE_BY_THE_BUILD
    assert [name for name in sorted(places) if not (TOP / name).exists()] == []


def properties(schema: dict[str, Any], node: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of every property: "a.b", "a[].b" in a list, "a.*.b" in an object with names of its own."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    for name, child in node.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below
        yield from properties(schema, child, below)
    if "items" in node:
        yield from properties(schema, node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from properties(schema, node["additionalProperties"], f"{path}.*")


def test_every_property_has_a_row() -> None:
    """The table of conformance has each property of our schema once, and no other one."""
    schema = json.loads((TOP / "schemas/config.json").read_text(encoding="utf-8"))
    wanted = set(properties(schema, schema, ""))
    roots = {name.partition(".")[0].removesuffix("[]") for name in wanted}
    # Operations and what engines want are rows of their own, which do not begin with a property alone.
    found = [
        name
        for cells in rows(CONFORMANCE)
        if len(cells) == 3
        for name in re.findall(r"`([^`]+)`", cells[0])
        if re.split(r"[.\[]", name)[0] in roots
    ]
    assert sorted(found) == sorted(set(found)), "a property has two rows"
    assert wanted - set(found) == set()
    assert set(found) - wanted == set()


def test_resources_are_those_of_the_table() -> None:
    """docs/resources.md has the table that tests/kernel/test_resource_table.py holds the kernel to, with all fields."""
    assert resource_table.markdown() in RESOURCES.read_text(encoding="utf-8")
    schema = json.loads((TOP / "schemas/config.json").read_text(encoding="utf-8"))
    parts = schema["$defs"]["resources"]["properties"]
    fields = set()
    for name, part in parts.items():
        inner = schema["$defs"].get(part.get("$ref", "").removeprefix("#/$defs/"), {}).get("properties")
        fields |= {f"{name}.{member}" for member in inner} if inner else {name}
    # Whether a limit may be below the use has no file, and device rules have tests of their own.
    assert {row.field for row in resource_table.ROWS} == fields - {"memory.checkBeforeUpdate", "devices"}


def test_every_row_names_a_test() -> None:
    """A row of conformance without a test says so."""
    silent = [
        cells[0]
        for cells in rows(CONFORMANCE)
        if len(cells) >= 3 and not re.search(r"`test_\w+`|no test yet", cells[-1])
    ]
    assert silent == []


def test_every_sentence_has_a_row() -> None:
    """The table of sentences has those of the suite, in their order, with their section, level and words."""
    assert cases
    wanted = [
        (f"`{sentence.name}`", sentence.at.partition("#")[2], sentence.text, sentence.level.partition(",")[0])
        for sentence in SENTENCES.values()
    ]
    found = [
        (cells[0], cells[1], cells[3], cells[2].partition(",")[0]) for cells in rows(SENTENCE_TABLE) if len(cells) == 6
    ]
    assert found == wanted


def test_every_sentence_names_what_shows_it() -> None:
    """A row names each case of its sentence and nothing that is not there; without a case it names a test, or says why."""
    cases_of: dict[str, set[str]] = {}
    for case in CASES.values():
        for sentence in case.sentences:
            cases_of.setdefault(sentence.name, set()).add(case.name.partition("[")[0])
    tests = defined_tests()
    for cells in rows(SENTENCE_TABLE):
        if len(cells) != 6:
            continue
        name = cells[0].strip("`")
        named = set(re.findall(r"`([^`]+)`", cells[5]))
        shown = {word for word in named if not word.startswith("test_")}
        assert shown == cases_of.get(name, set()), name
        assert named - shown <= tests, name
        assert named or "no case: " in cells[5], name
        assert re.match(r"\**(done|refused|departed from|nothing to do)", cells[4]), name


def test_deviations_are_of_cases() -> None:
    """A list of deviations names cases of the suite, with a reason each."""
    for path in (TOP / "tests/conformance/deviations").glob("*.toml"):
        listed = tomllib.loads(path.read_text(encoding="utf-8"))
        assert set(listed) <= set(CASES), path.name
        assert all(listed.values()), path.name


def test_conformance_suite_knows_no_runtime() -> None:
    """The suite imports the standard library and itself: it is for the authors of other runtimes as well."""
    for path in (TOP / "tests/conformance").rglob("*.py"):
        if path.name == "test_conformance.py":
            continue
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.MULTILINE)
        foreign = {name.partition(".")[0] for name in imported if not name.startswith(".")}
        assert foreign - set(sys.stdlib_module_names) <= {"conformance"}, path


def test_readme_names_every_command() -> None:
    """The commands that the README lists are those of the table."""
    from ocirun.cli.table import COMMANDS

    text = (TOP / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"This version has `([a-z\s]+)`", text)
    assert listed is not None
    assert set(listed.group(1).split()) == {command.name for command in COMMANDS} - {"help"}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_command_lines_are_understood(document: Path) -> None:
    """Every line of a shell example that calls ocirun is one that its parser takes."""
    from ocirun.cli.parser import Invocation, parse

    text = document.read_text(encoding="utf-8")
    # All blocks, or the end of one in another language would be taken for the beginning of one in none.
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines() if language in ("", "sh", "console", "bash") else ():
            for command in re.split(r"&&|\|", line.split(" #")[0].removeprefix("$ ")):
                words = command.split()
                if words[:1] == ["ocirun"]:
                    parse([word for word in words[1:] if not re.match(r"\d?[<>]", word)], Invocation())


def test_call_sites_of_c_are_in_the_table_of_features() -> None:
    """Each system call that has a fallback in the C has a row in docs/kernel-features.md."""
    text = KERNEL_FEATURES.read_text(encoding="utf-8")
    for call in ("openat2", "fsopen", "open_tree", "move_mount", "mount_setattr", "close_range", "clone3",
                 "memfd_create", "execveat", "faccessat2", "pidfd_send_signal"):  # fmt: skip
        assert f"`{call}`" in text, call


def test_glossary_is_in_order() -> None:
    """Each word once, in alphabetical order."""
    words = [cells[0].strip("`*").lower() for cells in rows(GLOSSARY)]
    assert words == sorted(set(words))


def test_differences_are_those_of_the_differential_test() -> None:
    """docs/differences.md has one row for each entry of the table that excuses a difference from runc."""
    from differential.differences import DIFFERENCES

    listed = [cells[0] for cells in rows(TOP / "docs/differences.md")]
    assert listed == [difference.name for difference in DIFFERENCES]
    assert len(set(listed)) == len(listed)


def test_every_gap_of_the_peers_has_a_row() -> None:
    """docs/peers.md has W1 to W32, each with a test or with why there is none."""
    found = list(rows(TOP / "docs/peers.md"))
    assert [cells[0] for cells in found] == [f"W{number}" for number in range(1, 33)]
    assert [cells[0] for cells in found if not re.search(r"`test_\w+`|not yet|does not apply", cells[-1])] == []


def test_documents_name_no_machine() -> None:
    """Plain text for everybody: no path of a developer's machine."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        assert not re.search(r"/home/\w|/root/\w|/Users/|/tmp/tmp", text), document
