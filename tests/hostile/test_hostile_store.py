"""Records that are valid, are stored, and must not spoil what is done with them later: rollups, retention, views."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale.dimensions import Dimensions
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, settings, store
from tests.support.telemetry import gauge, now

_LARGEST = 1.7976931348623157e308

_TWO_MINUTES = 120_000_000_000


async def test_a_sum_beyond_the_largest_double_does_not_stop_rollups(database: Database) -> None:
    async with running_exporter(database) as exporter:
        at = now() - _TWO_MINUTES  # rollups are of minutes that have ended
        await store(exporter, gauge([_LARGEST, _LARGEST], name="hostile", at=at), gauge([1.0], name="good", at=at))
    maintain(database)
    assert database.run("SELECT name, count FROM metrics_1m WHERE name = 'good'") == [("good", 1)]
    assert database.value("SELECT count(*) FROM (SELECT value FROM metrics_1m) v") == 2


async def test_a_mean_below_the_smallest_double_does_not_stop_the_view_of_rollups(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge([5e-324, 0.0, 0.0], name="hostile", at=now() - _TWO_MINUTES))
    maintain(database)
    assert len(database.run("SELECT * FROM metrics_1m")) == 1


async def test_a_mean_below_the_smallest_double_does_not_stop_the_view_of_histograms(database: Database) -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hostile")
    metric.histogram.data_points.add(time_unix_nano=now(), count=10, sum=5e-324)
    async with running_exporter(database) as exporter:
        await store(exporter, Batch.of(Signal.METRICS, request.SerializeToString()))
    database.run("SELECT * FROM histograms")


async def test_more_new_series_than_may_wait_do_not_fill_the_memory_nor_keep_others_out(
    native_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dimensions, "_PENDING_LIMIT", 500)
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hostile")
    for n in range(10):
        metric.gauge.data_points.add(time_unix_nano=now(), as_int=n).attributes.add(key="n").value.int_value = n
    async with running_exporter(native_database) as exporter:
        hostile = await exporter.prepare(Batch.of(Signal.METRICS, request.SerializeToString()))
        good = await exporter.prepare(gauge(name="good"))
        assert hostile.generation < good.generation, "what waited for the database is forgotten"
        assert await exporter.commit([hostile, good]) == [True, True]
    assert native_database.value("SELECT count(*) FROM metrics") == 11


async def test_long_arrays_of_buckets_are_encoded_without_a_format_for_each_length() -> None:
    """struct remembers formats, 64 bytes for each value: a hundred requests of other lengths would hold gigabytes."""
    exporter = TimescaleExporter("timescale", settings(), "")
    for values, rejected in (([1] * 100, 0), ([2**63 - 1] * 100, 0), ([2**63] * 100, 1), ([0.5] * 100, 0)):
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hostile")
        field = "explicit_bounds" if isinstance(values[0], float) else "bucket_counts"
        metric.histogram.data_points.add(time_unix_nano=now(), **{field: values})
        prepared = await exporter.prepare(Batch.of(Signal.METRICS, request.SerializeToString()))
        assert prepared.outcome.rejected == rejected
