# SPDX-License-Identifier: Apache-2.0
"""How long `wait` asks for the exit status of what is somebody else's child: the kernel has it when that one has reaped.

That the time is really given: `test_a_parent_that_reaps_late`.
"""

from __future__ import annotations

import pytest

from ocirun import _native, identity
from ocirun.errors import OcirunError

UNKNOWN, KILLED, EXITED = None, 9, 7 << 8


def asked(monkeypatch: pytest.MonkeyPatch, answer: int | None) -> list[tuple[float | None, float]]:
    """Let the kernel answer so; returns the deadlines, and the times for the parent, that it is given."""
    times: list[tuple[float | None, float]] = []

    def wait(_pidfd: int, timeout_s: float | None, *, reaping_s: float) -> int | None:
        times.append((timeout_s, reaping_s))
        return answer

    monkeypatch.setattr(_native, "wait", wait)
    return times


@pytest.mark.parametrize(("status", "code"), [(EXITED, 7), (KILLED, 137), (0, 0)])
def test_a_parent_that_is_slow(monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    """Who has all the time there is gives it some seconds."""
    times = asked(monkeypatch, status)
    assert identity.wait_exit_code(-1, None, "c") == code
    ((deadline, reaping),) = times
    assert deadline is None
    assert 5 <= reaping <= 60


def test_a_parent_that_does_not_reap(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without an end."""
    times = asked(monkeypatch, UNKNOWN)
    with pytest.raises(OcirunError) as caught:
        identity.wait_exit_code(-1, None, "c")
    assert (caught.value.code, caught.value.container_id) == ("exit_status_unknown", "c")
    assert len(times) == 1


def test_a_caller_with_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has little time is told soon."""
    times = asked(monkeypatch, UNKNOWN)
    with pytest.raises(OcirunError) as caught:
        identity.wait_exit_code(-1, 0.5, "c")
    assert caught.value.code == "exit_status_unknown"
    assert times == [(0.5, 1.0)]
