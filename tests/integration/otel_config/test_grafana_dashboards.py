"""Every query of the dashboards runs, and finds something in the telemetry of a small lab."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.integration.otel_config.conftest import Loki
from tests.integration.otel_config.reading import Reader
from tests.support import grafana
from tests.support.databases import Database
from tests.support.grafana import DASHBOARDS, GRAFANA, Query, TimeRange, Values
from tests.support.waiting import PATIENCE

ROOT = GRAFANA.parents[1]
ATTRIBUTES = {
    "container.health.state",
    "container.id",
    "container.image.name",
    "container.name",
    "process.executable.name",
    "process.owner",
    "process.pid",
    "process.state",
    "system.device",
    "system.filesystem.mountpoint",
    "system.filesystem.state",
    "system.memory.state",
    "system.paging.state",
    "hw.id",
    "hw.name",
    "hw.sensor_location",
}

RANGES = {"metrics": timedelta(hours=3), "metrics_1m": timedelta(days=2), "metrics_1h": timedelta(days=30)}
PANEL_TYPES = {"timeseries", "stat", "table", "logs", "traces", "heatmap", "bargauge"}

dashboards = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_there_are_dashboards_and_they_are_what_the_source_makes() -> None:
    result = subprocess.run(
        [sys.executable, str(GRAFANA / "source"), "--check"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, f"{result.stdout}{result.stderr}\nRun: python otel-config/grafana/source"
    titles = {grafana.load(path)["title"] for path in DASHBOARDS}
    assert titles >= {
        "Homelab",
        "Systemd Monitoring",
        "Cluster Health",
        "Reading Analytics",
        "Hub",
        "Logs",
        "Traces",
        "Trace",
    }


@dashboards
def test_panels_are_well_formed(path: Path) -> None:
    dashboard = grafana.load(path)
    every = list(grafana.panels(dashboard))
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]

    ids = [panel["id"] for panel in (*every, *rows)]
    assert len(ids) == len(set(ids))
    for panel in every:
        assert panel["type"] in PANEL_TYPES
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    assert not overlapping([panel["gridPos"] for panel in every])


def overlapping(places: list[dict[str, int]]) -> list[tuple[dict[str, int], dict[str, int]]]:
    return [
        (one, other)
        for number, one in enumerate(places)
        for other in places[:number]
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]


@dashboards
def test_links_lead_to_dashboards_and_variables_that_are_there(path: Path) -> None:
    known = {each["uid"]: {v["name"] for v in each["templating"]["list"]} for each in map(grafana.load, DASHBOARDS)}

    for url in re.findall(r'"url": "(/d/[^"]+)"', path.read_text("utf-8")):
        uid = url.split("/")[2]
        assert set(re.findall(r"[?&]var-(\w+)=", url)) <= known[uid], url


@pytest.mark.parametrize("view", RANGES)
@dashboards
def test_every_sql_query_finds_something(store: Database, path: Path, view: str) -> None:
    dashboard = grafana.load(path)
    with store.connect() as connection:
        connection.execute("SET ROLE obs_hub_reader")
        connection.execute("SET default_transaction_read_only = on")
        reader = Reader(connection, dashboard, TimeRange.last(RANGES[view]), own=not store.native)
        if "points" in reader.variables:
            assert reader.variables["points"].values == [view]
        found = 0
        for query in grafana.queries(dashboard, "rawSql"):
            try:
                columns, rows = reader.run(query.text, query.panel)
            except psycopg.Error as error:
                raise AssertionError(f"{query.where}: {error}\n{query.text}") from error
            assert_says_something(query, columns, rows)
            found += 1
    assert found


@dashboards
def test_a_variable_without_values_breaks_no_query(store: Database, path: Path) -> None:
    """All of nothing is nothing to Grafana: where there is no Kubernetes, or no event yet."""
    dashboard = grafana.load(path)
    with store.connect() as connection:
        reader = Reader(connection, dashboard, TimeRange.last(timedelta(hours=3)), own=False)
        reader.variables |= {name: Values([], True) for name, each in reader.variables.items() if each.several}
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                reader.run(variable["query"])
        for query in grafana.queries(dashboard, "rawSql"):
            try:
                reader.run(query.text, query.panel)
            except psycopg.Error as error:
                raise AssertionError(f"{query.where}: {error}\n{query.text}") from error


def assert_says_something(query: Query, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    assert rows, f"{query.where} is empty:\n{query.text}"
    for number, column in enumerate(columns):
        assert any(row[number] is not None for row in rows), f"{query.where}: {column} is empty:\n{query.text}"
    if query.shape == "time_series":
        assert_is_a_time_series(query, columns, rows)
    for label in named_fields(query.panel):
        assert label in columns, f"{query.where}: {label} is none of {columns}"


def assert_is_a_time_series(query: Query, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Grafana wants a column `time`, in order; columns of text are labels, those of numbers are curves."""
    at = columns.index("time")
    times = [row[at] for row in rows]
    assert times == sorted(times), f"{query.where}: not in the order of time"
    assert all(isinstance(each, datetime | float | Decimal) for each in times), query.where
    kinds = {type(value) for row in rows for number, value in enumerate(row) if number != at and value is not None}
    assert kinds <= {str, int, float, Decimal}, f"{query.where}: {kinds}"
    assert kinds & {int, float, Decimal}, f"{query.where}: no numbers"
    keys = [(row[at], *(value for value in row if isinstance(value, str))) for row in rows]
    assert len(keys) == len(set(keys)), f"{query.where}: several rows for one label and time"


def named_fields(panel: grafana.Json) -> set[str]:
    """Return the labels and columns that a panel's names, links and overrides refer to."""
    text = json.dumps(panel["fieldConfig"])
    named = set(re.findall(r"\$\{__field\.labels\.(\w+)(?::\w+)?\}", text)) | set(
        re.findall(r"\$\{__data\.fields\.(\w+)(?::\w+)?\}", text)
    )
    if panel["type"] == "table":
        overrides = panel["fieldConfig"]["overrides"]
        named |= {each["matcher"]["options"] for each in overrides if each["matcher"]["id"] == "byName"}
    return named


def test_metrics_of_the_hub_and_its_host_have_the_names_that_are_documented() -> None:
    """The lab could send names that nobody else does: those of the project are checked against what is true of it."""
    known = {
        name
        for path in ("gateway", "exporters")
        for file in (ROOT / path).rglob("*.py")
        for name in re.findall(r'"(obs_hub\.[a-z_.]+)"', file.read_text("utf-8"))
    }
    documented = (ROOT / "docs/host-metrics.md").read_text("utf-8")
    known |= set(re.findall(r"^\| `((?:system|hw|process|container)\.[a-z_0-9.]+)`", documented, re.MULTILINE))
    for dashboard in map(grafana.load, DASHBOARDS):
        for query in grafana.queries(dashboard, "rawSql"):
            named = set(re.findall(r"'((?:obs_hub|system|hw|process|container)\.[a-z_0-9.]+)'", query.text))
            assert {name for name in named - ATTRIBUTES if not name.endswith(".")} <= known, query.where


def test_a_rate_survives_a_reset_and_is_right(store: Database) -> None:
    """The lab's counters grow evenly and are reset halfway, so their rate is the same everywhere."""
    dashboard = grafana.load(GRAFANA / "dashboards" / "homelab.json")
    (query,) = (each for each in grafana.queries(dashboard, "rawSql") if each.where.endswith("Disk throughput"))
    for view, length in RANGES.items():
        with store.connect() as connection:
            reader = Reader(connection, dashboard, TimeRange.last(length), own=False)
            columns, rows = reader.run(query.text, query.panel)
        host, device, value = (columns.index(name) for name in ("host", "device", "value"))
        rates = [float(row[value]) for row in rows if (row[host], row[device]) == ("nas", "sda")]
        # How far it grew before the reset is not known, so the interval of the reset has less; it is never negative.
        assert min(rates) >= 0
        assert max(rates) == pytest.approx(1e6, rel=0.02), view
        assert sum(rate < 0.98e6 for rate in rates) <= 4, view  # in each direction, the reset and the first interval


def test_days_and_hours_are_the_viewers_whatever_the_servers_time_zone(store: Database) -> None:
    dashboard = grafana.load(GRAFANA / "dashboards" / "reading.json")
    queries = {query.panel["title"]: query for query in grafana.queries(dashboard, "rawSql")}
    chosen = TimeRange.last(timedelta(days=30))
    for server in ("UTC", "Pacific/Auckland"):
        for zone in ("utc", "America/New_York", "Asia/Kolkata"):
            with store.connect() as connection:
                connection.execute(f"SET timezone = '{server}'".encode())
                reader = Reader(connection, dashboard, replace(chosen, zone=zone), own=False)
                days = reader.run(queries["Minutes a day"].text)[1]
                hours = reader.run(queries["By hour of the day"].text)[1]
                expected = connection.execute(
                    "SELECT DISTINCT to_char(time AT TIME ZONE %s, 'HH24') || ' h' FROM events"
                    " WHERE name = 'reading.session_finished'",
                    (zone,),
                ).fetchall()
            assert all(day.astimezone(ZoneInfo(zone.upper() if zone == "utc" else zone)).hour == 0 for day, *_ in days)
            assert {hour for hour, _ in hours} == {hour for (hour,) in expected}


@dashboards
def test_every_logql_query_finds_something(store: Database, loki: Loki, path: Path) -> None:
    dashboard = grafana.load(path)
    chosen = TimeRange.last(timedelta(hours=3))
    with store.connect() as connection:
        variables = Reader(connection, dashboard, chosen, own=False).variables
    for query in grafana.queries(dashboard, "expr"):
        text = grafana.expand_logql(grafana.interpolate(query.text, variables, sql=False), chosen, query.panel)
        parameters = {
            "query": text,
            "start": chosen.start.timestamp(),
            "end": chosen.end.timestamp(),
            "step": f"{chosen.interval(query.panel).total_seconds():g}s",
            "limit": "100",
        }
        url = f"{loki.url}/loki/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query.where}: {error.read().decode()}\n{text}") from error
        assert answer["data"]["result"], f"{query.where} is empty:\n{text}"
