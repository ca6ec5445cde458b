# SPDX-License-Identifier: Apache-2.0
"""The state root: ids, records that are whole or absent, locks that end, directories that go in one step."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirun import store
from ocirun.errors import (
    Busy,
    ContainerExists,
    ContainerNotFound,
    CorruptState,
    InvalidContainerId,
    StateError,
)
from ocirun.store import RECORD, SCHEMA_VERSION, Entry, Store, check_id, remove_tree

# What passed the strict reader once: no NUL, no surrogate.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
RECORDS = st.fixed_dictionaries(
    {"schemaVersion": st.just(SCHEMA_VERSION), "id": TEXT},
    optional={"annotations": st.dictionaries(TEXT, TEXT, max_size=5)},
)
shared = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "a" / "state"))


@pytest.fixture
def entry(root: Store) -> Iterator[Entry]:
    made = root.create("c1")
    yield made
    made.close()


# Ids


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[\w+.-]{1,210}", fullmatch=True)))
def test_ids(name: str) -> None:
    """V-16: exactly runc's alphabet, no path, nothing that a line end or a character of another script gets into."""
    wanted = re.fullmatch(r"[A-Za-z0-9_+.\-]{1,200}", name, re.ASCII) is not None and name not in (".", "..")
    if wanted:
        check_id(name)
    else:
        with pytest.raises(InvalidContainerId):
            check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\n", "a\0b", "~a", "@seccomp", "a b", "é", "\u0661", "a" * 201, "\ud800"])
def test_refused_ids(name: str, root: Store) -> None:
    """No verb looks at a path that such an id makes."""
    for call in (root.create, root.open):
        with pytest.raises(InvalidContainerId):
            call(name)
    assert not os.path.exists(root.root)


# Making and finding


@pytest.mark.parametrize("moment", ["made", "opened"])
def test_create_beside_gc(root: Store, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """R-02: whoever takes the directory away between its making and its locking makes create begin again."""
    real = Store._open

    def open_beside_gc(self: Store, container_id: str, path: str) -> Entry:
        monkeypatch.setattr(Store, "_open", real)
        if moment == "made":
            os.rmdir(path)
        entry = real(self, container_id, path)
        os.rmdir(path)
        return entry

    monkeypatch.setattr(Store, "_open", open_beside_gc)
    made = root.create("c1")
    assert os.path.isdir(made.path)
    with pytest.raises(Busy):
        root.open("c1").lock(0)
    made.close()


@pytest.mark.parametrize(
    ("step", "at"),
    [
        *(("unlink", name) for name in ("a", "b", "c", "deep", "notify", "~c1.1")),
        *((step, name) for step in ("rmdir", "open", "listdir") for name in ("deep", "notify", "~c1.1")),
    ],
)
def test_two_remove_one_directory(root: Store, monkeypatch: pytest.MonkeyPatch, at: str, step: str) -> None:
    """R-02: what another remover took away at any step, alone or with all the rest, is no error."""
    for takes_all in (False, True):
        doomed = os.path.join(root.root, "~c1.1")
        os.makedirs(os.path.join(doomed, "notify/deep"))
        for name in ("a", "notify/b", "notify/deep/c"):
            with open(os.path.join(doomed, name), "w", encoding="utf-8"):
                pass
        real = getattr(os, step)
        calls: list[object] = []  # at the step in question

        def other_is_quicker(
            where: Any, *args: Any, real: Any = real, takes_all: bool = takes_all, calls: Any = calls, **more: Any
        ) -> Any:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{where}")) if isinstance(where, int) else where
            if name == at and not calls:
                calls.append(where)
                if takes_all:
                    shutil.rmtree(os.path.join(root.root, "~c1.1"))
                elif step == "unlink" and at in "abc":
                    real(where, *args, **more)
            return real(where, *args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, other_is_quicker)
            store.remove_tree(doomed)
        assert calls
        assert not os.path.lexists(doomed)
        store.remove_tree(doomed)


def test_many_remove_one_directory(root: Store) -> None:
    """R-02: as many threads as like to may remove a deep directory at once."""
    doomed = Path(root.root) / "~c1.1"
    for number in range(20):
        nest(doomed / f"{number}", 30)
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            remove_tree(str(doomed))
        except BaseException as error:  # a thread has nobody to raise it to
            failures.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not doomed.exists()


def nest(top: Path, depth: int, name: str = "d") -> None:
    """Make directories in each other, with a file in each; paths may be longer than PATH_MAX."""
    top.mkdir(parents=True)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_create(root: Store) -> None:
    """The root is made when it is needed, for its owner only; the directory is locked; the id is taken."""
    made = root.create("c1")
    assert stat.S_IMODE(os.stat(root.root).st_mode) == 0o700
    with pytest.raises(Busy):
        root.open("c1").lock(0)
    with pytest.raises(ContainerExists) as info:
        root.create("c1")
    assert isinstance(info.value, FileExistsError)
    assert info.value.container_id == "c1"
    assert list(root.ids()) == ["c1"]
    made.close()
    assert not os.get_inheritable(root.open("c1").fd)


def test_open_what_is_not_there(root: Store) -> None:
    """Without the directory, and without the root, a container does not exist."""
    for _ in range(2):
        with pytest.raises(ContainerNotFound, match="container does not exist") as info:
            root.open("c1")
        assert isinstance(info.value, LookupError)
        assert list(root.ids()) == []
        root.make_root()


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_what_is_no_directory_is_no_container(root: Store, kind: str, tmp_path: Path) -> None:
    """A file, a link to a directory or a FIFO under an id's name is never opened as a container."""
    root.make_root()
    path = Path(root.root) / "c1"
    {"file": path.touch, "link": lambda: path.symlink_to(tmp_path), "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises((ContainerNotFound, OSError)):
        root.open("c1")
    assert list(root.ids()) == []


@pytest.mark.parametrize(("mode", "ok"), [(0o700, True), (0o755, True), (0o1777, True), (0o777, False), (0o703, False)])
def test_a_root_that_others_may_write(root: Store, mode: int, ok: bool) -> None:
    """S-62: where others could put or change what we rely on, nothing is created; sticky directories are fine."""
    root.make_root()
    os.chmod(root.root, mode)
    if ok:
        root.create("c1").close()
        return
    with pytest.raises(StateError):
        root.create("c1")
    assert os.listdir(root.root) == []


def test_ids_are_sorted_and_ours(root: Store) -> None:
    """Leftovers and the cache of filters are no containers."""
    root.make_root()
    for name in ("b", "a", "~c.123", "@seccomp", "A"):
        os.mkdir(f"{root.root}/{name}")
    assert list(root.ids()) == ["A", "a", "b"]
    assert [os.path.basename(path) for path in root.leftovers()] == ["~c.123"]


# Records


@shared
@given(record=RECORDS)
def test_record_round_trip(record: dict[str, Any], tmp_path: Path) -> None:
    """What was written is what is read, and nothing else lies in the directory."""
    with_root = Store(str(tmp_path))
    made = with_root.create("c1")
    try:
        made.write_record(record)
        made.write_record(record)
        assert made.read_record() == record
        assert os.listdir(made.path) == [RECORD]
        assert stat.S_IMODE(os.stat(f"{made.path}/{RECORD}").st_mode) == 0o600
    finally:
        made.remove()
        made.close()


def test_every_prefix_is_corrupt(entry: Entry) -> None:
    """R-01 by truncation: a record that is not whole is never taken for one."""
    entry.write_record({"schemaVersion": SCHEMA_VERSION, "id": "c1", "init": {"pid": 12}})
    path = Path(entry.path) / RECORD
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(CorruptState):
            entry.read_record()
    path.write_bytes(content)
    assert entry.read_record()["init"] == {"pid": 12}


@shared
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_junk_is_corrupt(content: bytes, tmp_path: Path) -> None:
    """Whatever lies there instead of a record: CorruptState, with the path, and no other error."""
    directory = tmp_path / "c1"
    directory.mkdir(exist_ok=True)
    (directory / RECORD).write_bytes(content)
    made = Store(str(tmp_path)).open("c1")
    try:
        with pytest.raises(CorruptState) as info:
            made.read_record()
    finally:
        made.close()
    assert str(directory) in str(info.value)
    assert isinstance(info.value, ValueError)


@pytest.mark.parametrize("document", [[], 1, "x", None, {}, {"schemaVersion": 0}, {"schemaVersion": "1"}, {"schemaVersion": 2}])
def test_other_versions_are_corrupt(entry: Entry, document: object) -> None:
    """A record of a version that is not ours is not guessed at."""
    (Path(entry.path) / RECORD).write_text(json.dumps(document))
    with pytest.raises(CorruptState):
        entry.read_record()


def test_no_record_yet(entry: Entry) -> None:
    """Before the intent was saved there is none, which is no corruption."""
    with pytest.raises(ContainerNotFound):
        entry.read_record()


@pytest.mark.parametrize("kind", ["directory", "link", "fifo", "socket", "large"])
def test_what_is_no_record(entry: Entry, kind: str, tmp_path: Path) -> None:
    """A FIFO does not block us, a link is not followed, a huge file is not read."""
    path = Path(entry.path) / RECORD
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_text('{"schemaVersion":1}')
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 30)
    with pytest.raises(CorruptState):
        entry.read_record()


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failed_write_leaves_the_old_record(entry: Entry, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """R-08: a full disk, an I/O error: the error is raised, the old record is there, nothing else is."""
    entry.write_record({"schemaVersion": SCHEMA_VERSION, "id": "old"})

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(store.os, call, fail)
    with pytest.raises(OSError, match="no space"):
        entry.write_record({"schemaVersion": SCHEMA_VERSION, "id": "new"})
    monkeypatch.undo()
    assert entry.read_record()["id"] == "old"
    assert os.listdir(entry.path) == [RECORD]


def test_short_writes_are_continued(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-10: a kernel that takes a byte at a time gets all of them."""
    write = os.write
    monkeypatch.setattr(store.os, "write", lambda fd, data: write(fd, bytes(data[:1])))
    entry.write_record({"schemaVersion": SCHEMA_VERSION, "id": "c1"})
    assert entry.read_record()["id"] == "c1"


def test_the_order_of_a_write(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """D7: content on the disk, then the name, then the name on the disk."""
    calls = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            calls.append((name, stat.S_ISDIR(os.fstat(arguments[0]).st_mode)) if name == "fsync" else (name, None))
            return real(*arguments, **keywords)

        monkeypatch.setattr(store.os, name, call)

    for name in ("fsync", "rename"):
        spy(name)
    entry.write_record({"schemaVersion": SCHEMA_VERSION})
    assert calls == [("fsync", False), ("rename", None), ("fsync", True)]


def test_readers_never_see_half(entry: Entry) -> None:
    """R-04: while one thread writes, another reads whole records only."""
    stop = threading.Event()
    entry.write_record({"schemaVersion": SCHEMA_VERSION, "number": 0, "again": 0})
    failures: list[object] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            entry._replace(RECORD, json.dumps({"schemaVersion": SCHEMA_VERSION, "number": number, "again": number}).encode())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            record = entry.read_record()
            if record["number"] != record["again"]:
                failures.append(record)
    finally:
        stop.set()
        writer.join()
    assert not failures


# Locks


def test_lock_has_a_deadline(root: Store, entry: Entry) -> None:
    """R-06: who holds the lock too long makes others fail as Busy, a TimeoutError that says how long."""
    other = root.open("c1")
    before = time.monotonic()
    with pytest.raises(Busy, match=r"0\.2 s") as info:
        other.lock(0.2)
    assert time.monotonic() - before > 0.15
    assert isinstance(info.value, TimeoutError)
    assert info.value.container_id == "c1"
    entry.close()
    other.lock(0.2)
    other.close()


def test_unlocking_reaches_copies(root: Store, entry: Entry) -> None:
    """R-05: a child that another thread forked keeps a copy of the descriptor, but not the lock."""
    copy = os.dup(entry.fd)
    entry.close()
    other = root.open("c1")
    other.lock(0)
    with pytest.raises(BlockingIOError):
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(copy)
    other.close()


def test_lock_of_what_went_away(root: Store, entry: Entry) -> None:
    """Who waited while the container was deleted, and made anew, finds that his is gone."""
    late, later = root.open("c1"), root.open("c1")
    entry.remove()
    entry.close()
    with pytest.raises(ContainerNotFound):
        late.lock(1)
    again = root.create("c1")
    with pytest.raises(ContainerNotFound):
        later.lock(1)
    with pytest.raises(Busy):
        root.open("c1").lock(0)
    again.close()


def test_one_of_many_creators_wins(root: Store) -> None:
    """R-03: of many that create the same id at once one succeeds; the others remove nothing of it."""
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def create() -> None:
        start.wait()
        try:
            made = root.create("c1")
        except ContainerExists:
            outcomes.append("exists")
        else:
            made.write_record({"schemaVersion": SCHEMA_VERSION, "id": "c1"})
            outcomes.append("made")
            made.close()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["exists"] * 7 + ["made"]
    assert root.open("c1").read_record()["id"] == "c1"


# Removing


def test_remove_frees_the_id_first(root: Store, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted while removing leaves a free id, and a leftover that gc knows."""
    (Path(entry.path) / "notify").mkdir()
    (Path(entry.path) / "notify/notify.sock").touch()
    monkeypatch.setattr(store, "remove_tree", lambda path: None)
    entry.remove()
    assert list(root.ids()) == []
    (leftover,) = root.leftovers()
    root.create("c1").close()
    monkeypatch.undo()
    remove_tree(leftover)
    assert list(root.leftovers()) == []
    assert list(root.ids()) == ["c1"]


def test_remove_follows_no_link(root: Store, entry: Entry, tmp_path: Path) -> None:
    """A link in the directory is removed, what it leads to is not."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (Path(entry.path) / "link").symlink_to(outside)
    (Path(entry.path) / "notify").mkdir()
    (Path(entry.path) / "notify/link").symlink_to(outside)
    entry.remove()
    assert (outside / "kept").exists()
    assert os.listdir(root.root) == []


@pytest.mark.parametrize(("depth", "name"), [(300, "d"), (300, "d" * 255), (3000, "d")])
def test_remove_nested_directories(root: Store, entry: Entry, depth: int, name: str) -> None:
    """A container nests them deeper than PATH_MAX, the descriptor limit and Python's recursion limit go."""
    nest(Path(entry.path) / "notify", depth, name)
    before = os.listdir("/proc/self/fd")
    entry.remove()
    assert os.listdir(root.root) == []
    assert os.listdir("/proc/self/fd") == before


def test_remove_follows_no_link_deep_down(root: Store, entry: Entry, tmp_path: Path) -> None:
    """Nor does a link to a directory, to a parent or to nothing lead out of the tree at any depth."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    deep = Path(entry.path) / "notify/a/b/c"
    deep.mkdir(parents=True)
    for directory in (deep, deep.parent, deep.parent.parent):
        (directory / "link").symlink_to(outside)
        (directory / "up").symlink_to("../../../../..")
        (directory / "nothing").symlink_to("nosuch")
        (directory / "hard").hardlink_to(outside / "kept")
    entry.remove()
    assert os.listdir(outside) == ["kept"]
    assert os.listdir(root.root) == []


def test_remove_directory_that_becomes_a_link(root: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between the look at a directory and its opening it became a link: an error, and nothing outside is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    doomed = Path(root.root) / "~c1.1"
    (doomed / "a/b").mkdir(parents=True)
    real = os.open

    def swap(path: Any, *args: Any, **more: Any) -> int:
        if path == "a":
            (doomed / "a").rename(tmp_path / "elsewhere")
            (doomed / "a").symlink_to(outside)
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(OSError):
        remove_tree(str(doomed))
    assert os.listdir(outside) == ["kept"]
    monkeypatch.undo()
    remove_tree(str(doomed))
    assert not doomed.exists()


def test_remove_directory_that_is_moved(root: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory moved away while it is emptied does not lead to what is beside its new place."""
    (tmp_path / "outside/a").mkdir(parents=True)
    doomed = Path(root.root) / "~c1.1"
    (doomed / "a/b").mkdir(parents=True)
    (doomed / "a/b/file").touch()
    real = os.listdir

    def move(where: Any) -> list[str]:
        names = real(where)
        if names == ["file"]:
            (doomed / "a/b").rename(tmp_path / "outside/b")
        return names

    monkeypatch.setattr(os, "listdir", move)
    with pytest.raises(OSError, match="moved") as caught:
        remove_tree(str(doomed))
    assert caught.value.errno == errno.ESTALE
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path / "outside")) == ["a", "b"]


def test_remove_twice(entry: Entry) -> None:
    """What is gone is gone."""
    entry.remove()
    entry.remove()


def test_short_path(tmp_path: Path) -> None:
    """R-23: a socket's address fits however deep the root is."""
    deep = Store(str(tmp_path / ("x" * 200) / ("y" * 200)))
    made = deep.create("c" * 200)
    path = made.short_path("start.sock")
    assert len(path) < 108
    Path(path).touch()
    assert made.has("start.sock")
    made.unlink("start.sock")
    made.unlink("start.sock")
    assert not made.has("start.sock")
    made.close()
