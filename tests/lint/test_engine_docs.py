# SPDX-License-Identifier: Apache-2.0
"""docs/engines says what `ocirun setup` does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ocirun.cli.parser import Invocation, parse
from ocirun.engines import NAMES, Proposal, Request, containerd, crio, docker, podman

PAGES = Path(__file__).resolve().parents[2] / "docs/engines"
MODULES = {"podman": podman, "docker": docker, "containerd": containerd, "crio": crio}
COMMAND = "/usr/local/bin/ocirun"


def propose(words: list[str], image: Path) -> Proposal:
    """What setup answers on a machine where nothing is set up."""
    invocation = Invocation()
    parse(words, invocation)
    request = Request(
        "ocirun",
        COMMAND,
        is_default=invocation.has("default"),
        systemd_cgroup=invocation.switch("systemd-cgroup"),
        sysroot=str(image),
    )
    return MODULES[invocation.arguments[0]].propose(request)


def shown(page: Path) -> Iterator[tuple[list[str], str]]:
    """Yield each call of setup that prints, and the block behind it."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for (language, text), (following, output) in pairwise(blocks):
        words = text.split("#")[0].split()
        if language == "sh" and words[:2] == ["ocirun", "setup"] and following in ("toml", "json"):
            yield words[1:], output


@pytest.mark.parametrize("engine", NAMES)
def test_pages_show_what_is_printed(engine: str, tmp_path: Path) -> None:
    """Each fragment on an engine's page is what the command above it prints, to the letter."""
    examples = list(shown(PAGES / f"{engine}.md"))
    assert examples
    for words, output in examples:
        proposal = propose(words, tmp_path)
        assert words[1] == engine
        assert proposal.file.fragment(proposal.settings) == output


@pytest.mark.parametrize("engine", NAMES)
def test_pages_name_the_file_and_what_follows(engine: str, tmp_path: Path) -> None:
    """Where it is written, how the engine comes to read it, and how one sees that it has."""
    text = (PAGES / f"{engine}.md").read_text()
    proposal = propose(["setup", engine], tmp_path)
    for words in (proposal.file.path.removeprefix(str(tmp_path)), proposal.restart, proposal.check):
        assert words is None or words in text, words
    assert f"`{proposal.file.path.removeprefix(str(tmp_path))}`" in (PAGES / "README.md").read_text()


def test_every_fragment_is_shown_by_a_command() -> None:
    """No block of settings stands alone, where nothing would hold it to the truth."""
    for page in PAGES.glob("*.md"):
        blocks = re.findall(r"^```(toml|json)\n", page.read_text(), re.MULTILINE)
        assert len(blocks) == len(list(shown(page))), page
