# SPDX-License-Identifier: Apache-2.0
"""Container.checkpoint and Runtime.restore in a program, with descriptors of its own; CRIU does as it is told."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.fake_criu import DUMP, NOTIFY, PRE_DUMP, RESTORE, FakeCriu

from ocirun import Container, ContainerNotFound, CriuError, KernelError, OcirunError, Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def criu(workdir: Path) -> FakeCriu:
    """A CRIU that does as it is told."""
    return FakeCriu(workdir / "criu")


@pytest.fixture
def container(library: Runtime, sleeping: str) -> Iterator[Container]:
    """A container that runs until it is killed."""
    with library.create(unique(), sleeping, stdout=2) as made:
        made.start()
        yield made


def test_who_fetches_the_pages_hears_when(container: Container, criu: FakeCriu, workdir: Path) -> None:
    """status_fd gets one zero byte when CRIU has pages to fetch, and is still the caller's."""
    reader, writer = os.pipe()
    container.checkpoint(str(workdir / "images"), criu=str(criu.path), lazy_pages=True, status_fd=writer)
    os.close(writer)
    assert os.read(reader, 10) == b"\0"
    os.close(reader)


def test_who_does_not_listen_any_more(container: Container, criu: FakeCriu, workdir: Path) -> None:
    """Then nobody would fetch the pages: CRIU hears of it, and the container goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(KernelError, match="status_fd") as caught:
        container.checkpoint(str(workdir / "images"), criu=str(criu.path), lazy_pages=True, status_fd=writer)
    os.close(writer)
    assert caught.value.errno == errno.EPIPE
    assert [each["notify_success"] for each in criu.messages() if each["type"] == NOTIFY][-1] is False
    assert container.state().status == "running"


@pytest.mark.parametrize("changes", [{"pre_dump": True}, {"leave_running": True}])
def test_container_that_goes_on(container: Container, criu: FakeCriu, workdir: Path, changes: dict[str, bool]) -> None:
    """Nothing of it is deleted, though CRIU has done its work."""
    container.checkpoint(str(workdir / "images"), criu=str(criu.path), **changes)  # type: ignore[arg-type]
    assert criu.messages()[2]["type"] == (PRE_DUMP if "pre_dump" in changes else DUMP)
    assert container.state().status == "running"


@pytest.fixture
def images(workdir: Path) -> Path:
    """What a container left whose standard output was a file of the host."""
    path = workdir / "images"
    path.mkdir()
    (path / "descriptors.json").write_text('["/dev/null", "file[1a:ff]", "pipe:[7]"]')
    return path


def test_a_file_takes_the_place_of_a_file(
    library: Runtime, sleeping: str, criu: FakeCriu, images: Path, workdir: Path
) -> None:
    """CRIU is told which of our descriptors has the name that it saved."""
    with (workdir / "log").open("w") as log, library.restore(
        unique(), sleeping, str(images), criu=str(criu.path), stdout=log.fileno(), stderr=2
    ) as restored:
        request = criu.request(RESTORE)
        assert request["opts"]["inherit_fd"] == [{"key": "file[1a:ff]", "fd": 1}, {"key": "pipe:[7]", "fd": 2}]
        assert request["descriptors"]["1"] == str(workdir / "log")
        assert restored.state().status == "running"


def test_no_pipe_takes_the_place_of_a_file(library: Runtime, sleeping: str, criu: FakeCriu, images: Path) -> None:
    """CRIU would seek in it: refused before, and nothing is left."""
    reader, writer = os.pipe()
    name = unique()
    with pytest.raises(OcirunError, match="descriptor 1 was a file at the checkpoint, and is none now"):
        library.restore(name, sleeping, str(images), criu=str(criu.path), stdout=writer)
    os.close(reader)
    os.close(writer)
    assert not [each for each in criu.messages() if each["type"] == RESTORE]
    with pytest.raises(ContainerNotFound):
        library.load(name)


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_hooks_between_namespaces_and_processes(
    library: Runtime, mkbundle: Callable[..., Bundle], criu: FakeCriu, images: Path, workdir: Path, kind: str
) -> None:
    """Either kind runs alone too, with the pid of the process that CRIU has made."""
    script = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{workdir}/hook"]}
    bundle = mkbundle().seq("ready", "sleep").patch({"hooks": {kind: [script]}})
    bundle.write()
    with (workdir / "log").open("w") as log, library.restore(
        unique(), str(bundle.path), str(images), criu=str(criu.path), stdout=log.fileno(), stderr=2
    ) as restored:
        assert json.loads((workdir / "hook").read_text())["pid"] == restored.pid


def test_a_process_that_only_the_answer_names(
    library: Runtime, sleeping: str, criu: FakeCriu, images: Path, workdir: Path
) -> None:
    """CRIU that fails may have made a process that no notification told of: it is our child, and reaped all the same."""
    criu.plan(notify=[], success=False)
    with (workdir / "log").open("w") as log, pytest.raises(CriuError, match="cannot restore"):
        library.restore(unique(), sleeping, str(images), criu=str(criu.path), stdout=log.fileno(), stderr=2)
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
