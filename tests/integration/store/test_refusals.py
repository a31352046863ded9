"""What is refused is refused alone, with a reason, and spoils nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import ACCEPTED, Batch, MalformedPayloadError, Outcome, RefusedError, Signal
from tests.support.databases import Database
from tests.support.stores import migrate, outcome, running_exporter, running_pipeline, settings, store
from tests.support.telemetry import DAY, SECOND, gauge, logs, now, spans

POISON = {"service.name": "poison"}


def refuse_poison(database: Database) -> None:
    """Let the database refuse whatever comes from the service named poison."""
    migrate(database)
    database.run("ALTER TABLE resource ADD CONSTRAINT no_poison CHECK (service_name <> 'poison')")


# -- poison ------------------------------------------------------------------------------------------------------------


async def test_a_batch_that_the_database_refuses_is_refused_for_good(database: Database) -> None:
    refuse_poison(database)
    async with running_exporter(database) as exporter:
        with pytest.raises(RefusedError, match="no_poison"):
            await store(exporter, gauge(resource=POISON))
    assert database.count("sample") == 0


async def test_a_combined_commit_that_is_refused_stores_nothing(database: Database) -> None:
    refuse_poison(database)
    async with running_exporter(database) as exporter:
        with pytest.raises(RefusedError):
            await store(exporter, gauge(), gauge(resource=POISON))
    assert database.count("sample") == 0


async def test_a_refused_batch_does_not_spoil_its_neighbours(database: Database) -> None:
    refuse_poison(database)
    good = [gauge([float(n)], name=f"metric {n}") for n in range(9)]
    async with running_pipeline(database) as pipeline:
        batches = [*good[:4], gauge(resource=POISON), *good[4:]]
        results = await asyncio.gather(*(pipeline.accept(batch) for batch in batches), return_exceptions=True)
    assert [type(result) for result in results] == [Outcome] * 4 + [RefusedError] + [Outcome] * 5
    assert database.count("sample") == 9


async def test_a_refused_batch_does_not_spoil_what_comes_after_it(database: Database) -> None:
    refuse_poison(database)
    async with running_exporter(database) as exporter:
        with pytest.raises(RefusedError):
            await store(exporter, gauge(resource=POISON))
        assert await store(exporter, gauge()) == [True]
    assert database.count("metrics") == 1


async def test_a_batch_is_not_refused_for_what_another_one_declares(database: Database) -> None:
    """With several connections, a batch is committed while another one has only been encoded."""
    refuse_poison(database)
    async with running_exporter(database, connections=2) as exporter:
        await exporter.prepare(gauge(resource=POISON))
        assert await store(exporter, gauge()) == [True]
    assert database.count("metrics") == 1


async def test_a_batch_that_shares_dimensions_with_a_refused_one_is_stored_whole(database: Database) -> None:
    migrate(database)
    database.run("ALTER TABLE scope ADD CONSTRAINT no_poison CHECK (name <> 'poison')")
    request = ExportMetricsServiceRequest.FromString(gauge().payload)
    request.resource_metrics[0].scope_metrics[0].scope.name = "poison"
    poison = Batch.of(Signal.METRICS, request.SerializeToString())
    async with running_exporter(database) as exporter:
        with pytest.raises(RefusedError):
            await store(exporter, poison)
        await store(exporter, gauge())
    assert database.count("metrics") == 1


async def test_a_batch_that_was_refused_can_be_stored_once_the_database_takes_it(database: Database) -> None:
    refuse_poison(database)
    batch = gauge(resource=POISON)
    async with running_exporter(database) as exporter:
        with pytest.raises(RefusedError):
            await store(exporter, batch)
        database.run("ALTER TABLE resource DROP CONSTRAINT no_poison")
        assert await store(exporter, batch) == [True]


@pytest.mark.parametrize("signal", list(Signal))
async def test_bytes_that_are_no_request_are_malformed(database: Database, signal: Signal) -> None:
    async with running_exporter(database) as exporter:
        with pytest.raises(MalformedPayloadError, match=r"not a valid Export\w+ServiceRequest"):
            await exporter.prepare(Batch.of(signal, b"\xff not protobuf"))


# -- records rejected one by one ---------------------------------------------------------------------------------------


@pytest.fixture
def exporter() -> TimescaleExporter:
    """An exporter that only encodes."""
    return TimescaleExporter("timescale", settings(accept={"past": "10d", "future": "1h"}), "")


def edited(batch: Batch, edit: Callable[[Any], None]) -> Batch:
    request = ExportMetricsServiceRequest.FromString(batch.payload)
    edit(request.resource_metrics[0].scope_metrics[0].metrics[0])
    return Batch.of(Signal.METRICS, request.SerializeToString())


def test_a_request_that_breaks_no_rule_is_accepted_without_a_word(exporter: TimescaleExporter) -> None:
    for batch in (gauge([1.0] * 3), logs("a", "b"), spans("a")):
        assert outcome(exporter, batch) is ACCEPTED


def test_data_points_without_a_timestamp_are_rejected(exporter: TimescaleExporter) -> None:
    result = outcome(exporter, gauge({0: 1.0, now(): 2.0}))
    assert result == Outcome(1, "1 data points rejected: 1 without a timestamp (set time_unix_nano)")


def test_old_data_points_are_rejected(exporter: TimescaleExporter) -> None:
    result = outcome(exporter, gauge({now() - 11 * DAY: 1.0, now() - 9 * DAY: 2.0, now(): 3.0}))
    assert result == Outcome(1, "1 data points rejected: 1 older than 10d (setting accept.past)")


def test_data_points_of_the_future_are_rejected(exporter: TimescaleExporter) -> None:
    result = outcome(exporter, gauge({now() + 7200 * SECOND: 1.0, now() + 600 * SECOND: 2.0}))
    assert result.rejected == 1
    assert result.message == (
        "1 data points rejected: 1 more than 1h ahead of this gateway's clock (setting accept.future)"
    )


def test_the_reasons_are_counted_apart(exporter: TimescaleExporter) -> None:
    result = outcome(exporter, gauge({0: 1.0, now() - 11 * DAY: 1.0, now() - 12 * DAY: 1.0, now(): 1.0}))
    assert result.rejected == 3
    assert result.message == (
        "3 data points rejected: 2 older than 10d (setting accept.past); 1 without a timestamp (set time_unix_nano)"
    )


def _as_histogram(metric: Any, *counts: int) -> None:
    metric.ClearField("gauge")
    for count in counts:
        metric.histogram.data_points.add(time_unix_nano=now(), count=count)


def test_counts_beyond_bigint_are_rejected(exporter: TimescaleExporter) -> None:
    result = outcome(exporter, edited(gauge(), lambda metric: _as_histogram(metric, 2**63 - 1, 2**63, 2**64 - 1)))
    assert result.rejected == 2
    assert "2 with a count above 9223372036854775807" in result.message


def test_histograms_without_a_timestamp_are_rejected(exporter: TimescaleExporter) -> None:
    def without_time(metric: Any) -> None:
        _as_histogram(metric, 1)
        metric.histogram.data_points[0].time_unix_nano = 0

    assert "1 without a timestamp" in outcome(exporter, edited(gauge(), without_time)).message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b""}, "trace_id that is not 16 bytes, or all zero"),
        ({"trace_id": bytes(16)}, "trace_id that is not 16 bytes, or all zero"),
        ({"trace_id": b"short"}, "trace_id that is not 16 bytes, or all zero"),
        ({"span_id": b""}, "span_id that is not 8 bytes, or all zero"),
        ({"span_id": bytes(8)}, "span_id that is not 8 bytes, or all zero"),
        ({"parent_span_id": b"short"}, "span_id that is not 8 bytes, or all zero"),
        ({"start_time_unix_nano": 0}, "without a timestamp"),
    ],
)
def test_spans_without_valid_ids_or_time_are_rejected(
    exporter: TimescaleExporter, fields: dict[str, Any], reason: str
) -> None:
    result = outcome(exporter, spans("bad", **fields))
    assert result.rejected == 1
    assert result.message.startswith("1 spans rejected: 1 with")
    assert reason in result.message


def test_old_spans_and_logs_are_rejected(exporter: TimescaleExporter) -> None:
    assert "1 older than 10d" in outcome(exporter, spans("old", at=now() - 11 * DAY)).message
    assert "1 older than 10d" in outcome(exporter, logs("old", at=now() - 11 * DAY)).message
    assert "1 older than 10d" in outcome(exporter, logs("old", at=0, observed=now() - 11 * DAY)).message


def test_log_records_need_no_timestamp(exporter: TimescaleExporter) -> None:
    assert outcome(exporter, logs("a", at=0)) is ACCEPTED


def test_the_window_defaults_to_the_retention_of_the_signal() -> None:
    exporter = TimescaleExporter("timescale", settings(retention={"metrics": "40d", "traces": None}), "")
    assert outcome(exporter, gauge(at=now() - 39 * DAY)) is ACCEPTED
    assert outcome(exporter, gauge(at=now() - 41 * DAY)).rejected == 1
    assert outcome(exporter, spans("a", at=now() - 360 * DAY)) is ACCEPTED
    assert outcome(exporter, spans("a", at=now() - 370 * DAY)).rejected == 1


async def test_the_rest_of_a_request_is_stored(database: Database) -> None:
    async with running_pipeline(database) as pipeline:
        result = await pipeline.accept(gauge({0: 1.0, now() - 400 * DAY: 1.0, now(): 2.0}))
    assert result.rejected == 2
    assert database.run("SELECT value FROM metrics") == [(2.0,)]


async def test_a_request_of_which_nothing_is_left_is_answered(database: Database) -> None:
    async with running_pipeline(database) as pipeline:
        assert (await pipeline.accept(gauge({0: 1.0}))).rejected == 1
    assert database.count("sample") == 0


async def test_exemplars_are_not_records(exporter: TimescaleExporter) -> None:
    def with_exemplars(metric: Any) -> None:
        for value in (1.0, 2.0):
            metric.gauge.data_points[0].exemplars.add(as_double=value)

    assert (await exporter.prepare(edited(gauge(), with_exemplars))).records == 1
