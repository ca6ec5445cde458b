# SPDX-License-Identifier: Apache-2.0
"""V-16: container IDs and the state root."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.canary import Canary
from support.command import RuntimeCommand

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
BAD_IDS = [
    "..",
    ".",
    "a/b",
    "/abs",
    "../up",
    "a/../b",
    "a\n",
    "\n",
    " ",
    "a b",
    "",
    "n" * 1025,
    "é",
    "a\x01",
    "a%",
    "a:b",
    "a{}",
    "a*",
    "a~",
]
GOOD_IDS = ["a", "A-b_c.d+e", "0", "-x", "a..b", ".a", "_", "n" * 100]
VERBS = (
    ["create"],
    ["run"],
    ["state"],
    ["start"],
    ["kill"],
    ["delete"],
    ["delete", "--force"],
    ["pause"],
    ["resume"],
)


@pytest.mark.ocirun_only("names that the peers take, each in its own way")
def test_ids_that_are_refused(runtime: RuntimeCommand, bundle: Bundle, canary: Canary) -> None:
    """S-61: a name that could be a path, or is no plain word, is refused by every verb, without effect."""
    bundle.write()
    for verb in VERBS:
        for name in BAD_IDS if verb == ["create"] else BAD_IDS[:8]:
            options = ["--bundle", str(bundle.path)] if verb[0] in ("create", "run") else []
            result = runtime.call(*verb, *options, "--", name)
            assert result.rc != 0, (verb, name)
            assert "Traceback" not in result.stderr, (verb, name, result)
            assert result.stderr.count("\n") <= 2, (verb, name, result)
    assert not runtime.root.exists() or not [n for n in os.listdir(runtime.root) if n != "."]
    canary.assert_untouched()


@pytest.mark.ocirun_only("bytes that are no UTF-8 are taken")
def test_id_of_odd_bytes(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-61: an argument that is no UTF-8 is an error message, not a traceback."""
    bundle.write()
    name = os.fsdecode(b"a\xff\xfe")
    runtime.call("create", "--bundle", str(bundle.path), "--", name).refused()
    runtime.call("delete", "--force", "--", name)


@pytest.mark.parametrize("name", GOOD_IDS)
def test_ids_that_are_taken(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """S-61: letters, digits and _ + - . make an ID, also with a dash or dot in front."""
    if runtime.name != "ocirun" and name.startswith("-"):
        pytest.skip("peer: reads it as an option")
    bundle.id = name
    bundle.write()
    # the tag is not in the ID: give the cgroup a name that the oracle knows
    bundle.linux(cgroupsPath="/" + unique("id")).write()
    runtime.call("create", "--bundle", str(bundle.path), "--", name).ok()
    try:
        assert runtime.call("state", "--", name).ok()
    finally:
        runtime.call("delete", "--force", "--", name).ok()


def test_modes_of_the_state_root(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-62: nobody else can look into the state root, whatever the caller's umask."""
    bundle.write()
    runtime.remember(bundle.id)
    runtime.try_create(bundle, before_exec=lambda: os.umask(0)).ok()
    root = runtime.root.stat()
    assert root.st_mode & 0o077 & ~0o011 == 0 or root.st_mode & 0o022 == 0
    assert (runtime.root / bundle.id).stat().st_mode & 0o022 == 0
    for top, _, files in os.walk(runtime.root / bundle.id):
        for name in files:
            mode = os.lstat(os.path.join(top, name)).st_mode
            if os.path.isfile(os.path.join(top, name)):
                assert mode & 0o022 == 0, name


@pytest.mark.ocirun_only("the peers trust the state root")
@pytest.mark.parametrize("kind", ["link", "link-to-file", "file", "directory"])
def test_something_in_the_place_of_the_container(
    runtime: RuntimeCommand, bundle: Bundle, canary: Canary, kind: str
) -> None:
    """S-62: whatever lies in the state root under the ID, nothing outside is touched."""
    runtime.root.mkdir(mode=0o700)
    place = runtime.root / bundle.id
    if kind == "link":
        place.symlink_to(canary.path)
    elif kind == "link-to-file":
        place.symlink_to(canary.file)
    elif kind == "file":
        place.write_text("x")
    else:
        place.mkdir()
    runtime.try_create(bundle).refused()
    runtime.call("state", bundle.id).refused()
    json.loads(runtime.call("list", "--format", "json").ok().stdout)
    runtime.call("delete", "--force", bundle.id)
    canary.assert_untouched()
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        place.rmdir()


@pytest.mark.ocirun_only("the peers trust the state root")
@pytest.mark.parametrize("kind", ["link", "fifo", "empty", "garbage", "huge-numbers", "directory"])
def test_damaged_record(runtime: RuntimeCommand, bundle: Bundle, canary: Canary, kind: str) -> None:
    """S-62: with its files damaged the container is still listed, and never forgotten while it runs."""
    container = runtime.create(bundle.seq("ready", "sleep"))
    directory = runtime.root / bundle.id
    kept = {}
    for path in directory.iterdir():
        if path.suffix == ".json" or path.name == "state":
            kept[path] = path.read_bytes()
            path.unlink()
            if kind == "link":
                path.symlink_to(canary.file)
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "directory":
                path.mkdir()
            else:
                path.write_text({"empty": "", "garbage": "{]", "huge-numbers": '{"pid": 1e400}'}[kind])
    assert kept, list(directory.iterdir())
    state = runtime.call("state", bundle.id)
    assert "Traceback" not in state.stderr
    json.loads(runtime.call("list", "--format", "json").ok().stdout)
    deleted = runtime.call("delete", "--force", bundle.id)
    assert "Traceback" not in deleted.stderr
    canary.assert_untouched()
    if directory.exists():
        # delete kept the directory, because it could not know what to remove: with the record it can
        for path, data in kept.items():
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(data)
        runtime.call("delete", "--force", bundle.id).ok()
    container.wait()


@pytest.mark.ocirun_only("the peers trust the state root")
def test_state_root_of_another_user(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-62: a state root that others may write to is refused."""
    runtime.root.mkdir(mode=0o777)
    runtime.root.chmod(0o777)
    runtime.try_create(bundle).refused()
    runtime.root.chmod(0o700)
    os.chown(runtime.root, 1234, 1234)
    runtime.try_create(bundle).refused()
    os.chown(runtime.root, 0, 0)


def test_state_root_that_cannot_be_written(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """R-08: with a full state root create fails and leaves nothing."""
    runtime.root.mkdir(mode=0o700)
    os.system(f"mount -t tmpfs -o size=8k,nr_inodes=2,mode=700 small {runtime.root}")
    try:
        runtime.try_create(bundle).refused()
        assert os.listdir(runtime.root) == []
    finally:
        os.system(f"umount {runtime.root}")
