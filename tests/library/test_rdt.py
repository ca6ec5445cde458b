# SPDX-License-Identifier: Apache-2.0
"""linux.intelRdt through create and delete, on a made-up resctrl tree: no processor here has the real one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle, unique

from ocirun import Runtime, host, rdt
from ocirun.errors import HookError

pytestmark = pytest.mark.root


@pytest.fixture
def resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one class, in which new groups get their files from the test."""
    (tmp_path / "shared" / "mon_groups").mkdir(parents=True)
    (tmp_path / "shared" / "tasks").touch()
    (tmp_path / "shared" / "schemata").write_text("MB:0= 20\n")
    monkeypatch.setattr(host, "_read_resctrl", lambda: str(tmp_path))

    def make(_: object, path: str) -> None:
        Path(path).mkdir()
        (Path(path) / "tasks").touch()

    def remove(_: object, path: str) -> None:
        (Path(path) / "tasks").unlink()
        Path(path).rmdir()

    monkeypatch.setattr(rdt.RdtGroup, "_make_directory", make)
    monkeypatch.setattr(rdt.RdtGroup, "_remove_directory", remove)
    return tmp_path


@pytest.mark.parametrize("user_namespace", [False, True])
def test_life_in_a_class(
    library: Runtime, mkbundle: Callable[..., Bundle], resctrl: Path, user_namespace: bool
) -> None:
    """The container's process, or the one that forks it, is in both groups; delete removes the monitoring group alone."""
    settings = {"closID": "shared", "memBwSchema": "MB:0=20", "enableMonitoring": True}
    bundle = mkbundle().seq("ready").linux(intelRdt=settings)
    if user_namespace:
        bundle.userns()
    name = unique()
    group = resctrl / "shared" / "mon_groups" / name
    with library.create(name, str(bundle.write().path)) as container:
        pids = {int((directory / "tasks").read_text()) for directory in (resctrl / "shared", group)}
        assert len(pids) == 1
        if not user_namespace:
            assert pids == {container.pid}
        record = json.loads((Path(library.store.root) / name / "state.json").read_text())
        inodes = {str(group): group.stat().st_ino}
        assert record["intelRdt"] == {"made": [str(group)], "removed": [str(group)], "inodes": inodes}
        (group / "tasks").unlink()  # the kernel's own files are no obstacle to rmdir
        container.delete(force=True)
    assert not group.exists()
    assert (resctrl / "shared" / "schemata").read_text() == "MB:0= 20\n"


def test_create_that_fails(library: Runtime, mkbundle: Callable[..., Bundle], resctrl: Path) -> None:
    """What was made for a container that could not be created is gone, the class of its own included."""
    bundle = mkbundle({"hooks": {"createRuntime": [{"path": "/bin/false"}]}}).linux(intelRdt={})
    with pytest.raises(HookError):
        library.create(unique(), str(bundle.write().path))
    assert [each.name for each in resctrl.iterdir()] == ["shared"]


@pytest.mark.parametrize("died", ["before mkdir", "after mkdir", "after the record"])
@pytest.mark.parametrize("cleaner", ["gc", "delete"])
def test_create_that_dies(
    library: Runtime, mkbundle: Callable[..., Bundle], resctrl: Path, died: str, cleaner: str
) -> None:
    """What the record proves to be ours goes; a class that may be somebody else's is left, and a warning names it."""
    bundle = mkbundle().linux(intelRdt={}).write()
    name = unique()
    group = resctrl / name
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            make = rdt.RdtGroup._make_directory
            if died == "before mkdir":
                patch.setattr(rdt.RdtGroup, "_make_directory", lambda *_: os._exit(0))
            elif died == "after mkdir":
                patch.setattr(rdt.RdtGroup, "_make_directory", lambda *args: [make(*args), os._exit(0)])
            else:
                patch.setattr(rdt.RdtGroup, "_write", lambda *_: os._exit(0))
                patch.setattr(rdt.RdtGroup, "place", lambda *_: os._exit(0))
            try:
                library.create(name, str(bundle.path))
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if died == "before mkdir":
        group.mkdir()  # by somebody else
    elif died == "after the record":
        (group / "tasks").unlink()  # the kernel's own files are no obstacle to rmdir
    if cleaner == "gc":
        assert library.gc() == [name]
    else:
        library.delete(name, force=True)
    assert not (Path(library.store.root) / name).exists()
    assert group.exists() == (died != "after the record")
    left = [each for each in library.warnings if str(group) in each]
    assert len(left) == (died != "after the record")
