"""Parameters of the API, read as Prometheus reads them."""

from __future__ import annotations

import pytest

from gateway.query.errors import BadQueryError
from gateway.query.prometheus.parameters import MAX_TIME, Parameters


def one(name: str, value: str) -> Parameters:
    return Parameters({name: [value]})


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1700000000", 1_700_000_000_000),
        ("1700000000.123", 1_700_000_000_123),
        ("1700000000.1234567", 1_700_000_000_123),
        ("-1.5", -1500),
        ("1.7e9", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        ("1e300", MAX_TIME),
    ],
)
def test_times(text: str, milliseconds: int) -> None:
    assert one("time", text).time("time") == milliseconds


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14", "0x10", "nan", "1_0"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadQueryError, match=f'invalid parameter "start": .*cannot parse "{text}" to a valid timestamp'):
        one("start", text).time("start")


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("15", 15_000), ("0.5", 500), ("1m", 60_000), ("1h30m", 5_400_000), ("100ms", 100)]
)
def test_durations(text: str, milliseconds: float) -> None:
    assert one("step", text).duration("step") == milliseconds


def test_steps_and_ranges_are_bounded() -> None:
    def asked(start: str, end: str, step: str) -> Parameters:
        return Parameters({"start": [start], "end": [end], "step": [step]})

    assert asked("0", "11000", "1").range() == (0, 11_000_000, 1000)
    for wrong, why in (
        (asked("1", "0", "1"), "end timestamp must not be before start time"),
        (asked("0", "1", "0"), "zero or negative query resolution"),
        (asked("0", "1", "-1"), "zero or negative query resolution"),
        (asked("0", "11001", "1"), "exceeded maximum resolution of 11,000 points"),
        (asked("0", "1", "1x"), 'invalid parameter "step"'),
    ):
        with pytest.raises(BadQueryError, match=why):
            wrong.range()


def test_limits() -> None:
    assert Parameters({}).limit() == 0
    assert one("limit", "40000").limit() == 40_000
    for wrong in ("-1", "x", "1.5"):
        with pytest.raises(BadQueryError, match='invalid parameter "limit"'):
            one("limit", wrong).limit()
