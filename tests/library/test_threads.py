# SPDX-License-Identifier: Apache-2.0
"""One Runtime in many threads at once, on different containers and on the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import unique

from ocirun import Container, Runtime, errors

pytestmark = pytest.mark.root


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Run *work* in so many threads at once; returns what each returned, or its exception."""
    outcomes: list[object] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            outcomes[number] = work(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_different_containers(library: Runtime, ready: str) -> None:
    """R-07: eight threads, eight lives each."""

    def lives(_: int) -> int:
        for _ in range(8):
            with library.create(unique(), ready) as container:
                container.start()
                assert container.wait(60) == 0
                container.delete()
        return 8

    assert together(8, lives) == [8] * 8
    assert library.list() == []


def test_the_same_id(library: Runtime, ready: str) -> None:
    """R-03: of many who create one id exactly one wins, and the others take nothing of it away."""
    for _ in range(5):
        name = unique()
        outcomes = together(8, lambda _, name=name: library.create(name, ready))  # type: ignore[misc]
        lost = [each for each in outcomes if isinstance(each, errors.ContainerExists)]
        assert len(lost) == 7, outcomes
        assert library.state(name).status == "created"
        for each in outcomes:
            if isinstance(each, Container):
                each.close()
        library.delete(name, force=True)


def test_one_starts(library: Runtime, ready: str) -> None:
    """Of many who start a container one does; the others are told what it is by then."""
    with library.create(unique(), ready) as container:
        outcomes = together(6, lambda _: container.start())
        assert outcomes.count(None) == 1, outcomes
        for each in outcomes:
            assert each is None or isinstance(each, errors.InvalidStatus), each
        assert container.wait(60) == 0
        container.delete()


def test_everybody_waits(library: Runtime, sleeping: str) -> None:
    """Many who wait all get the exit code, whoever of them reaped the process."""
    with library.create(unique(), sleeping) as container:
        container.start()
        killer = threading.Timer(0.2, container.kill, (9,))
        killer.start()
        outcomes = together(6, lambda _: container.wait(60))
        killer.join()
        known = [each for each in outcomes if each == 137]
        # Before Linux 6.15 those who did not reap it may not know.
        assert known
        for each in outcomes:
            assert each == 137 or getattr(each, "code", "") == "exit_status_unknown", each
        container.delete()


def test_storm(library: Runtime, sleeping: str) -> None:
    """R-04: state, list, kill and delete at once, again and again: typed errors or success, nothing else."""
    for _ in range(5):
        name = unique()
        library.create(name, sleeping).start()

        def verb(number: int, name: str = name) -> object:
            if number % 4 == 0:
                return [library.state(name).status for _ in range(20)]
            if number % 4 == 1:
                return [[state.status for state in library.list()] for _ in range(20)]
            if number % 4 == 2:
                return library.load(name).kill(9)
            return library.delete(name, force=True)

        for outcome in together(12, verb):
            assert not isinstance(outcome, BaseException) or isinstance(
                outcome, errors.ContainerNotFound | errors.ContainerNotRunning
            ), repr(outcome)
        assert library.list() == []


def test_gc_beside_creators(library: Runtime, ready: str) -> None:
    """R-02: gc, at any moment, takes away nothing of containers that are being made."""

    def work(number: int) -> object:
        if number < 2:
            return [library.gc() for _ in range(40)]
        for _ in range(8):
            with library.create(unique(), ready) as container:
                assert container.state().status == "created"
                container.delete()
        return []

    outcomes = together(6, work)
    assert not [each for each in outcomes if isinstance(each, BaseException)], outcomes
    assert outcomes[0] == [[]] * 40


def test_two_runtimes_one_root(library: Runtime, ready: str) -> None:
    """What one made the other sees, starts, and deletes."""
    with Runtime(library.store.root) as other:
        with library.create(unique(), ready) as container:
            loaded = other.load(container.id)
            assert (loaded.pid, loaded.bundle) == (container.pid, container.bundle)
            loaded.start()
            assert loaded.wait(60) == 0
            loaded.delete()
            with pytest.raises(errors.ContainerNotFound):
                container.state()
        assert Path(library.store.root).is_dir()
