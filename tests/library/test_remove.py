# SPDX-License-Identifier: Apache-2.0
"""What is mounted in a container's directory is not emptied when the directory is removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root
REMOVE = """
import sys
from ocirun.store import remove_tree
try:
    remove_tree(sys.argv[1])
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("deep", [False, True])
def test_mounts_stay(tmp_path: Path, deep: bool) -> None:
    """A bind mount has the device of the tree itself, so that only the kernel's EBUSY tells it from a directory."""
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "kept").touch()
    doomed = tmp_path / "~c1.1"
    target = doomed / ("notify/a/b" if deep else "notify")
    target.mkdir(parents=True)
    script = 'mount --bind "$1" "$2" && exec "$3" -P -c "$4" "$5"'
    arguments = [str(outside), str(target), sys.executable, REMOVE, str(doomed)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("16\n", "")
    assert sorted(each.name for each in outside.iterdir()) == ["d", "kept"]
