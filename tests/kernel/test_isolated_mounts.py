# SPDX-License-Identifier: Apache-2.0
"""S-23 from inside: what a container with power over its mounts does to them stays in the container."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import mounts

pytestmark = [pytest.mark.root, pytest.mark.userns]
MS_BIND, MS_REC, MNT_DETACH = 4096, 16384, 2


@pytest.fixture
def tree(bundle: Bundle) -> Iterator[Path]:
    """A directory of the host with a mount in it, on a mount of its own that is shared."""
    libc = ctypes.CDLL(None, use_errno=True)
    source = bundle.path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("")
    inner = bundle.dir("/submount").inside("/submount")
    done = []
    for target in (source, source / "sub", inner):
        assert libc.mount(b"host", os.fsencode(target), b"tmpfs", 0, None) == 0
        done.append(target)
        (target / "sub").mkdir(exist_ok=True)
        (target / "place").mkdir()
        (target / "file").write_text("")
    yield source
    for target in reversed(done):
        libc.umount2(os.fsencode(target), MNT_DETACH)


@pytest.mark.parametrize("root", [None, "rshared"])
@pytest.mark.parametrize("options", [[], ["rshared"], ["private"], ["rprivate"]], ids=str)
def test_mounts_made_in_a_user_namespace_stay_there(
    runtime: RuntimeCommand, bundle: Bundle, tree: Path, root: str | None, options: list[str]
) -> None:
    """The root of a user namespace mounts over volumes, their submounts, devices and the root: the host sees none."""
    for path in ("/v", "/submount/place"):
        bundle.dir(path)
    bundle.file("/over", "from the container").userns().capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    bundle.linux(rootfsPropagation=root)
    bundle.mount("/v", "bind", tree, "rbind", *options)
    attempts = [
        ["syscall", "mount", "str:tmpfs", f"str:{place}", "str:tmpfs", "0", "0"]
        for place in ("/v/place", "/v/sub/place", "/submount/place", "/tmp")
    ]
    attempts += [
        ["syscall", "mount", "str:/over", f"str:{place}", "str:none", str(MS_BIND)]
        for place in ("/dev/full", "/dev/null", "/v/file", "/v/sub/file", "/submount/file")
    ]
    before = Path("/proc/self/mountinfo").read_text()
    host_groups = {field for mount in mounts(before) for field in mount.optional if field.startswith("shared:")}
    container = runtime.create(bundle.seq("report", *attempts, "ready", "sleep")).start()
    report = container.line()
    made = [container.line()["ret"] for _ in attempts]
    assert set(Path("/proc/self/mountinfo").read_text().splitlines()) <= set(before.splitlines())
    peers = [m for m in mounts(report["mountinfo"]) if host_groups & set(m.optional)]
    assert peers == []
    # the attempts themselves must be able to harm
    assert made.count(0) >= 8, made
    container.delete("--force").ok()
