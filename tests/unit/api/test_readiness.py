"""Whether telemetry is taken, as the front says it, while a destination is away."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config import load
from gateway.extensions.api.status import Probe, State
from gateway.extensions.view import HubView
from tests.support.consumers import Collecting

CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}}}}
exporters: {otlp: {endpoint: "http://127.0.0.1:1", spool: {when_full: WHEN}}}
service: {pipelines: {logs: {receivers: [otlp], exporters: [otlp]}}}
"""


@contextmanager
def disk_that_takes_no_more() -> Iterator[None]:
    """What is written in the block is refused from the first kilobyte on, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def view(tmp_path: Path, when_full: str, *, away: bool) -> HubView:
    path = tmp_path / "hub.yaml"
    path.write_text(CONFIG.replace("WHEN", when_full))
    delivery: Any = SimpleNamespace(circuit_open=away)
    return HubView(
        config=load(path),
        consumer=Collecting(),
        data_dir=tmp_path,
        deliveries={"otlp": delivery},
        endpoints=lambda: {"otlp grpc": "127.0.0.1:4317"},
    )


@pytest.mark.parametrize(
    ("away", "when_full", "state"),
    [
        (True, "refuse", State.DOWN),
        (True, "drop_oldest", State.DEGRADED),  # it refuses nobody
        (False, "refuse", State.OK),  # nothing has to be kept
    ],
)
async def test_a_disk_that_takes_no_more_counts_while_the_destination_is_away(
    tmp_path: Path, away: bool, when_full: str, state: State
) -> None:
    hub = view(tmp_path, when_full, away=away)
    with disk_that_takes_no_more():
        readiness = await Probe(hub).readiness()
    assert readiness.status is state
    (exporter,) = [each for each in readiness.dependencies if each.name == "exporter otlp"]
    assert exporter.state is state
    assert ("the disk takes no more" in exporter.detail) is (state is State.DOWN)


def test_with_room_on_the_disk_telemetry_is_taken_and_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    readiness = asyncio.run(Probe(view(tmp_path, "refuse", away=True)).readiness())
    assert readiness.status is State.DEGRADED
    assert [path.name for path in tmp_path.iterdir()] == ["hub.yaml"]
