"""What happens often is logged at first, and then once in each interval with how often it was."""

from __future__ import annotations

import pytest
import structlog

from gateway.base.rate_limited_log import INTERVAL, LogRateLimit, RateLimitedLogger
from tests.support.logged import Logged


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("gateway.base.rate_limited_log.time.monotonic", lambda: now[0])
    return now


def test_the_first_is_logged_at_once_and_the_others_together_after_an_interval(clock: list[float]) -> None:
    limit = LogRateLimit()
    assert limit.count() == 1
    clock[0] += INTERVAL / 2
    assert [limit.count(), limit.count(5)] == [0, 0]
    clock[0] += INTERVAL / 2
    assert limit.count() == 7
    assert limit.count() == 0


def test_a_clock_that_began_just_now_delays_nothing(clock: list[float]) -> None:
    clock[0] = 0.0
    assert LogRateLimit().count(3) == 3


def test_each_kind_of_message_has_an_interval_of_its_own(clock: list[float], logged: Logged) -> None:
    logger = RateLimitedLogger(structlog.get_logger("test"))
    for kind in ("away", "away", "refused", "away"):
        logger.warning(kind, "it is again", what=kind)
    clock[0] += INTERVAL
    logger.error("away", "it is again", what="away")
    again = {"event": "it is again", "log_level": "warning"}
    assert logged.entries == [
        again | {"what": "away"},
        again | {"what": "refused"},
        again | {"what": "away", "suppressed": 2, "log_level": "error"},
    ]


def test_what_is_over_is_logged_at_once_when_it_begins_again(clock: list[float], logged: Logged) -> None:
    logger = RateLimitedLogger(structlog.get_logger("test"))
    logger.warning("away", "away")
    logger.forget("away")
    logger.warning("away", "away")
    assert logged.events == ["away", "away"]


def test_kinds_without_end_take_no_memory_without_end(clock: list[float]) -> None:
    logger = RateLimitedLogger(structlog.get_logger("test"))
    for number in range(1000):
        logger.info(str(number), "another")
    assert len(logger._kinds) <= 100
