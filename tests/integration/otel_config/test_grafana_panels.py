"""What people see in panels: nothing where nothing is known, true rates, whole traces, columns and titles with room."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.component import Batch, Signal
from tests.integration.otel_config import lab
from tests.integration.otel_config.conftest import SILENT_FOR, store_all
from tests.integration.otel_config.reading import Reader
from tests.support import grafana
from tests.support.databases import Database, Server, fresh_store
from tests.support.grafana import DASHBOARDS, GRAFANA, Query, TimeRange

HOUR = 60 * lab.MINUTE

dashboards = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


@contextmanager
def viewer(database: Database, path: Path, chosen: TimeRange, **options: Any) -> Iterator[tuple[Reader, list[Query]]]:
    dashboard = grafana.load(path)
    with database.connect() as connection:
        connection.execute("SET ROLE obs_hub_reader")
        connection.execute("SET default_transaction_read_only = on")
        reader = Reader(connection, dashboard, chosen, own=not database.native, **options)
        yield reader, list(grafana.queries(dashboard, "rawSql"))


def panel(name: str, title: str) -> tuple[Path, Query]:
    path = GRAFANA / "dashboards" / f"{name}.json"
    (query,) = (each for each in grafana.queries(grafana.load(path), "rawSql") if each.panel["title"] == title)
    return path, query


# -- What is not known -------------------------------------------------------------------------------------------------

OF_THE_SERVER = {"Size of the store", "Connections", "Read from memory", "Deadlocks"}
"""What PostgreSQL tells of itself is known whatever has arrived."""
WHENEVER = {"Metrics with most series", "Spans", "Logs of the trace"}
"""What does not depend on the time range: what is in the store, and a trace that is asked for."""


def shown(rows: list[tuple[Any, ...]]) -> bool:
    return any(value is not None for row in rows for value in row)


@dashboards
def test_an_empty_store_shows_nothing(empty: Database, path: Path) -> None:
    for length in (timedelta(hours=3), timedelta(days=2), timedelta(days=30)):
        with viewer(empty, path, TimeRange.last(length)) as (reader, queries):
            for query in queries:
                rows = reader.see(query)[1]
                assert shown(rows) == (query.panel["title"] in OF_THE_SERVER), f"{query.where}: {rows}"


@dashboards
def test_a_store_that_went_silent_shows_nothing_of_the_time_since(silent: Database, path: Path) -> None:
    with viewer(silent, path, TimeRange.last(timedelta(minutes=SILENT_FOR - 5))) as (reader, queries):
        for query in queries:
            rows = reader.see(query)[1]
            if query.panel["title"] not in OF_THE_SERVER | (WHENEVER if path.stem in ("hub", "trace") else set()):
                assert not shown(rows), f"{query.where}: {rows}"


@dashboards
def test_no_number_of_now_is_shown_of_a_store_that_is_silent_now(silent: Database, path: Path) -> None:
    """Zeros in green are what nobody wants to see of a gateway or a cluster that is dead."""
    with viewer(silent, path, TimeRange.last(timedelta(hours=6))) as (reader, queries):
        for query in queries:
            if query.panel["type"] == "stat" and query.panel["title"] not in OF_THE_SERVER:
                values = [value for row in reader.see(query)[1] for value in row if not isinstance(value, str)]
                assert 0 not in values, query.where


@pytest.mark.parametrize("alive", [True, False])
def test_a_gateway_with_nothing_to_complain_of_says_zero_while_it_lives(server: Server, alive: bool) -> None:
    quiet = lab.Metrics(time.time_ns() - (0 if alive else SILENT_FOR * lab.MINUTE))
    quiet.gauge("obs_hub.in_flight.size", lab.HUB, lambda _: 0)
    with fresh_store(server) as database:
        store_all(database, Batch.of(Signal.METRICS, quiet.request.SerializeToString()))
        path = GRAFANA / "dashboards" / "hub.json"
        with viewer(database, path, TimeRange.last(timedelta(hours=6))) as (reader, queries):
            found = {query.panel["title"]: reader.see(query)[1] for query in queries}
    for title in ("Refused", "Dead letters", "In the spool", "Open circuits", "Dead letters kept", "In flight"):
        assert found[title] == ([(0,)] if alive else []), title


def test_what_is_not_known_has_no_colour_of_good_or_bad() -> None:
    for path in DASHBOARDS:
        for each in grafana.panels(grafana.load(path)):
            if each["type"] == "stat":
                defaults = each["fieldConfig"]["defaults"]
                (mapping,) = defaults["mappings"]
                assert mapping["options"]["match"] == "null+nan"
                assert mapping["options"]["result"]["color"] == "text"
                assert defaults["noValue"] == "no data"


# -- Rates -------------------------------------------------------------------------------------------------------------

RATE = 10_000_000  # bytes a second


@pytest.fixture(scope="module")
def steady(server: Server) -> Iterator[Database]:
    """A store with a counter that grows evenly for 26 hours, read every 15 seconds, give or take a few."""
    now, dice = time.time_ns(), random.Random(1)
    steady = lab.Metrics(now)
    metric = steady._metric("system.network.io", lab.NAS)
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
    began = now - 26 * HOUR
    for at in range(began, now, 15 * lab.SECOND):
        read = at + dice.randrange(-6 * lab.SECOND, 6 * lab.SECOND)
        point = metric.sum.data_points.add(
            time_unix_nano=min(read, now), start_time_unix_nano=began - HOUR, as_double=RATE * (read - began) / 1e9
        )
        lab.put(point.attributes, {"network.interface.name": "eth0", "network.io.direction": "receive"})
    memory = steady._metric("system.memory.utilization", lab.NAS)  # by which the dashboard knows the host
    memory.gauge.data_points.add(time_unix_nano=now, as_double=0.5)
    with fresh_store(server) as database:
        store_all(database, Batch.of(Signal.METRICS, steady.request.SerializeToString()))
        yield database


@pytest.mark.parametrize(
    ("hours", "view"), [(3, "metrics"), (24, "metrics_1m"), (168, "metrics_1m"), (720, "metrics_1h")]
)
def test_a_steady_counter_has_one_rate_everywhere(steady: Database, hours: int, view: str) -> None:
    """Neither the minute that has only begun nor when in its minute a reading was taken makes a difference."""
    path, query = panel("homelab", "Network throughput")
    chosen = TimeRange.last(timedelta(hours=hours))
    with viewer(steady, path, chosen) as (reader, _):
        assert reader.variables["points"].values == [view]
        columns, rows = reader.see(query)
    rates = [float(row[columns.index("value")]) for row in rows]
    times = [row[columns.index("time")] for row in rows]
    newest = max(at.timestamp() if isinstance(at, datetime) else float(at) for at in times)

    assert len(rates) >= {3: 340, 24: 700, 168: 150, 720: 24}[hours]
    assert rates == pytest.approx([RATE] * len(rates), rel=1e-3)
    bucket = {"metrics": 0, "metrics_1m": 60, "metrics_1h": 3600}[view]
    assert newest >= chosen.end.timestamp() - 2 * chosen.interval(query.panel).total_seconds() - bucket


def test_what_adds_up_over_an_interval_leaves_out_those_that_are_not_whole() -> None:
    """A count divided by the length of an interval that has only begun is a curve that ends in a cliff."""
    for path in DASHBOARDS:
        for query in grafana.queries(grafana.load(path), "rawSql"):
            if "/ ($__interval_ms / 1000.0)" in query.text.split("FROM", 1)[0] or "extract(epoch FROM at" in query.text:
                assert "floor(extract(epoch FROM $__timeTo()::timestamptz)" in query.text, query.where


# -- Text boxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["*.service", "it's", 'say "this"', "a\\b", "100%_[(", "+?{", "$1", "*"])
@dashboards
def test_whatever_is_typed_breaks_no_panel(silent: Database, path: Path, typed: str) -> None:
    boxes = dict.fromkeys(("unit", "search", "trace", "operation", "least"), typed)
    with viewer(silent, path, TimeRange.last(timedelta(hours=6)), typed=boxes) as (reader, queries):
        for query in queries:
            reader.see(query)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", {"ssh.service", "backup.service", "init.scope"}),
        ("*.service", {"ssh.service", "backup.service"}),
        ("SSH", {"ssh.service"}),
        ("b*p.service", {"backup.service"}),
        ("_sh", set()),
        ("%", set()),
    ],
)
def test_a_text_box_takes_a_part_of_a_name_and_asterisks(silent: Database, typed: str, found: set[str]) -> None:
    path, query = panel("systemd", "Log")
    with viewer(silent, path, TimeRange.last(timedelta(hours=6)), typed={"unit": typed}) as (reader, _):
        columns, rows = reader.see(query)
        patterns = reader.variables["unit_pattern"].values
    assert {row[columns.index("Unit")] for row in rows} == found
    names = {"ssh.service", "backup.service", "init.scope"}
    (pattern,) = (json.loads(f'"{pattern}"') for pattern in patterns)  # as in a string of LogQL
    assert {name for name in names if re.fullmatch(pattern, name)} == found


def test_a_link_to_a_unit_finds_what_has_no_unit(silent: Database) -> None:
    kernel = lab.ExportLogsServiceRequest()
    owner = kernel.resource_logs.add()
    lab.put(owner.resource.attributes, {"service.name": "kernel", "host.name": "nas"})
    record = owner.scope_logs.add().log_records.add(time_unix_nano=time.time_ns() - 4 * HOUR, severity_number=9)
    record.body.string_value = "oom-killer"
    lab.put(record.attributes, {"journald.transport": "kernel"})
    other = kernel.resource_logs.add()
    lab.put(other.resource.attributes, {"service.name": "web", "host.name": "nas"})
    other.scope_logs.add().log_records.add(time_unix_nano=time.time_ns() - 4 * HOUR).body.string_value = "GET /"
    store_all(silent, Batch.of(Signal.LOGS, kernel.SerializeToString()))
    path, units = panel("systemd", "Units")
    _, log = panel("systemd", "Log")
    chosen = TimeRange.last(timedelta(hours=6))
    with viewer(silent, path, chosen) as (reader, _):
        columns, rows = reader.see(units)
    listed = {row[columns.index("Unit")]: row[columns.index("Messages")] for row in rows}
    assert "web" not in listed, "what an application logs is not of the journal"
    for unit, messages in listed.items():
        with viewer(silent, path, chosen, typed={"unit": unit}) as (reader, _):
            columns, rows = reader.see(log)
        assert {row[columns.index("Unit")] for row in rows} == {unit}
        assert len(rows) == messages
        assert all(row[columns.index("Host")] == "nas" for row in rows)


# -- Traces ------------------------------------------------------------------------------------------------------------


def test_the_trace_is_in_the_shape_that_grafana_draws(silent: Database) -> None:
    """The columns of its TraceSpanRow; what is nested comes as JSON, which a transformation makes objects of."""
    path, query = panel("trace", "Spans")
    assert query.panel["type"] == "traces"
    with viewer(silent, path, TimeRange.last(timedelta(hours=1))) as (reader, _):
        columns, rows = reader.see(query)
    (transformation,) = query.panel["transformations"]
    assert transformation["id"] == "convertFieldType"
    nested = {each["targetField"]: each["destinationType"] for each in transformation["options"]["conversions"]}
    assert set(nested.values()) == {"other"}
    spans = [
        {column: json.loads(value) if column in nested else value for column, value in zip(columns, row, strict=True)}
        for row in rows
    ]
    root, run, select = spans

    assert {"traceID", "spanID", "parentSpanID", "operationName", "serviceName", "startTime", "duration"} <= set(
        columns
    )
    assert [span["traceID"] for span in spans] == [lab.TRACE] * 3
    assert (root["parentSpanID"], run["parentSpanID"], select["parentSpanID"]) == (None, root["spanID"], run["spanID"])
    assert [span["operationName"] for span in spans] == ["GET /backup", "run", "SELECT"]
    assert root["serviceName"] == "web"
    began = datetime.now(UTC).timestamp() * 1e3 - (SILENT_FOR + 1) * 60_000
    assert root["startTime"] == pytest.approx(began, abs=300_000)
    assert select["startTime"] - root["startTime"] == pytest.approx(2, abs=1e-3)
    assert [span["duration"] for span in spans] == [900, 800, 40]
    assert [span["statusCode"] for span in spans] == [0, 2, 0]
    assert run["statusMessage"] == "failed"
    assert run["tags"] == [{"key": "error", "value": True}, {"key": "step", "value": 2}]
    assert {"key": "host.name", "value": "nas"} in root["serviceTags"]
    (event,) = run["logs"]
    assert event["name"] == "exception"
    assert event["timestamp"] == pytest.approx(root["startTime"] + 4, abs=1e-3)
    assert event["fields"] == [{"key": "exception.type", "value": "OSError"}]
    (reference,) = run["references"]
    assert reference == {"traceID": f"{99:032x}", "spanID": f"{98:016x}", "tags": [{"key": "why", "value": "queued"}]}
    assert root["logs"] == root["references"] == []
    assert (root["instrumentationLibraryName"], root["instrumentationLibraryVersion"]) == ("library", "1.2")


def test_log_lines_lead_to_their_traces() -> None:
    """By data links of tables: Grafana draws none on a panel of the type logs that shows what SQL found."""
    linked = 0
    for path in DASHBOARDS:
        for each in grafana.panels(grafana.load(path)):
            from_store = any("rawSql" in target for target in each["targets"])
            assert not (each["type"] == "logs" and from_store), each["title"]
            if each["type"] == "table" and 'AS "Trace"' in each["targets"][0]["rawSql"]:
                (override,) = (
                    o for o in each["fieldConfig"]["overrides"]
                    if o["matcher"]["options"] == "Trace" and any(p["id"] == "links" for p in o["properties"])
                )  # fmt: skip
                (links,) = (p["value"] for p in override["properties"] if p["id"] == "links")
                assert links[0]["url"].startswith("/d/obs-hub-trace/trace?var-trace=${__value.raw}")
                linked += 1
    assert linked >= 6


# -- Room --------------------------------------------------------------------------------------------------------------

UNIT = 52  # pixels that a 24th of the page has, at 1600 of which the menu takes some
PADDING = 16
LEAST_COLUMN = 150
CHARACTER, BESIDE_TITLE = 7.3, 50  # of a title, and what its icons take


@dashboards
def test_columns_and_titles_have_room(path: Path) -> None:
    for each in grafana.panels(grafana.load(path)):
        room = each["gridPos"]["w"] * UNIT - PADDING
        if each["type"] == "stat":
            assert len(each["title"]) * CHARACTER + BESIDE_TITLE <= room, each["title"]
        if each["type"] == "table":
            columns = set(re.findall(r'AS "([^"]+)"', each["targets"][0]["rawSql"]))
            widths = {
                override["matcher"]["options"]: entry["value"]
                for override in each["fieldConfig"]["overrides"]
                for entry in override["properties"]
                if entry["id"] == "custom.width"
            }
            assert set(widths) <= columns, each["title"]
            assert len(columns - set(widths)) == 1, f"{each['title']}: {columns - set(widths)} share what is left"
            assert sum(widths.values()) + LEAST_COLUMN <= room, each["title"]
            for column, width in widths.items():
                assert len(column) * CHARACTER + 16 <= width, f"{each['title']}: {column}"


@dashboards
def test_bars_are_bars_and_times_are_the_viewers(path: Path) -> None:
    dashboard = grafana.load(path)
    assert dashboard["timezone"] == "browser"
    for each in grafana.panels(dashboard):
        if each["type"] == "timeseries" and each["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars":
            assert each["maxDataPoints"] <= each["gridPos"]["w"] * UNIT / 8, each["title"]
        for target in each["targets"]:
            assert "'UTC'" not in target.get("rawSql", ""), each["title"]


@dashboards
def test_names_in_links_are_encoded(path: Path) -> None:
    """A unit's name may hold what means something else in an address, such as & or a backslash."""
    for url in re.findall(r'"url": "(/d/[^"]+)"', path.read_text("utf-8")):
        for value in re.findall(r"=\$\{(__[\w.]+)(?=[}:])(?!:percentencode)", url):
            assert value in ("__value.raw", "__value.time"), url  # an id, and a number
