# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share.  They run the installed command and know nothing of its insides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand, find_runtime


@pytest.fixture(autouse=True)
def _ocirun_alone(peer: str | None) -> None:
    """These promises are ocirun's own."""
    if peer is not None:
        pytest.skip("peer: tests of ocirun's command line")


@pytest.fixture
def ocirun(workdir: Path) -> RuntimeCommand:
    """The command with a state root of its own, for what needs no root and makes no container."""
    argv = find_runtime(None)
    if argv is None:
        pytest.skip("ocirun is not installed")
    return RuntimeCommand("ocirun", argv, workdir)


@pytest.fixture
def interpreter(ocirun: RuntimeCommand) -> tuple[str, str]:
    """The interpreter that the launcher starts, and the directory that it adds to the search path."""
    command = Path(os.path.realpath(ocirun.argv[0]))
    for library in sorted(command.parent.parent.glob("lib/python3.*"), reverse=True):
        for packages in ("site-packages", "dist-packages"):
            if (library / packages / "ocirun/cli/boot.py").exists():
                return str(command.parent / library.name), str(library / packages)
    pytest.fail(f"{command} belongs to no installation")


@pytest.fixture
def sleeper(bundle: Bundle) -> Bundle:
    """A bundle whose program says that it runs and then waits."""
    return bundle.seq("ready", "sleep")


@pytest.fixture
def as_nobody() -> Callable[[], None]:
    """Drop root in a child, before it executes something."""

    def drop() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    return drop
