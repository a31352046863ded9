"""Durations and sizes, as people write them in the configuration."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.base.settings import ByteSize, Duration, Settings, format_duration, parse_duration, parse_size


class Example(Settings):
    interval: Duration = timedelta(seconds=15)
    limit: ByteSize = 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta()),
        ("500ms", timedelta(milliseconds=500)),
        ("15s", timedelta(seconds=15)),
        ("1.5h", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1m30s250ms", timedelta(seconds=90, milliseconds=250)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
    ],
)
def test_durations_are_written_as_the_collector_writes_them(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "value",
    ["", "15", 15, 1.5, "s", "15 s", "1h 30m", "-5s", "5S", "5y", "1h30", "ten seconds", "9" * 30 + "d", None, True],
)
def test_what_is_no_duration_is_answered_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 15s, 1h30m or 30d"):
        parse_duration(value)


@given(st.integers(0, 200 * 365 * 86_400_000).map(lambda number: timedelta(milliseconds=number)))
def test_a_duration_is_written_so_that_it_is_read_back(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d", "w"])), min_size=1, max_size=6)
)
def test_the_parts_of_a_duration_add_up_in_any_order(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    total = sum((parse_duration(f"{count}{unit}") for count, unit in parts), timedelta())
    assert parse_duration(text) == total


def test_durations_are_written_in_the_largest_units_first() -> None:
    assert format_duration(timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)) == "1d2h3m4s5ms"
    assert format_duration(timedelta()) == "0s"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("500KB", 500_000),
        ("500k", 500_000),
        ("4MiB", 4 * 2**20),
        ("4 mib", 4 * 2**20),
        (" 1.5Gi ", 3 * 2**29),
        ("2TB", 2 * 10**12),
        ("10B", 10),
    ],
)
def test_sizes_are_written_as_kubernetes_writes_them(text: object, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("value", ["", "MiB", "4 bananas", "4PB", "-1", "1e3", 1.5, None, True, "9" * 400])
def test_what_is_no_size_is_answered_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 4MiB, 500KB or a number of bytes"):
        parse_size(value)


@given(st.integers(0, 2**20), st.sampled_from(["", "B", "k", "KB", "KiB", "M", "MiB", "G", "GiB", "T", "TiB"]))
def test_a_size_is_its_number_times_its_unit_however_it_is_spelled(number: int, unit: str) -> None:
    one = parse_size(f"1{unit}")
    assert parse_size(f"{number}{unit}") == parse_size(f"{number} {unit.lower()}") == number * one


@given(st.integers(0, 2**53))
def test_a_number_of_bytes_is_itself(number: int) -> None:
    assert parse_size(number) == parse_size(str(number)) == number


def test_settings_are_read_and_written_alike() -> None:
    settings = Example.model_validate({"interval": "1h30m", "limit": "4MiB"})
    assert (settings.interval, settings.limit) == (timedelta(minutes=90), 4 * 2**20)
    assert settings.model_dump(mode="json") == {"interval": "1h30m", "limit": 4 * 2**20}
    assert Example.model_validate(settings.model_dump(mode="json")) == settings


def test_a_setting_that_does_not_exist_is_an_error_and_so_is_changing_one() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Example.model_validate({"intervall": "15s"})
    with pytest.raises(ValidationError, match="frozen"):
        Example().limit = 5
