"""Time ranges in URLs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.extensions.api.page.ranges import RANGES, range_of, text_of
from gateway.extensions.api.page.view import Asked, link
from gateway.query.errors import BadQueryError

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def test_a_name_reaches_up_to_now() -> None:
    for name, length in RANGES.items():
        found = range_of({"range": name}, NOW)
        assert (found.start, found.end, found.parameters) == (NOW - length, NOW, {"range": name})
    assert range_of({}, NOW).name == "1h"
    assert range_of({"range": ""}, NOW, "24h").name == "24h"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z"),
        ("2026-05-01T12:00:00+02:00", "2026-05-01T13:00:00 02:00"),  # a plus sign that nobody escaped
        ("2026-05-01 10:00", "2026-05-01 11:00"),
        ("1777629600000", "1777633200000"),
        ("2026-05-01T10:00:00.000Z", ""),
        ("", "2026-05-01T11:00:00Z"),
    ],
)
def test_fixed_ends_are_times_of_many_forms(start: str, end: str) -> None:
    found = range_of({"from": start, "to": end, "range": "7d"}, datetime(2026, 5, 1, 11, tzinfo=UTC))
    assert found.name is None
    assert found.parameters == {"from": "2026-05-01T10:00:00Z", "to": "2026-05-01T11:00:00Z"}


def test_fractions_of_a_second_stay() -> None:
    assert text_of(NOW + timedelta(milliseconds=250)) == "2026-05-01T12:30:00.250Z"


@pytest.mark.parametrize(
    "asked",
    [
        {"range": "2y"},
        {"from": "yesterday"},
        {"from": "2026-05-01T11:00:00Z", "to": "2026-05-01T11:00:00Z"},
        {"to": "0001-01-01T00:00:00Z"},
        {"from": "9999-12-31T23:59:59-23:00"},
        {"from": "99999999999999"},
        {"from": "90000000000000", "to": "91000000000000"},  # the year 4821
    ],
)
def test_what_makes_no_sense_is_said(asked: dict[str, str]) -> None:
    with pytest.raises(BadQueryError) as refused:
        range_of(asked, NOW)
    assert next(iter(asked)) in str(refused.value)


def asked_of(*query: tuple[str, str]) -> Asked:
    return Asked("/metrics", {}, query, "http://hub", NOW)


def test_a_page_links_to_itself_with_other_parameters() -> None:
    asked = asked_of(("name", "a&b"), ("by", "x"), ("from", "1777629600000"), ("to", "1777633200000"))
    assert asked.url(range="1h") == "/metrics?name=a%26b&by=x&range=1h", "one way of naming a range replaces the other"
    assert asked.url(by=None, q="<é>") == ("/metrics?name=a%26b&from=1777629600000&to=1777633200000&q=%3C%C3%A9%3E")
    assert asked.url(by="") == "/metrics?name=a%26b&from=1777629600000&to=1777633200000&by="
    assert asked_of(("range", "1h")).url(from_="1", to="2") == "/metrics?from=1&to=2"


def test_a_link_escapes_whatever_a_sender_named() -> None:
    assert link('/hosts/a"b?c#d', q="", at=None) == "/hosts/a%22b%3Fc%23d"
    assert link("/logs", host="x&y", from_="1") == "/logs?host=x%26y&from=1"
