# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kernel tests alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.user import Accounts, User, single


@pytest.fixture(scope="session")
def accounts(private_host: None) -> Iterator[None]:
    """/etc knows the ordinary user."""
    made = Accounts()
    yield
    made.remove()


@pytest.fixture
def user(accounts: None, workdir: Path) -> User:
    """A user without privileges."""
    return User(workdir)


@pytest.fixture
def rootless(runtime: RuntimeCommand, user: User) -> Iterator[RuntimeCommand]:
    """The runtime under test as that user calls it."""
    command = user.runtime(runtime)
    yield command
    command.cleanup()


@pytest.fixture
def mkrootless(mkbundle: Callable[..., Bundle], user: User) -> Callable[..., Bundle]:
    """Make a bundle that belongs to the user, in a user namespace of its one id and without a network namespace."""

    def make() -> Bundle:
        return user.own(single(mkbundle()))

    return make


@pytest.fixture
def own_bundle(mkrootless: Callable[..., Bundle]) -> Bundle:
    """One such bundle."""
    return mkrootless()
