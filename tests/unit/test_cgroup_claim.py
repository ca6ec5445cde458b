# SPDX-License-Identifier: Apache-2.0
"""Making a container's cgroup while those of others, and with them the parents, come and go."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ocirun.cgroups.claim import make_directory
from ocirun.cgroups.hierarchies import Hierarchy


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    """A place two levels down in a hierarchy that is a plain directory."""
    return Hierarchy(version=2, mount_point=str(tmp_path), root="/", controllers=(), path="a/b/c")


@pytest.mark.parametrize("name", ["a", "a/b"])
def test_parent_that_goes_when_it_was_made(
    hierarchy: Hierarchy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Between mkdir(2) and chmod(2) another container's removal takes the parent, which is still empty."""
    original, left = os.chmod, [str(tmp_path / name)]

    def chmod(path: str, mode: int) -> None:
        if path in left:
            left.remove(path)
            os.rmdir(path)
        original(path, mode)

    monkeypatch.setattr(os, "chmod", chmod)
    made: list[str] = []
    assert make_directory(hierarchy, made)
    assert not left
    assert (tmp_path / "a/b/c").is_dir()
    assert made[-1] == str(tmp_path / "a/b/c")


def test_parent_that_is_being_removed(hierarchy: Hierarchy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says ENODEV then."""
    original, answers = os.mkdir, [errno.ENODEV, errno.ENOENT, errno.ENODEV]

    def mkdir(path: str, *arguments: Any) -> None:
        if answers:
            raise OSError(answers.pop(), "planted")
        original(path, *arguments)

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert make_directory(hierarchy, [])
    assert (tmp_path / "a/b/c").is_dir()


def test_parents_that_never_stay(hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried for ever, and any other error is the kernel's last word."""
    for number in (errno.ENOENT, errno.EACCES):

        def mkdir(*_: Any, number: int = number) -> None:
            raise OSError(number, "planted")

        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(OSError, match="planted") as caught:
            make_directory(hierarchy, [])
        assert caught.value.errno == number
