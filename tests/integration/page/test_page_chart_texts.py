"""What a chart shows is what its SQL and its PromQL come to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.query.charts import distributions, texts
from gateway.query.charts.buckets import Source, Window, read
from gateway.query.charts.lines import Chart, Question, Show, draw
from gateway.query.charts.selection import find
from gateway.query.promql.engine import Engine
from gateway.query.promql.results import Matrix
from gateway.query.service import QueryService
from tests.support.databases import Database
from tests.support.prometheus import Collection, querying
from tests.support.stores import maintain, running_exporter, store

MINUTE = 60
BEGAN = (int(time.time()) - 45 * MINUTE) // 600 * 600
"""Seconds: long enough ago for all of it to be rolled up."""
EVERY = 10
POINTS = 180
HOSTS = ("nas", 'it\'s a "router"\\ {x}')
MODES = ("user", "system", "idle")


async def fill(database: Database) -> None:
    """Half an hour of two hosts, each point 3.217 seconds after a multiple of ten."""
    batches = []
    async with running_exporter(database) as exporter:
        for n in range(POINTS):
            at = (BEGAN + n * EVERY) * 1000 + 3217
            for h, host in enumerate(HOSTS):
                its = Collection(at, {"service.name": "agent", "service.instance.id": host, "host.name": host})
                for m, mode in enumerate(MODES):
                    for core in ("0", "1"):
                        value = 0.2 * m + 0.1 * h + 0.01 * math.sin(n / 7 + m) + int(core) / 50
                        its.gauge("cpu.utilization", value, "1", attributes={"cpu.mode": mode, "core": core})
                its.counter("net.io", 1000.0 * n * (h + 1), "By", attributes={"direction": "in"})
                its.counter("net.io", 500.0 * (n if n < 90 else n - 90), "By", attributes={"direction": "out"})
                its.counter("jobs", 3.0, "", temporality=1, attributes={"kind": "a"})
                its.histogram("took", [0.5, 1], [4 * n, n, n], 3.0 * n, unit="s", attributes={"route": "/a b"})
                # In both kinds of buckets that are open, negative ones, and between; one begins anew.
                since = n if n < 90 else n - 90
                its.histogram("waits", [-1, 2, 4], [n, 3 * n, 40 * n, n], 9.0 * n, unit="s", attributes={"route": "a"})
                its.histogram("waits", [-1, 2, 4], [8 * since, 0, 0, since], 1.0, unit="s", attributes={"route": "b"})
                its.histogram("lasted", [1, 2], [3, 5, 2], 12.0, unit="s", temporality=1)
                batches.append(its.batch)
        await store(exporter, *batches)


@dataclass(frozen=True)
class Case:
    """A question, and how far PromQL may be from what is drawn: it extrapolates where a counter began anew."""

    question: Question
    tolerance: float = 1e-9


NAS, ODD = HOSTS
CASES = [
    Case(Question(metric="cpu.utilization")),
    Case(Question(metric="cpu.utilization", host=NAS, by=("cpu.mode",))),
    Case(Question(metric="cpu.utilization", host=ODD, by=("cpu.mode", "core"), without=(("cpu.mode", "idle"),))),
    Case(Question(metric="cpu.utilization", by=("host.name",), only=(("cpu.mode", "user"),))),
    Case(Question(metric="cpu.utilization", service="agent", by=("service.name",))),
    Case(Question(metric="net.io", by=("host.name",), only=(("direction", "in"),)), 1e-6),
    Case(Question(metric="net.io", host=NAS, by=("direction",)), 0.2),
    Case(Question(metric="net.io", show=Show.VALUE, by=("direction",))),
    Case(Question(metric="jobs", by=("kind",)), 1e-6),
    Case(Question(metric="took", host=NAS, by=("route",)), 1e-6),
    Case(Question(metric="took", show=Show.RATE), 1e-6),
    Case(Question(metric="took", show=Show.P50, by=("host.name",)), 1e-6),
    Case(Question(metric="took", show=Show.P95, host=NAS), 1e-6),
    Case(Question(metric="waits", show=Show.P50, by=("route",)), 1e-6),
    Case(Question(metric="waits", show=Show.P95), 0.2),
    Case(Question(metric="lasted", show=Show.P50, by=("host.name",)), 1e-6),
    Case(Question(metric="waits", show=Show.P99, host=ODD), 0.2),
]


def drawn(service: QueryService, question: Question, window: Window) -> Chart:
    with service.reading(service.usage()) as reading:
        found = find(reading, [question.metric], host=question.host, service=question.service)
        (metric,) = found
        if metric.is_number:
            source, values = read(reading, [one.id for one in found[metric]], window)
            chart = draw(question, found, values, source, window)
        else:
            chart = distributions.draw(reading, question, found, window)
    assert chart is not None
    assert chart.lines
    return chart


Values = dict[tuple[str, ...], dict[int, float]]


def shown(chart: Chart) -> Values:
    times = chart.window.times()
    return {
        line.labels: {times[n]: line.values[n] for n in np.flatnonzero(~np.isnan(line.values))} for line in chart.lines
    }


def by_sql(database: Database, chart: Chart) -> Values:
    found: Values = {}
    statement = texts.as_sql(chart, texts.time_condition(chart))
    with database.connect() as connection:
        for at, *labels, value in connection.execute(statement.encode()):
            if value is not None:
                found.setdefault(tuple(labels), {})[round(at.timestamp())] = value
    return found


def by_promql(service: QueryService, chart: Chart, labels: Sequence[str]) -> Values:
    query = texts.as_promql(chart, service.settings.translation)
    assert query is not None
    step = chart.window.step
    first = chart.window.first
    with service.querier(service.usage()) as querier:
        result = Engine(querier).range(
            query, (first + step) * 1000, (first + step * chart.window.count) * 1000, step * 1000
        )
    assert isinstance(result.value, Matrix)
    return {
        tuple(series.labels.get(label, "") for label in labels): {
            at // 1000 - step: value for at, value in zip(series.times.tolist(), series.values.tolist(), strict=True)
        }
        for series in result.value.series
    }


LABELS = {"host.name": "host_name", "cpu.mode": "cpu_mode", "service.name": "job"}


async def test_points_and_rollups_are_drawn_as_sql_and_promql_have_them(database: Database) -> None:
    await fill(database)
    maintain(database)
    points = Window(BEGAN, BEGAN + POINTS * EVERY, 30)
    minutes = Window(BEGAN, BEGAN + POINTS * EVERY, 300)
    with querying(database) as service:
        for case in CASES:
            for window in (points, minutes):
                chart = drawn(service, case.question, window)
                values = shown(chart)
                expected = by_sql(database, chart)
                assert values.keys() == expected.keys(), case
                for labels, line in values.items():
                    assert line == pytest.approx(expected[labels], rel=1e-9), (case, chart.source)
                if chart.metric.is_number:
                    assert chart.source is (Source.POINTS if window is points else Source.MINUTES)
                asked = by_promql(service, chart, [LABELS.get(key, key) for key in case.question.by])
                assert values.keys() == asked.keys(), case
                compared = 0
                for labels, line in values.items():
                    # At the ends, PromQL's windows reach to where there is nothing.
                    for at in sorted(line)[3:-1]:
                        assert asked[labels][at] == pytest.approx(line[at], rel=case.tolerance), (case, at)
                        compared += 1
                assert compared > 0


async def test_where_points_come_seldom_intervals_are_as_long(native_database: Database) -> None:
    async with running_exporter(native_database) as exporter:
        points = [Collection((BEGAN + n * MINUTE) * 1000 + 500).gauge("slow", n).batch for n in range(20)]
        await store(exporter, *points)
    with querying(native_database) as service:
        chart = drawn(service, Question(metric="slow"), Window(BEGAN, BEGAN + 20 * MINUTE, 5))
    assert chart.window.step == MINUTE
    assert chart.lines[0].values.tolist() == list(range(20))


async def test_what_is_too_young_for_a_rollup_is_drawn_from_its_points(native_database: Database) -> None:
    now = int(time.time()) + 2 * MINUTE  # no minute that may be over, and rolled up, by then
    async with running_exporter(native_database) as exporter:
        for n in range(3):
            await store(exporter, Collection((now - n) * 1000).gauge("young", 7.0).batch)
    with querying(native_database) as service:
        chart = drawn(service, Question(metric="young"), Window(now - 86_400, now + 1, 3600))
    assert chart.source is Source.POINTS
    assert chart.lines[0].last == 7.0


def test_a_long_range_of_a_young_store_is_drawn_as_finely_as_what_there_is() -> None:
    week = 7 * 86_400
    assert Window.over(0, week).step == 3600
    young = Window.over(0, week, since=week - 1200)
    assert young.step == 5
    assert young.start == week - 1260
    assert young.count <= 260
    assert Window.over(0, week, since=math.inf).count <= 260, "what nobody knows the beginning of began just now"
