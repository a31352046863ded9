"""When a destination that failed is tried again."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.retry import Backoff, Circuit
from gateway.base.settings import RetrySettings


def settings(initial: str = "1s", longest: str = "30s", spread: float = 0.0) -> RetrySettings:
    return RetrySettings.model_validate(
        {"initial_interval": initial, "max_interval": longest, "randomization_factor": spread}
    )


def test_pauses_grow_to_the_longest_and_begin_again_after_a_success() -> None:
    backoff = Backoff(settings("1s", "5s"))
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next() == 1


def test_what_the_destination_asks_for_counts_if_it_is_longer() -> None:
    backoff = Backoff(settings("2s"))
    assert backoff.next(asked_for=9) == 9
    assert backoff.next(asked_for=1) == 4


@pytest.mark.parametrize("asked_for", [86_400.0, float("inf")])
def test_a_destination_cannot_ask_to_be_left_alone_for_ever(asked_for: float) -> None:
    assert Backoff(settings()).next(asked_for) == 600
    assert Backoff(settings("1h", "1h")).next(asked_for) == 3600


@given(st.integers(1, 40), st.floats(0, 1))
def test_pauses_vary_within_the_spread(attempts: int, spread: float) -> None:
    backoff = Backoff(settings("1s", "30s", spread))
    for attempt in range(attempts):
        plain = min(2.0**attempt, 30)
        assert plain * (1 - spread) - 1e-9 <= backoff.next() <= plain * (1 + spread) + 1e-9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_failure_opens_the_circuit_and_a_success_closes_it(clock: list[float]) -> None:
    circuit = Circuit(settings("2s"))
    assert (circuit.open, circuit.pause) == (False, 0)
    circuit.fail(0)
    assert (circuit.open, circuit.pause) == (True, 2)
    clock[0] += 1.5
    assert (circuit.open, circuit.pause) == (True, 0.5)
    clock[0] += 1
    assert (circuit.open, circuit.pause) == (True, 0), "open until an attempt succeeds"
    circuit.fail(0)
    assert circuit.pause == 4
    circuit.close()
    assert (circuit.open, circuit.pause) == (False, 0)
    circuit.fail(0)
    assert circuit.pause == 2


def test_an_attempt_that_takes_too_long_opens_the_circuit_without_a_pause() -> None:
    circuit = Circuit(settings())
    circuit.trip()
    assert (circuit.open, circuit.pause) == (True, 0)
