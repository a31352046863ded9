"""A metric for people: a chart where there is something to draw, and a number where there is one number."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from gateway.base.instants import local_time, unix_nano
from gateway.cli.drawing.metric_charts import charts
from gateway.cli.drawing.screen import Screen
from gateway.query.metrics.catalogue import CUMULATIVE, Metric
from gateway.query.metrics.lines import Line, Window

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=1), 6)
TEMPERATURE = Metric("room.temperature", "gauge", "Cel", CUMULATIVE, False)
NONE = None


def drawn(*lines: Line, screen: Screen | None = None) -> Sequence[str]:
    return list(charts(TEMPERATURE, lines, WINDOW, screen or Screen("never"), rate=False, limit=20))


def test_one_point_is_a_number_and_no_chart() -> None:
    head, _, *rest = drawn(Line({"room": "kitchen"}, [NONE, NONE, 21.5, NONE, NONE, NONE]))
    at = local_time(unix_nano(START + timedelta(minutes=20)))[:-4]
    assert head == "room.temperature (gauge) room=kitchen"
    assert rest == [f"21.5 °C, the only value, of about {at}"]


def test_many_points_in_one_step_are_figures_and_no_chart() -> None:
    *_, said, figures = drawn(Line({}, [NONE, 20.0, NONE, NONE, NONE, NONE], 19.0, 21.0, 20.5))
    assert said.startswith("all values are in one step, of about ")
    assert figures == "min 19 °C  avg 20 °C  max 21 °C  last 20.5 °C"


def test_one_point_of_each_of_several_is_a_table_of_numbers() -> None:
    lines = [Line({"room": room}, [NONE, value, *[NONE] * 4]) for room, value in (("kitchen", 21.5), ("bath", 23.0))]
    *_, kitchen, bath = drawn(*lines)
    assert kitchen.split() == ["kitchen", *["21.5", "°C"] * 4]
    assert bath.split() == ["bath", *["23", "°C"] * 4]


def test_a_flat_line_is_flat_whatever_the_last_bits_say() -> None:
    noise = [21.5, 21.500000001, 21.499999999, 21.5, 21.5, 21.5]
    _, _, above, line, below, _ = drawn(Line({}, list(noise)))
    assert line.startswith("21.5 °C ┤")
    assert len(set(line.partition("┤")[2])) == 1
    assert not above.strip(" │⠀")
    assert not below.strip(" │⠀")
    several = drawn(Line({"room": "a"}, list(noise)), Line({"room": "b"}, [1.0, 2, 3, 4, 5, 6]))
    assert several[-2].split()[:2] == ["a", "▄▄▄▄▄▄"]
    assert several[-1].split()[:2] == ["b", "▁▂▄▅▇█"]


def test_a_line_without_any_value_among_others_is_drawn() -> None:
    *_, nothing, something = drawn(Line({"q": "p50"}, [NONE] * 6), Line({"q": "p95"}, [1.0, 2, 3, 4, 5, 6]))
    assert nothing.split() == ["p50", "-", "-", "-", "-"]
    assert something.split()[1] == "▁▂▄▅▇█"
    assert drawn(Line({}, [NONE] * 6))[-1] == "no values in this time"


@pytest.mark.parametrize(("encoding", "terminal"), [("ascii", "xterm"), ("iso-8859-1", "xterm"), ("utf-8", "linux")])
def test_a_stream_that_cannot_show_braille_gets_ascii(
    monkeypatch: pytest.MonkeyPatch, encoding: str, terminal: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", terminal)
    screen = Screen("never")
    rising = Line({"room": "a"}, [1.0, 2, 3, 4, 5, 6])
    for line in [
        *drawn(rising, screen=screen),
        *drawn(rising, Line({"room": "b"}, [6.0, 5, 4, 3, 2, 1]), screen=screen),
    ]:
        screen.line(line)
    screen.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert "\\u" not in shown
    assert not [letter for letter in shown if "\u2800" <= letter <= "\u28ff" or "\u2581" <= letter <= "\u2588"]
    assert "*" in shown
    assert ".:=+%#" in shown
