"""Rollups are what SQL computes from the raw points, late ones and NaN included."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from gateway.store import rollups
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import SECOND, gauge, now

_HOUR = 3600 * SECOND

_EXPECTED = """
SELECT date_bin(%s, time, 'epoch'), series_id, count(*), min(value), max(value),
    (array_agg(value ORDER BY time DESC))[1], max(time), sum(value)
FROM number_point WHERE value <> 'NaN' GROUP BY 1, 2 ORDER BY 1, 2
"""
_ACTUAL = "SELECT time, series_id, count, min, max, last, last_time, sum FROM {} WHERE count > 0 ORDER BY 1, 2"


def roll_up(database: Database) -> None:
    maintain(database)


def assert_rolled_up(database: Database) -> None:
    for table, length in (("rollup_1m", "1 minute"), ("rollup_1h", "1 hour")):
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
    found = database.run("SELECT count, min, max, last, sum FROM sample_1m WHERE count > 0")
    assert found == [(1, 4.0, 4.0, 4.0, 4.0)]


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


async def test_of_a_long_backlog_what_is_done_stays_done(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first, done = hour_ago(), 0
    async with running_exporter(database) as exporter:
        await store(exporter, gauge({first + n * 60 * SECOND: float(n) for n in range(35)}))
    original = rollups._take_up

    def interrupted(*arguments: Any) -> None:
        nonlocal done
        done += 1
        if done == 4:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(rollups, "_take_up", interrupted)
    monkeypatch.setattr(rollups, "_SECONDS", 1e9)
    with pytest.raises(KeyboardInterrupt):
        maintain(database)
    monkeypatch.undo()
    assert [row[0].minute for row in database.run("SELECT time FROM rollup_1m ORDER BY 1")] == list(range(1 + 2 + 4))
    assert database.count("rollup_1h") == 0
    maintain(database)
    assert_rolled_up(database)


async def test_rollups_can_be_switched_off(native_database: Database) -> None:
    async with running_exporter(native_database, rollups=False) as exporter:
        await store(exporter, gauge(at=hour_ago()))
        maintain(native_database, rollups=False)
    assert native_database.count("sample_1m") == 0
    assert native_database.count("rollup_pending") == 0


def five_days_ago() -> int:
    return now() // _HOUR * _HOUR - 5 * 24 * _HOUR


def every_minute_of(hour: int) -> dict[int, float]:
    return {hour + n * 60 * SECOND: float(n) for n in range(60)}


_LATE: dict[str, Any] = {"accept": {"past": "30d"}}
_HOURS = "SELECT series_id, count, min, max FROM sample_1h WHERE count > 0 ORDER BY 1"
_MINUTES = "SELECT series_id, count(*), sum(count) FROM sample_1m WHERE count > 0 GROUP BY 1 ORDER BY 1"


@pytest.mark.parametrize("taken", ["metrics", "rollup_1m"])
async def test_late_points_do_not_undo_what_retention_has_taken_the_points_of(
    native_database: Database, taken: str
) -> None:
    """Not the minutes whose points are gone, nor the hour whose minutes are."""
    hour, database = five_days_ago(), native_database
    async with running_exporter(database, retention={taken: None}, **_LATE) as exporter:
        await store(exporter, gauge(every_minute_of(hour)))
        maintain(database, retention={taken: None})
        before = database.run(_HOURS)
        assert [row[1:] for row in before] == [(60, 0.0, 59.0)]
        maintain(database, retention={taken: "2d"})
        assert database.count("sample" if taken == "metrics" else "sample_1m") == 0
        kept = database.run(_MINUTES)

        await store(exporter, gauge({hour + SECOND: 100.0, hour + 61 * SECOND: 100.0}))
        maintain(database, retention={taken: None})

    assert database.run(_HOURS) == before
    if taken == "metrics":
        assert database.run(_MINUTES) == kept


async def test_a_series_that_had_no_points_there_gets_those_that_come_late(native_database: Database) -> None:
    """What waited in a spool for longer than points are kept is in the rollups all the same."""
    hour, database = five_days_ago(), native_database
    async with running_exporter(database, **_LATE) as exporter:
        await store(exporter, gauge(every_minute_of(hour), attributes={"cpu": "0"}))
        maintain(database)
        maintain(database, retention={"metrics": "2d"})
        await store(exporter, gauge(every_minute_of(hour), attributes={"cpu": "1"}))
        maintain(database)
    assert [row[1:] for row in database.run(_MINUTES)] == [(60, 60), (60, 60)]
    assert [row[1:] for row in database.run(_HOURS)] == [(60, 0.0, 59.0)] * 2


async def test_what_a_wrong_clock_has_noted_keeps_nothing_from_being_rolled_up(native_database: Database) -> None:
    async with running_exporter(native_database) as exporter:
        native_database.run(
            "INSERT INTO store_setting VALUES ('taken_before_sample', '\"2999-01-01T00:00:00+00:00\"'),"
            " ('taken_before_sample_1m', '\"2999-01-01T00:00:00+00:00\"')"
        )
        for value in (1.0, 2.0):
            await store(exporter, gauge({hour_ago() + int(value) * SECOND: value}))
            maintain(native_database)
    assert_rolled_up(native_database)


async def test_no_refresh_of_a_continuous_aggregate_reaches_what_retention_takes(timescale_database: Database) -> None:
    """TimescaleDB's own jobs, one after the other: points go, and late ones do not undo their minutes and hours."""
    hour, database = five_days_ago(), timescale_database
    jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s"
    async with running_exporter(database, **_LATE) as exporter:
        await store(exporter, gauge(every_minute_of(hour)))
        roll_up(database)
    before = database.run(_HOURS)
    assert [row[1:] for row in before] == [(60, 0.0, 59.0)]
    shortened = {**_LATE, "retention": {"metrics": "2d"}}
    async with running_exporter(database, **shortened) as exporter:
        for (job,) in database.run(jobs, ["policy_retention"]):
            database.run("CALL run_job(%s)", [job])
        assert database.count("sample") == 0
        await store(exporter, gauge({hour + SECOND: 100.0}))
        for (job,) in database.run(jobs, ["policy_refresh_continuous_aggregate"]):
            database.run("CALL run_job(%s)", [job])
    assert database.run(_HOURS) == before
    async with running_exporter(database, **_LATE, retention={"metrics": "30d"}) as exporter:
        await store(exporter, gauge({hour + 2 * SECOND: 100.0}))
        for (job,) in database.run(jobs, ["policy_refresh_continuous_aggregate"]):
            database.run("CALL run_job(%s)", [job])
    assert database.run(_HOURS) == before
