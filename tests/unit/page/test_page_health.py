"""Every part of the page shows the state that its badge shows."""

from __future__ import annotations

import re

import pytest

from gateway.extensions.api.status import Dependency, ExporterStatus, HubStatus, PipelineStatus, State
from gateway.extensions.api.templates import block


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


@pytest.mark.parametrize(
    ("state", "badge", "said"),
    [
        (State.OK, "Everything works", "works"),
        (State.DEGRADED, "Working, with something amiss", "away; what comes is kept on disk"),
        (State.DOWN, "Not taking telemetry", "away, and the disk space for it is full"),
    ],
)
def test_every_part_shows_the_state_that_the_badge_shows(state: State, badge: str, said: str) -> None:
    html = block("live/health.html", "live", {"status": status_of(state), "cards": [], "tells": False, "trouble": ""})
    assert badge in html
    states = re.findall(r'<(?:p|div) class="(?:state|box) (\w+)"', html)
    assert len(states) == 7
    # A hub that is degraded still listens.
    assert [each for each in states if each != state] == (["ok"] if state == "degraded" else [])
    assert re.findall(r'<span data-field="state">([^<]*)</span>', html) == [said, said]
    assert re.findall(r'<span data-field="spool">([^<]*)</span>', html) == ["7", "7"]
