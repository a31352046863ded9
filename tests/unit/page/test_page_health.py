"""Every part of the page shows the state that its badge shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.extensions.api.page import health
from gateway.extensions.api.page.view import Asked
from gateway.extensions.api.status import Dependency, ExporterStatus, HubStatus, PipelineStatus, State
from gateway.extensions.api.templates import block
from gateway.query.metrics.lines import Line


def status_of(state: State) -> HubStatus:
    """A hub whose every part is in a state."""
    return HubStatus(
        "1",
        state,
        90.0,
        {} if state is State.DOWN else {"otlp grpc": "127.0.0.1:4317"},
        {"metrics": PipelineStatus(["otlp"], ["timescale"]), "logs": PipelineStatus(["otlp"], ["timescale", "loki"])},
        {name: ExporterStatus(["logs"], state, 7, 10, 3) for name in ("timescale", "loki")},
        Dependency("store", state, "PostgreSQL 18"),
    )


def html_of(status: HubStatus) -> str:
    reader: Any = SimpleNamespace(hub=SimpleNamespace(dsn=None), status=lambda: status)
    asked = Asked("/health", {}, (), "http://hub", datetime(2026, 5, 1, 12, 30, tzinfo=UTC))
    return block("live/health.html", "live", health.read(reader, asked))


@pytest.mark.parametrize(
    ("state", "badge", "said"),
    [
        (State.OK, "Everything works", "works"),
        (State.DEGRADED, "Working, with something amiss", "away; what comes is kept on disk"),
        (State.DOWN, "Not taking telemetry", "away, and the disk space for it is full"),
    ],
)
def test_every_part_shows_the_state_that_the_badge_shows(state: State, badge: str, said: str) -> None:
    html = html_of(status_of(state))
    assert badge in html
    states = re.findall(r'<(?:p|div) class="(?:state|box) (\w+)"', html)
    assert len(states) == 7
    # A hub that is degraded still listens.
    assert [each for each in states if each != state] == (["ok"] if state == "degraded" else [])
    assert re.findall(r'<span data-field="state">([^<]*)</span>', html) == [said, said]
    assert re.findall(r'<span data-field="spool">([^<]*)</span>', html) == ["7", "7"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(9.6, "9 s"), (90.0, "1 min"), (7_300.0, "2 h"), (10 * 86_400.0, "10 d")]
)
def test_how_long_it_is_up_is_said_as_people_say_it(seconds: float, said: str) -> None:
    status = status_of(State.OK)
    status.uptime_seconds = seconds
    assert f'<span id="uptime">{said}</span>' in html_of(status)


def test_lines_keep_their_places_and_colours_whichever_is_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    told = health.Told("Records", "obs_hub.records", ("signal",))
    metric: Any = SimpleNamespace(name="obs_hub.records", unit="{record}")

    def drawn(**values: float) -> list[tuple[str, int]]:
        lines = [Line({"signal": name}, [value, value]) for name, value in values.items()]
        monkeypatch.setattr(health, "series_of", lambda *_: [(metric, [])])
        monkeypatch.setattr(health, "read_lines", lambda *_, **__: lines)
        window: Any = None
        return [(line.label, line.colour) for line in health._lines(cast("Any", None), told, window)]

    assert drawn(traces=3.0, logs=2.0, metrics=1.0) == [("logs", 1), ("metrics", 2), ("traces", 3)]
    assert drawn(logs=1.0, metrics=2.0, traces=3.0) == [("logs", 1), ("metrics", 2), ("traces", 3)]
    many = {f"kind-{number}": float(number) for number in range(9)}
    assert [label for label, _ in drawn(**many)] == [f"kind-{number}" for number in range(3, 9)], "those that are most"
