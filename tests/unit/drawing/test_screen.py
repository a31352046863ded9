"""Telemetry is hostile input: whatever it holds, a terminal only shows it."""

from __future__ import annotations

import time
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.instants import from_unix_nano, iso_time, parse_instant, short_duration, unix_nano
from gateway.cli.drawing.log_lines import log_line
from gateway.cli.drawing.screen import Screen, fitted, safe, safe_lines, width_of
from gateway.query.logs.records import LogRecord

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AT = unix_nano(NOW)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 漢字 and 🎉", "plain, ünïcode, 漢字 and 🎉"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2J", r"\x9b2J"),
        ("user \u202egnp.exe", r"user \u202egnp.exe"),
        ("over\rwritten\b", r"over\rwritten\x08"),
        ("a\nb", r"a\nb"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_could_do_something_to_a_terminal_is_spelled_out(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    for line in [safe(text), *safe_lines(text)]:
        assert not [letter for letter in line if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]


@given(
    st.text(max_size=50), st.text(max_size=20), st.text(max_size=20),
    st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=3),
)  # fmt: skip
def test_only_a_body_has_lines_of_its_own_and_all_but_the_first_are_indented(
    body: str, service: str, event: str, attributes: dict[str, str]
) -> None:
    record = LogRecord(AT, body, "store", service_name=service, event_name=event, attributes=attributes)
    first, *rest = log_line(record, Screen("never"), attributes=True).split("\n")
    assert first.startswith("20")
    assert len(rest) == body.rstrip("\r\n").replace("\r\n", "\n").count("\n")
    assert all(line.startswith("    ") for line in rest)


def test_a_record_is_a_line_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        record = LogRecord(
            AT + 123_456_789, {"total": 12.5}, "store", severity="WARN", severity_number=13, service_name="shop",
            host_name="nas", event_name="order.placed", attributes={"customer": 42, "note": "two words"},
        )  # fmt: skip
        line = log_line(record, Screen("never"))
        colored = log_line(record, Screen("always"))
    finally:
        monkeypatch.undo()  # the zone of whoever runs the tests is that of the tests that follow
        time.tzset()
    assert line == ('2026-05-01 14:00:00.123 WARN  nas/shop order.placed {"total":12.5} customer=42 note="two words"')
    assert "\x1b[33m" in colored


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("15m", NOW - timedelta(minutes=15)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-04-30T10:00:00Z", datetime(2026, 4, 30, 10, tzinfo=UTC)),
        ("2026-04-30 10:00+02:00", datetime(2026, 4, 30, 8, tzinfo=UTC)),
        ("2026-04-30", datetime(2026, 4, 30).astimezone()),
    ],
)
def test_a_time_is_a_duration_before_now_or_an_iso_time(text: str, instant: datetime) -> None:
    assert parse_instant(text, NOW) == instant


@pytest.mark.parametrize("text", ["", "yesterday", "-5m", "99999999999999d", "2026-13-01"])
def test_any_other_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="15m, 1h30m or 7d"):
        parse_instant(text, NOW)


def test_nanoseconds_are_kept() -> None:
    assert iso_time(AT + 1) == "2026-05-01T12:00:00.000000001Z"
    assert unix_nano(from_unix_nano(AT)) == AT
    assert from_unix_nano(2**64).year == 2262


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "0 ns"), (850, "850 ns"), (1_250_000, "1.25 ms"), (3.4e9, "3.4 s"), (125e9, "2m 5s"), (2.736e14, "3d 4h")],
)
def test_durations_are_short(nanoseconds: float, shown: str) -> None:
    assert short_duration(nanoseconds) == shown


@given(st.text(), st.integers(1, 30))
def test_a_fitted_text_has_its_width(text: str, width: int) -> None:
    assert width_of(fitted(safe(text), width)) == width
