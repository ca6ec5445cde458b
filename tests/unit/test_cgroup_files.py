# SPDX-License-Identifier: Apache-2.0
"""Waiting for what cgroups give no event for."""

from __future__ import annotations

import pytest

from ocirun.cgroups import files


class Clock:
    """Time that passes when somebody sleeps, and `stolen` seconds more each time."""

    def __init__(self, stolen: float) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._stolen = stolen

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self._stolen


@pytest.mark.parametrize(("stolen", "tries"), [(0.0, 8), (2.0, 6)])
def test_backoff(monkeypatch: pytest.MonkeyPatch, stolen: float, tries: int) -> None:
    """It ends at the deadline, but not before it was tried a few times: the machine may have had no time for us."""
    clock = Clock(stolen)
    monkeypatch.setattr(files, "monotonic", lambda: clock.now)
    monkeypatch.setattr(files, "sleep", clock.sleep)
    backoff = files.Backoff(0.15)
    while backoff.wait():
        pass
    assert clock.slept[:6] == [0.001 * 2**n for n in range(6)]
    assert len(clock.slept) == tries
    assert stolen or sum(clock.slept) == pytest.approx(0.15)
