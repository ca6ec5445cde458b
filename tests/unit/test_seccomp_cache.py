# SPDX-License-Identifier: Apache-2.0
"""The cache of compiled seccomp filters: found again when right, never believed when not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ocirun.errors import UnsupportedFeature
from ocirun.plan import seccomp, seccomp_cache, seccomp_compile

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["openat2", "no such", "tab\there", 'it\'s "so"', "\udc80"], "action": "SCMP_ACT_ALLOW"}],
}


class Compilations:
    """Counts how often something was really compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._compile = seccomp_compile.compile_profile
        monkeypatch.setattr(seccomp_compile, "compile_profile", self)

    def __call__(self, *args: Any, **more: Any) -> seccomp_cache.Entry:
        self.count += 1
        return self._compile(*args, **more)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Compilations:
    return Compilations(monkeypatch)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "seccomp"


def ask(directory: Path, profile: dict[str, Any] = PROFILE) -> seccomp.CompiledFilter:
    return seccomp.compile_profile(profile, cache_dir=str(directory))


def only_entry(directory: Path) -> Path:
    (entry,) = directory.iterdir()
    return entry


def test_second_time_is_a_hit(directory: Path, compilations: Compilations) -> None:
    """The same profile, in another order of keys and with another listener, is compiled once."""
    first = ask(directory)
    second = ask(directory, dict(reversed(PROFILE.items())))
    third = ask(directory, {**PROFILE, "listenerPath": "/a", "listenerMetadata": "b"})
    assert compilations.count == 1
    for found in (second, third):
        assert (found.program, found.flags, found.skipped_names) == (
            first.program,
            first.flags,
            first.skipped_names,
        )
    assert first.skipped_names == tuple(PROFILE["syscalls"][0]["names"][1:])
    assert directory.stat().st_mode & 0o777 == 0o700
    assert only_entry(directory).stat().st_mode & 0o777 == 0o600


def test_notify_survives_the_cache(directory: Path, compilations: Compilations) -> None:
    """The listener's fields come from the profile at hand, not from the one that was compiled."""
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    for number in range(2):
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": f"/{number}"}
        found = ask(directory, profile)
        assert found.notify
        assert found.listener_path == f"/{number}"
    assert compilations.count == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-8],
        lambda data: data + b"\0" * 8,
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"x" + data[1:],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    ],
)
def test_damaged_entry_is_written_over(directory: Path, compilations: Compilations, damage: Any) -> None:
    """Any change of an entry's bytes makes it worthless, and the next one replaces it."""
    program = ask(directory).program
    entry = only_entry(directory)
    good = entry.read_bytes()
    entry.write_bytes(damage(good))
    assert ask(directory).program == program
    assert compilations.count == 2
    assert only_entry(directory).read_bytes() == good


def test_every_byte_of_an_entry_counts(directory: Path) -> None:
    """Whichever bit is flipped, the entry is not believed."""
    ask(directory)
    data = only_entry(directory).read_bytes()
    key = seccomp_cache.digest(PROFILE, seccomp.GENERATOR, False)
    assert seccomp_cache._decode(data, key) is not None
    for position in range(len(data)):
        spoiled = bytearray(data)
        spoiled[position] ^= 1 << position % 8
        assert seccomp_cache._decode(bytes(spoiled), key) is None


def test_entry_of_another_profile(directory: Path, compilations: Compilations) -> None:
    """A valid entry under the wrong name is not believed."""
    ask(directory)
    right = only_entry(directory)
    other = {**PROFILE, "defaultAction": "SCMP_ACT_KILL"}
    right.rename(directory / seccomp_cache.digest(other, seccomp.GENERATOR, False).hex())
    assert ask(directory, other).program != ask(directory).program
    assert compilations.count == 3


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "mode", "owner", "huge"])
def test_foreign_entry_is_not_believed(directory: Path, tmp_path: Path, compilations: Compilations, kind: str) -> None:
    """What is not a plain file of ours alone is ignored, even if its contents are right."""
    ask(directory)
    entry = only_entry(directory)
    if kind == "symlink":
        entry.rename(tmp_path / "kept")
        entry.symlink_to(tmp_path / "kept")
    elif kind == "fifo":
        entry.unlink()
        os.mkfifo(entry, 0o600)
    elif kind == "directory":
        entry.unlink()
        entry.mkdir()
    elif kind == "mode":
        entry.chmod(0o622)
    elif kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("not root")
        os.chown(entry, 1000, 1000)
    else:
        os.truncate(entry, seccomp_cache._MAX_FILE + 1)
    assert ask(directory).program
    assert compilations.count == 2
    if kind != "directory":
        assert ask(directory).program
        assert compilations.count == 2


@pytest.mark.parametrize("kind", ["mode", "owner", "symlink", "file", "missing parent is a file"])
def test_foreign_directory_is_not_used(directory: Path, tmp_path: Path, compilations: Compilations, kind: str) -> None:
    """A directory that others could write to, or made, is neither read nor written; nothing fails."""
    ask(directory)
    inside = sorted(directory.iterdir())
    if kind == "mode":
        directory.chmod(0o755)
    elif kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("not root")
        os.chown(directory, 1000, 1000)
    elif kind == "symlink":
        directory.rename(tmp_path / "kept")
        directory.symlink_to(tmp_path / "kept")
    else:
        directory = tmp_path / "file"
        directory.write_text("")
        if kind != "file":
            directory /= "below"
    for _ in range(2):
        assert ask(directory).program
    assert compilations.count == 3
    if directory.is_dir():
        assert [path.name for path in sorted(directory.iterdir())] == [path.name for path in inside]


def test_unwritable_cache(directory: Path, compilations: Compilations, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of writing costs the entry and leaves nothing behind."""

    def write(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        assert ask(directory).program
    assert list(directory.iterdir()) == []
    ask(directory)
    ask(directory)
    assert compilations.count == 2


def test_other_library(directory: Path, tmp_path: Path, compilations: Compilations, monkeypatch: Any) -> None:
    """An entry is out of date when the libseccomp that it was made with is another file than then."""
    library = tmp_path / "libseccomp.so.2"
    library.write_text("2.5.4")
    compile_really = compilations._compile

    def pretend(*args: Any, **more: Any) -> seccomp_cache.Entry:
        entry = compile_really(*args, **more)
        entry.library = str(library)
        entry.identity = seccomp_cache.file_identity(str(library))
        return entry

    compilations._compile = pretend
    ask(directory)
    ask(directory)
    assert compilations.count == 1
    (tmp_path / "new").write_text("2.6.0")
    (tmp_path / "new").rename(library)
    ask(directory)
    ask(directory)
    assert compilations.count == 2

    def missing(*_args: Any, **_more: Any) -> seccomp_cache.Entry:
        raise seccomp_compile.LibraryMissing("no libseccomp")

    library.unlink()
    compilations._compile = missing
    assert ask(directory).program
    with pytest.raises(UnsupportedFeature):
        ask(directory, {**PROFILE, "flags": []})


def test_library_that_does_not_say_where_it_is(directory: Path, compilations: Compilations, monkeypatch: Any) -> None:
    """Without a file to watch there is no cache."""
    monkeypatch.setattr(seccomp_compile, "file_identity", lambda _path: "")
    ask(directory)
    ask(directory)
    assert compilations.count == 2
    assert not directory.exists()


@pytest.mark.parametrize("fact", ["machine", "release", "version"])
def test_key_covers_the_machine(monkeypatch: pytest.MonkeyPatch, fact: str) -> None:
    """Another kernel or architecture asks for another entry."""
    before = seccomp_cache.digest(PROFILE, 1)
    names = ("sysname", "nodename", "release", "version", "machine")
    facts = [getattr(os.uname(), name) + ("x" if name == fact else "") for name in names]
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(facts))
    assert seccomp_cache.digest(PROFILE, 1) != before


def test_number_of_entries_is_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, what was not used for longest goes, leftovers of crashes included."""
    monkeypatch.setattr(seccomp_cache, "MAX_ENTRIES", 3)
    directory.mkdir(parents=True, mode=0o700)
    entry = seccomp_cache.Entry(b"\0" * 8, 0, (), "/lib", "1 2 3 4")
    (directory / "leftover").write_text("")
    os.utime(directory / "leftover", (1, 1))
    keys = [bytes([number]) * 32 for number in range(5)]
    for age, key in enumerate(keys[:4]):
        seccomp_cache.store(str(directory), key, entry)
        os.utime(directory / key.hex(), (100 + age, 100 + age))
    # Four were stored: the leftover went at the third, the oldest of the rest at the fourth.
    os.utime(directory / keys[1].hex(), (1000, 101))  # a use
    seccomp_cache.store(str(directory), keys[4], entry)
    assert {path.name for path in directory.iterdir()} == {key.hex() for key in (keys[1], keys[3], keys[4])}
