"""What happens often is said at first, and then once in each interval with how often it was."""

from __future__ import annotations

import pytest

from gateway.base.seldom import INTERVAL, Seldom


def test_the_first_is_told_at_once_and_the_others_together_after_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.base.seldom.time.monotonic", lambda: now)
    seldom = Seldom()
    assert seldom.count() == 1
    now += INTERVAL / 2
    assert [seldom.count(), seldom.count(5)] == [0, 0]
    now += INTERVAL / 2
    assert seldom.count() == 7
    assert seldom.count() == 0


def test_a_clock_that_began_just_now_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.base.seldom.time.monotonic", lambda: 0.0)
    assert Seldom().count(3) == 3
