"""Traces as a waterfall, those with something wrong included."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from gateway.cli.drawing.screen import Screen, width_of
from gateway.cli.drawing.waterfall import waterfall
from gateway.query.logs.records import LogRecord
from gateway.query.traces.spans import Span
from gateway.query.traces.tree import tree

MS = 10**6
START = 1_700_000_000 * 10**9


def span(span_id: str, parent: str | None = None, start: int = 0, end: int | None = 10, **fields: Any) -> Span:
    given = {
        "name": f"span {span_id}", "kind": "internal", "status": "unset", "status_message": None,
        "service_name": "shop", "host_name": None, "attributes": {}, "events": [], "links": [],
    } | fields  # fmt: skip
    return Span(
        span_id=span_id, parent_span_id=parent, start=START + start * MS,
        end=None if end is None else START + end * MS, **given,
    )  # fmt: skip


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "70")
    return Screen("never")


def drawn(spans: list[Span], screen: Screen, logs: tuple[LogRecord, ...] = (), attributes: bool = False) -> list[str]:
    return list(waterfall("ab" * 16, spans, logs, screen, attributes))


def order(spans: list[Span]) -> list[tuple[int, str]]:
    return [(node.depth, node.span.span_id) for node in tree(spans)]


def test_spans_stand_below_their_parents_by_their_start(screen: Screen) -> None:
    spans = [
        span("a", end=100, kind="server", name="GET /cart"),
        span("c", "a", 50, 100, status="error", status_message="card declined"),
        span("b", "a", 0, 50, service_name="db", status="ok"),
        span("d", "b", 25, 50),
    ]
    title, summary, *lines = drawn(spans, screen)
    assert title == "Trace " + "ab" * 16
    assert summary.endswith("100 ms, 4 spans of shop, db, 1 error")
    assert [line.rstrip() for line in lines] == [
        "shop: GET /cart (server)    100 ms ███████████████████████████████████",
        "├─ db: span b ✓              50 ms ██████████████████",
        "│  └─ shop: span d           25 ms         ██████████",
        "└─ shop: span c ✗            50 ms                  ██████████████████",
        "      ✗ card declined",
    ]


def test_a_missing_parent_a_skewed_clock_and_a_missing_end_are_said(screen: Screen) -> None:
    text = "\n".join(
        drawn(
            [span("a", start=20), span("b", "a", 5, 9), span("c", "gone", end=None), span("d", start=9, end=1)], screen
        )
    )
    assert "its parent gone is missing" in text
    assert "starts 15 ms before its parent: their clocks differ" in text
    assert "has no end" in text
    assert "ends before it starts" in text


def test_spans_that_are_each_others_ancestors_are_all_shown_once() -> None:
    loop = [span("a", "c", 3), span("b", "a", 1), span("c", "b", 2), span("self", "self"), span("below", "a", 9)]
    assert order(loop) == [(0, "self"), (0, "b"), (1, "c"), (2, "a"), (3, "below")]


def test_spans_with_the_same_id_are_all_shown() -> None:
    assert order([span("a", start=1), span("a", start=2), span("b", "a", 3)]) == [(0, "a"), (1, "b"), (0, "a")]


@pytest.mark.parametrize("seed", range(20))
def test_every_span_is_shown_once_whatever_its_parent(seed: int) -> None:
    chance = random.Random(seed)
    ids = [str(chance.randrange(30)) for _ in range(40)]
    spans = [span(one, chance.choice([None, "none", *ids]), chance.randrange(9)) for one in ids]
    assert sorted(map(id, spans)) == sorted(id(node.span) for node in tree(spans))


def test_a_trace_deeper_than_any_terminal_is_wide_is_drawn(screen: Screen) -> None:
    lines = drawn([span(str(n), str(n - 1) if n else None, n, 5_000) for n in range(5_000)], screen)
    assert len(lines) == 5_002
    assert all(width_of(line) <= 70 for line in lines)
    assert "(4999) shop" in lines[-1]


def test_what_happened_in_a_span_stands_below_it_in_order(screen: Screen) -> None:
    event = {"name": "exception", "time_unix_nano": START + 5 * MS, "attributes": {"exception.type": "CardError"}}
    logs = tuple(
        LogRecord(START + at * MS, body, "store", span_id=of)
        for at, body, of in [(7, "after", "a"), (1, "before", "a"), (3, "elsewhere", None)]
    )
    lines = drawn([span("a", events=[event], attributes={"http.route": "/cart"})], screen, logs, attributes=True)
    assert [re.sub(r"\d{4}-\S+ \S+ ", "", line).strip() for line in lines[3:]] == [
        "http.route=/cart",
        "» -     - before",
        "• +5 ms exception exception.type=CardError",
        "» -     - after",
        "Logs of no span above:",
        "-     - elsewhere",
    ]


def test_names_are_harmless(screen: Screen) -> None:
    hostile = "\x1b[2J\n\u202e"
    fields = {"name": hostile, "service_name": hostile, "status_message": hostile, "kind": hostile}
    event = {"name": hostile, "time_unix_nano": START, "attributes": {hostile: hostile}}
    lines = drawn([span("a", "\x07", attributes={hostile: hostile}, events=[event], **fields)], screen, attributes=True)
    assert not re.search("[\x00-\x1f\u202e]", "".join(lines))
