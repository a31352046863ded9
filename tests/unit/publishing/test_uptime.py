"""What is known of a component, by what was heard of it and of the hub."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from gateway.publishing.drawing import draw_days, duration, percent
from gateway.publishing.uptime import DAY, Day, Intervals, Was, history, judged

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
LETTERS = {".": Was.UNKNOWN, "u": Was.UP, "d": Was.DEGRADED, "X": Was.DOWN}


def states(text: str) -> np.typing.NDArray[np.int8]:
    """An interval a letter: `.` silent or unknown, `u` up, `d` degraded, `X` down."""
    return np.array([LETTERS[letter] for letter in text], np.int8)


@pytest.mark.parametrize(
    ("hub", "other", "its", "others", "why"),
    [
        ("uuuu", "uuuu", "uuuu", "uuuu", "both were heard of all the time"),
        ("uuuu", "u..u", "uuuu", "uXXu", "a hub that runs did not hear of it"),
        ("u..u", "u..u", "uXXu", "u..u", "while the hub was down, nobody could hear of it"),
        ("u..u", "uuuu", "uXXu", "uuuu", "it was down itself, and what it missed was sent later"),
        ("..uu", "...u", "..uu", "...u", "nobody knew of either before"),
        ("uu..", "uu..", "uuXX", "uu..", "the hub is down now"),
        ("uuuu", "uu..", "uuuu", "uuXX", "it is down now"),
        ("....", "u..u", "....", "u..u", "a hub that does not tell of itself is no witness"),
        ("uuuu", "udXu", "uuuu", "udXu", "what it said of itself stays"),
        ("uuuu", "....", "uuuu", "....", "it was never heard of"),
    ],
    ids=lambda value: value if " " in value else "",
)
def test_silence_means_what_the_hub_says_meanwhile(hub: str, other: str, its: str, others: str, why: str) -> None:
    was = judged({"Hub": states(hub), "Other": states(other)}, "Hub")
    assert was["Hub"].tolist() == states(its).tolist(), why
    assert was["Other"].tolist() == states(others).tolist(), why


def test_without_a_hub_among_the_components_silence_is_unknown() -> None:
    assert judged({"A": states("u..u")}, None)["A"].tolist() == states("u..u").tolist()


def test_a_hub_that_runs_and_does_not_tell_of_itself_here_is_not_down() -> None:
    """It was away, came back, and sends its own telemetry elsewhere since."""
    intervals = Intervals(START, HOUR, 8)
    since = intervals.first_from(START + timedelta(hours=4, minutes=30))
    assert since == 5
    was = judged({"Hub": states("uu......"), "Other": states("uu....uu")}, "Hub", since)
    assert was["Hub"].tolist() == states("uuXXX...").tolist()
    assert was["Other"].tolist() == states("uu....uu").tolist()
    assert intervals.first_from(START - HOUR) == 0
    assert judged({"Hub": states("u..")}, "Hub", 9)["Hub"].tolist() == states("uXX").tolist()


def test_days_are_those_of_utc_and_count_only_what_has_passed() -> None:
    intervals = Intervals.until(START + DAY + timedelta(hours=6, minutes=30), 2, HOUR, timedelta(0))
    assert (intervals.start, intervals.count) == (START, 30)
    first, second = history(states("u" * 12 + "d" * 6 + "X" * 3 + "..." + "u" * 6), intervals).days
    assert first == Day(date(2026, 3, 1), 1.0, 0.5, 0.25, 0.125)
    assert first.unknown == pytest.approx(0.125)
    assert first.available == pytest.approx(0.75 / 0.875)
    assert second == Day(date(2026, 3, 2), 0.25, 0.25, 0, 0)
    assert (second.available, second.unknown) == (1, 0)


def test_the_first_minutes_of_a_day_are_a_day_of_which_nothing_is_known() -> None:
    intervals = Intervals.until(START + timedelta(minutes=1), 2, HOUR, timedelta(0))
    days = history(states("u" * intervals.count), intervals).days
    assert [day.date.day for day in days] == [28]
    assert days[0].available == 1


def test_outages_are_the_latest_first_and_the_last_may_go_on() -> None:
    intervals = Intervals(START, HOUR, 8)
    latest, first = history(states("uXXuu.XX"), intervals).outages
    assert (first.start, first.end, first.length) == (START + HOUR, START + 3 * HOUR, 2 * HOUR)
    assert (latest.start, latest.end, latest.length) == (START + 6 * HOUR, None, 2 * HOUR)


@pytest.mark.parametrize(
    ("share", "text"), [(None, "-"), (1.0, "100 %"), (0.999999, "99.99 %"), (0.99949, "99.94 %"), (0.0, "0.00 %")]
)
def test_what_is_not_all_is_never_written_as_all(share: float | None, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0 min"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=25, minutes=3), "1 d 1 h"),
        (DAY, "1 d"),
    ],
)
def test_how_long_something_took_is_written_in_two_units(length: timedelta, text: str) -> None:
    assert duration(length) == text


def test_five_minutes_are_to_be_seen_in_a_day() -> None:
    minutes = 5 / 1440
    days = [
        Day(date(2026, 3, 1), 1, 1 - minutes, 0, minutes),
        Day(date(2026, 3, 2), 1, 0, 0, 0),
        Day(date(2026, 3, 3), 1, 1, 0, 0),
    ]
    drawn = draw_days(days)
    assert drawn.box == "0 0 27 40"
    assert [(bar.kind, bar.left, bar.height) for bar in drawn.bars] == [
        ("up", 0, 40), ("down", 0, 8), ("unknown", 10, 6), ("up", 20, 40),
    ]  # fmt: skip
