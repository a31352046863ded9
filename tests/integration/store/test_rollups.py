"""Rollups are what SQL computes from the raw points, late ones and NaN included."""

from __future__ import annotations

import math
import random

import pytest

from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import SECOND, gauge, now

_HOUR = 3600 * SECOND

_EXPECTED = """
SELECT date_bin(%s, time, 'epoch'), series_id, count(*), min(value), max(value),
    (array_agg(value ORDER BY time DESC))[1], sum(value)
FROM sample WHERE value <> 'NaN' GROUP BY 1, 2 ORDER BY 1, 2
"""
_ACTUAL = "SELECT time, series_id, count, min, max, last, sum FROM {} WHERE count > 0 ORDER BY 1, 2"


def roll_up(database: Database) -> None:
    if database.native:
        maintain(database)
        return
    for view in ("sample_1m", "sample_1h"):
        database.run(f"CALL refresh_continuous_aggregate('{view}', NULL, NULL)")


def assert_rolled_up(database: Database) -> None:
    for table, length in (("sample_1m", "1 minute"), ("sample_1h", "1 hour")):
        expected = database.run(_EXPECTED, [length])
        actual = database.run(_ACTUAL.format(table))
        assert [row[:-1] for row in actual] == [row[:-1] for row in expected]
        # Sums of doubles depend on the order in which they are added.
        assert [row[-1] for row in actual] == pytest.approx([row[-1] for row in expected], rel=1e-12, nan_ok=True)


def hour_ago() -> int:
    return now() // _HOUR * _HOUR - 2 * _HOUR


async def test_rollups_equal_what_sql_computes_from_the_points(database: Database) -> None:
    first, dice = hour_ago(), random.Random(1)
    async with running_exporter(database) as exporter:
        for host in ("nas", "desk"):
            points = {first + dice.randrange(3 * _HOUR // 2): dice.uniform(-5, 5) for _ in range(500)}
            await store(exporter, gauge(points, resource={"host.name": host}))
        roll_up(database)
    assert len(database.run(_ACTUAL.format("sample_1m"))) > 100
    assert_rolled_up(database)


async def test_points_that_come_late_are_rolled_up_again(database: Database) -> None:
    first = hour_ago()
    async with running_exporter(database) as exporter:
        await store(exporter, gauge({first: 1.0, first + 90 * SECOND: 2.0}))
        roll_up(database)
        assert_rolled_up(database)
        await store(exporter, gauge({first + SECOND: 10.0, first - 50 * _HOUR: 7.0}))
        roll_up(database)
    assert_rolled_up(database)
    assert sorted(row[2] for row in database.run(_ACTUAL.format("sample_1m"))) == [1, 1, 2]


async def test_nan_and_missing_values_are_left_out(database: Database) -> None:
    first = hour_ago()
    values = {first: math.nan, first + 1: 4.0, first + 2: math.nan, first + 61 * SECOND: math.nan}
    async with running_exporter(database) as exporter:
        await store(exporter, gauge(values))
        roll_up(database)
    assert_rolled_up(database)
    assert [row[2:] for row in database.run(_ACTUAL.format("sample_1m"))] == [(1, 4.0, 4.0, 4.0, 4.0)]


async def test_infinities_are_values(database: Database) -> None:
    first = hour_ago()
    async with running_exporter(database) as exporter:
        await store(exporter, gauge({first: math.inf, first + SECOND: -math.inf, first + 2 * SECOND: 1.0}))
        roll_up(database)
    assert_rolled_up(database)
    ((count, least, most, last),) = database.run("SELECT count, min, max, last FROM sample_1m")
    assert (count, least, most, last) == (3, -math.inf, math.inf, 1.0)


async def test_only_the_minutes_that_got_points_are_computed_anew(native_database: Database) -> None:
    first = hour_ago()
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge({first: 1.0, first + 60 * SECOND: 1.0}))
        maintain(native_database)
        assert native_database.count("rollup_pending") == 0
        native_database.run("UPDATE sample_1m SET last = 99")
        await store(exporter, gauge({first + SECOND: 2.0}))
        maintain(native_database)
    assert native_database.run("SELECT last FROM sample_1m ORDER BY time") == [(2.0,), (99.0,)]


async def test_rollups_can_be_switched_off(native_database: Database) -> None:
    async with running_exporter(native_database, rollups=False) as exporter:
        await store(exporter, gauge(at=hour_ago()))
        maintain(native_database, rollups=False)
    assert native_database.count("sample_1m") == 0
    assert native_database.count("rollup_pending") == 0
