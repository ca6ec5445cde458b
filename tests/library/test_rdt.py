# SPDX-License-Identifier: Apache-2.0
"""linux.intelRdt through create and delete, on a made-up resctrl tree: no processor here has the real one."""

from __future__ import annotations

import json
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
        assert record["intelRdt"] == {"made": [str(group)], "removed": [str(group)]}
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
