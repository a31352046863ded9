"""What people find in the store: comments, views, and a role that can only read."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.component import Batch, Signal
from gateway.store.schema import READER_ROLE
from tests.support.databases import Database
from tests.support.stores import maintain, migrate, running_exporter, store
from tests.support.telemetry import SECOND, gauge, logs, now, spans

# What belongs to the extension, and the pieces that tables are made of, are not the store's.
_RELATIONS = """
SELECT c.oid, c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
"""

_COMMON = ["unit", "host_name", "service_name", "attributes", "resource", "scope_name", "type", "temporality"]
_VIEWS = {
    "metrics": ["time", "name", "value", *_COMMON, "is_monotonic", "description", "int_value", "start_time", "flags"],
    "metrics_1m": ["time", "name", "value", *_COMMON, "is_monotonic", "count", "sum", "min", "max", "last"],
    "metrics_1h": ["time", "name", "value", *_COMMON, "is_monotonic", "count", "sum", "min", "max", "last"],
    "histograms": ["time", "name", "count", "sum", "mean", "min", "max", *_COMMON, "explicit_bounds", "bucket_counts"],
    "summaries": ["time", "name", "count", "sum", "quantiles", "quantile_values", "unit", "host_name", "service_name"],
    "exemplars": ["time", "name", "value", "trace_id", "span_id", "exemplar_time", "filtered_attributes", "host_name"],
    "logs": ["time", "severity", "body", "service_name", "host_name", "attributes", "resource", "time_unix_nano"],
    "events": ["time", "name", "body", "service_name", "host_name", "attributes", "resource", "time_unix_nano"],
    "spans": ["time", "name", "service_name", "duration_ms", "kind", "status", "trace_id", "span_id", "host_name"],
}


def test_every_table_and_view_has_a_comment(database: Database) -> None:
    migrate(database)
    assert database.run(f"SELECT relname FROM ({_RELATIONS}) t WHERE obj_description(oid, 'pg_class') IS NULL") == []


def test_every_column_has_a_comment(database: Database) -> None:
    migrate(database)
    assert (
        database.run(
            f"SELECT t.relname, a.attname FROM ({_RELATIONS}) t JOIN pg_attribute a ON a.attrelid = t.oid"
            " WHERE a.attnum > 0 AND NOT a.attisdropped AND col_description(t.oid, a.attnum) IS NULL"
        )
        == []
    )


def test_the_store_has_the_tables_that_its_manual_lists(database: Database) -> None:
    migrate(database)
    names = {row[1] for row in database.run(_RELATIONS)}
    assert names >= {
        *("sample", "histogram_sample", "exp_histogram_sample", "summary_sample", "exemplar", "log", "span"),
        *("resource", "scope", "metric", "series", "sample_1m", "sample_1h", "receipt", "store_setting"),
        *("dimension_epoch", "rollup_pending", "schema_version", *_VIEWS),
        *("run", "webhook_delivery"),
    }


@pytest.mark.parametrize("view", _VIEWS)
def test_views_have_the_columns_that_people_ask_for(database: Database, view: str) -> None:
    migrate(database)
    columns = [
        name
        for (name,) in database.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum", [view]
        )
    ]
    assert set(columns) >= set(_VIEWS[view])
    assert columns[0] == "time"


async def test_a_panel_is_one_short_select(database: Database) -> None:
    at = now() // SECOND * SECOND - SECOND
    async with running_exporter(database) as exporter:
        await store(
            exporter,
            gauge({at: 0.25}, resource={"host.name": "nas"}),
            gauge({at: 0.75}, resource={"host.name": "desk"}),
            gauge({at: 9.0}, name="system.memory.usage", resource={"host.name": "nas"}),
        )
    assert database.run(
        "SELECT time, value FROM metrics WHERE name = 'system.cpu.utilization' AND host_name = 'nas'"
    ) == [(datetime.fromtimestamp(at // SECOND, UTC), 0.25)]


async def test_rollups_answer_the_same_select(database: Database) -> None:
    minute = now() // (60 * SECOND) * 60 * SECOND - 7200 * SECOND
    async with running_exporter(database) as exporter:
        await store(exporter, gauge({minute: 1.0, minute + SECOND: 3.0}))
    maintain(database)
    for view in ("metrics_1m", "metrics_1h"):
        query = f"SELECT value FROM {view} WHERE name = 'system.cpu.utilization' AND host_name = 'nas'"
        assert database.run(query) == [(2.0,)]


async def test_events_are_log_records_with_a_name(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, logs("plain"), logs("it happened", event="deployment"))
    assert database.run("SELECT name, body FROM events") == [("deployment", "it happened")]
    assert sorted(database.run("SELECT body FROM logs")) == [("it happened",), ("plain",)]


async def test_spans_say_how_long_they_took(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, spans("GET /", kind=2))
    assert database.run("SELECT name, kind, status, duration_ms FROM spans") == [("GET /", "server", "unset", 1.5)]


async def test_times_are_exact_in_nanoseconds(database: Database) -> None:
    at = now() // 1000 * 1000 + 789
    async with running_exporter(database) as exporter:
        await store(exporter, logs("a", at=at), spans("b", at=at))
    assert database.value("SELECT time_unix_nano FROM logs") == at
    assert database.run("SELECT start_time_unix_nano, end_time_unix_nano FROM spans") == [(at, at + 1_500_000)]


async def test_every_point_has_its_exact_times_its_scope_and_its_schemas(database: Database) -> None:
    at = now() // 1000 * 1000 - 7200 * SECOND + 789  # whose hour has ended
    start = at - 60 * SECOND - 468
    request = ExportMetricsServiceRequest()
    owner = request.resource_metrics.add(schema_url="https://example.com/resource")
    scope = owner.scope_metrics.add(schema_url="https://example.com/scope")
    scope.scope.name, scope.scope.version = "library", "1.2"
    scope.scope.attributes.add(key="mode").value.string_value = "fast"
    times = {"time_unix_nano": at, "start_time_unix_nano": start}
    metric = scope.metrics.add(name="number")
    metric.sum.aggregation_temporality = 2
    point = metric.sum.data_points.add(as_int=7, **times)
    point.exemplars.add(time_unix_nano=at + 1, as_int=7)
    scope.metrics.add(name="quantiles").summary.data_points.add(count=1, sum=2, **times)
    for name in ("histogram", "exponential_histogram"):
        metric = scope.metrics.add(name=name)
        getattr(metric, name).aggregation_temporality = 2
        getattr(metric, name).data_points.add(count=1, sum=2, **times)
    async with running_exporter(database) as exporter:
        await store(exporter, Batch.of(Signal.METRICS, request.SerializeToString()))
    maintain(database)

    exact = "time_unix_nano, start_time_unix_nano"
    assert database.run(f"SELECT {exact} FROM metrics") == [(at, start)]
    assert database.run(f"SELECT {exact} FROM histograms") == [(at, start)] * 2
    assert database.run(f"SELECT {exact} FROM summaries") == [(at, start)]
    assert database.run("SELECT time_unix_nano, exemplar_time_unix_nano FROM exemplars") == [(at, at + 1)]
    whose = "scope_name, scope_version, scope_attributes, scope_schema_url, resource_schema_url"
    told = ("library", "1.2", {"mode": "fast"}, "https://example.com/scope", "https://example.com/resource")
    for view in ("metrics", "metrics_1m", "metrics_1h", "histograms", "summaries", "exemplars", "metric_series"):
        found = database.run(f"SELECT {whose} FROM {view}")
        assert found, view
        assert all(row == told for row in found), view
    assert database.run("SELECT schema_url FROM resources") == [("https://example.com/resource",)]


async def test_records_have_their_scopes_and_schemas_too(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, logs("a", event="b"), spans("c"))
    for view in ("logs", "events", "spans"):
        whose = "scope_version, scope_attributes, scope_schema_url, resource_schema_url"
        (row,) = database.run(f"SELECT {whose} FROM {view}")
        assert row == ("", {}, "", ""), view


async def test_the_reader_can_read_every_table_and_view(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge(), logs("a"), spans("b"))
    with database.connect() as connection:
        connection.execute(f"SET ROLE {READER_ROLE}".encode())
        for table in [*_VIEWS, "sample", "log", "span", "resource", "sample_1m", "store_setting"]:
            connection.execute(f"SELECT * FROM {table} LIMIT 1".encode())
        assert connection.execute("SELECT count(*) FROM metrics").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO receipt VALUES (gen_random_uuid())",
        "UPDATE resource SET schema_url = ''",
        "DELETE FROM log",
        "TRUNCATE span",
        "DROP TABLE sample",
        "CREATE TABLE mine (a int)",
    ],
)
def test_the_reader_cannot_change_anything(database: Database, statement: str) -> None:
    migrate(database)
    with database.connect() as connection:
        connection.execute(f"SET ROLE {READER_ROLE}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


async def test_the_reader_can_read_partitions_made_later(native_database: Database) -> None:
    migrate(native_database)
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge(at=now() - 20 * 86_400 * SECOND))
    with native_database.connect() as connection:
        connection.execute(f"SET ROLE {READER_ROLE}".encode())
        assert connection.execute("SELECT count(*) FROM metrics").fetchone() == (1,)
