# SPDX-License-Identifier: Apache-2.0
"""How long `wait` asks for the exit status of what is somebody else's child: the kernel has it when that one has reaped."""

from __future__ import annotations

import pytest

from ocirun import _native, identity
from ocirun.errors import OcirunError

UNKNOWN, KILLED, EXITED = None, 9, 7 << 8


def asked(monkeypatch: pytest.MonkeyPatch, *answers: int | None) -> list[float | None]:
    """Let the kernel answer so, one wait after another; returns the deadlines that it is given."""
    left = list(answers)
    deadlines: list[float | None] = []

    def wait(_pidfd: int, timeout_s: float | None) -> int | None:
        deadlines.append(timeout_s)
        return left.pop(0) if left else None

    monkeypatch.setattr(_native, "wait", wait)
    return deadlines


@pytest.mark.parametrize(("status", "code"), [(EXITED, 7), (KILLED, 137), (0, 0)])
@pytest.mark.parametrize("seconds", [0, 1, 9])
def test_a_parent_that_is_slow(monkeypatch: pytest.MonkeyPatch, seconds: int, status: int, code: int) -> None:
    """Each wait gives it a second; it may take some."""
    deadlines = asked(monkeypatch, *[UNKNOWN] * seconds, status)
    assert identity.wait_exit_code(-1, None, "c") == code
    assert deadlines == [None] * (seconds + 1)


def test_a_parent_that_does_not_reap(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without an end."""
    deadlines = asked(monkeypatch)
    with pytest.raises(OcirunError) as caught:
        identity.wait_exit_code(-1, None, "c")
    assert (caught.value.code, caught.value.container_id) == ("exit_status_unknown", "c")
    assert 5 < len(deadlines) < 60


def test_a_caller_with_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has little time is told at once, and not later than asked for."""
    deadlines = asked(monkeypatch, UNKNOWN, EXITED)
    with pytest.raises(OcirunError) as caught:
        identity.wait_exit_code(-1, 0.5, "c")
    assert caught.value.code == "exit_status_unknown"
    assert deadlines == [0.5]
