# SPDX-License-Identifier: Apache-2.0
"""The pid file: whole or not at all, whatever stood in its place, or was left behind by whoever died in the middle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from ocirun.inputs import write_pid_file


def test_what_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """Killed before the file has its name, and so before anything is cleaned up; the same caller tries again."""
    path = tmp_path / "pid"

    def die(*_arguments: object) -> NoReturn:
        raise SystemExit

    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "rename", die)
            patch.setattr(os, "unlink", die)
            with pytest.raises(SystemExit):
                write_pid_file(str(path), 1)
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) > 0
    write_pid_file(str(path), 1234)
    assert path.read_text() == "1234"


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "link to a directory"])
def test_what_is_there_is_replaced(tmp_path: Path, kind: str) -> None:
    """A link is not followed: whoever may write beside the pid file has no hand in what we write."""
    path, target = tmp_path / "pid", tmp_path / "target"
    if kind == "file":
        path.write_text("99999999")
    else:
        path.symlink_to(target)
    if kind == "link":
        target.write_text("untouched")
    elif kind == "link to a directory":
        target.mkdir()
    write_pid_file(str(path), 7)
    assert not path.is_symlink()
    assert path.read_text() == "7"
    assert kind != "link" or target.read_text() == "untouched"
    assert {each.name for each in tmp_path.iterdir()} <= {"pid", "target"}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """A directory of that name is not replaced; the error names the pid file."""
    path = tmp_path / "pid"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_pid_file(str(path), 7)
    assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    assert [each.name for each in tmp_path.iterdir()] == ["pid"]
