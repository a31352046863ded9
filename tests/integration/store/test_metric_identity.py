"""What a metric says of itself for people does not identify it."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import running_exporter, store
from tests.support.telemetry import gauge


def described(description: str, metadata: str = "", **fields: Any) -> Batch:
    request = ExportMetricsServiceRequest.FromString(gauge().payload)
    metric = request.resource_metrics[0].scope_metrics[0].metrics[0]
    metric.description = description
    for name, value in fields.items():
        setattr(metric, name, value)
    if metadata:
        metric.metadata.add(key="prometheus.type").value.string_value = metadata
    return Batch.of(Signal.METRICS, request.SerializeToString())


async def test_a_changed_description_makes_no_new_series(native_database: Database) -> None:
    async with running_exporter(native_database) as exporter:
        for batch in (described("CPU"), described("CPU used"), described(""), described("other"), described("", "g")):
            assert await store(exporter, batch) == [True]
    assert native_database.value("SELECT count(DISTINCT series_id) FROM metrics") == 1
    assert native_database.run("SELECT description, metadata FROM metric") == [("CPU used", {"prometheus.type": "g"})]
    changes = (
        "SELECT count(*) FROM (SELECT lag(value) OVER (PARTITION BY series_id ORDER BY time) FROM metrics) AS d (v)"
    )
    assert native_database.value(f"{changes} WHERE v IS NULL") == 1


async def test_the_longest_description_is_kept_whoever_brings_it(native_database: Database) -> None:
    for batches in ([described("short"), described("the longest of all")], [described("longer")]):
        async with running_exporter(native_database) as exporter:
            await store(exporter, *batches)
    assert native_database.value("SELECT description FROM metric") == "the longest of all"


async def test_what_identifies_a_metric_makes_another(native_database: Database) -> None:
    async with running_exporter(native_database) as exporter:
        await store(exporter, described("a"), described("a", unit="By"), described("a", name="other"))
    assert native_database.count("metric") == 3
