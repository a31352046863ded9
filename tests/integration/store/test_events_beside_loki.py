"""Where Loki keeps the logs, the store keeps the events."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from exporters.loki.config import LokiConfig
from gateway.assembly import exporter_settings
from gateway.component import Batch, Signal
from gateway.config import Config, PipelineSettings, ServiceSettings
from tests.support.databases import Database
from tests.support.stores import running_exporter, settings, store
from tests.support.telemetry import logs, now

# Field 12 looks like a 'b'; most texts hold one.
BODIES = ("abba", "xyz", "b")


def mixed(event_at: int, plain_at: int) -> Batch:
    """Plain records and events of several resources and scopes."""
    request = ExportLogsServiceRequest()
    for service, events in (("plain", ""), ("mixed", "order.placed"), ("events", "order.placed")):
        owner = request.resource_logs.add()
        owner.resource.attributes.add(key="service.name").value.string_value = service
        for name in ("", events) if service == "mixed" else (events,):
            scope = owner.scope_logs.add()
            for body in BODIES:
                scope.log_records.add(
                    time_unix_nano=event_at if name else plain_at, event_name=name
                ).body.string_value = f"{service} {body}"
    return Batch.of(Signal.LOGS, request.SerializeToString())


async def test_only_events_are_stored_with_what_they_belong_to(native_database: Database) -> None:
    batch = mixed(now(), now())
    async with running_exporter(native_database, logs="events") as exporter:
        assert (await exporter.prepare(batch)).records == 6
        assert await store(exporter, batch) == [True]
        assert await store(exporter, batch) == [False]
    stored = native_database.run("SELECT service_name, body FROM events ORDER BY 1, 2")
    assert stored == sorted((service, f"{service} {body}") for service in ("events", "mixed") for body in BODIES)
    assert native_database.count("log") == 6
    assert native_database.count("resource") == 2, "nothing is declared that no event refers to"


async def test_plain_logs_are_no_commit_and_no_rejections(native_database: Database) -> None:
    async with running_exporter(native_database, logs="events") as exporter:
        prepared = await exporter.prepare(logs(*BODIES, at=1))  # too old, which is Loki's to judge
        assert (prepared.records, prepared.outcome.rejected) == (0, 0)
        assert (await exporter.prepare(logs("a", at=1, event="order.placed"))).outcome.rejected == 1


@pytest.mark.parametrize("timestamped", [True, False])
async def test_a_repetition_is_recognized_if_any_record_carries_a_timestamp(
    native_database: Database, timestamped: bool
) -> None:
    batch = mixed(0, now() if timestamped else 0)
    async with running_exporter(native_database, logs="events") as exporter:
        assert await store(exporter, batch) == [True]
        assert await store(exporter, batch) == [not timestamped]


@pytest.mark.parametrize(
    ("setting", "exporters", "kept"),
    [
        ("auto", ["timescale"], "all"),
        ("auto", ["timescale", "loki"], "events"),
        ("auto", ["timescale", "loki/archive"], "events"),
        ("auto", ["loki"], "all"),  # then it is given no logs at all
        ("all", ["timescale", "loki"], "all"),
        ("events", ["timescale"], "events"),
    ],
)
def test_the_assembly_decides_which_logs_the_store_keeps(setting: str, exporters: list[str], kept: str) -> None:
    pipelines = {
        Signal.LOGS: PipelineSettings(receivers=["otlp"], exporters=exporters),
        Signal.METRICS: PipelineSettings(receivers=["otlp"], exporters=["timescale"]),
    }
    others = {name: LokiConfig(endpoint="http://127.0.0.1:3100") for name in exporters if name.startswith("loki")}
    config = Config({}, {"timescale": settings(logs=setting), **others}, ServiceSettings(pipelines=pipelines))
    assert exporter_settings(config, "timescale").logs == kept  # type: ignore[attr-defined]
