"""What there is, what came last, and the newest points: the same as the points say, without reading them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from gateway.store.collection import collect_dimensions
from gateway.store.reader import READER_ROLE
from gateway.store.seen import look_back
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import DAY, SECOND, Value, collection, gauge, histogram, now

_MINUTE = 60 * SECOND


def catalogue(database: Database) -> dict[str, tuple[Any, ...]]:
    rows = database.run("SELECT name, series, first_seen, last_seen FROM metric_catalogue")
    return {name: tuple(its) for name, *its in rows}


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"


def instant(unix_nano: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=unix_nano // 1000)


async def stored(database: Database) -> None:
    """Points in frames and in rows, of series that come and go, late ones, and some within one microsecond."""
    dice, at = random.Random(5), now() - 500 * SECOND
    async with running_exporter(database) as exporter:
        for step in range(12):
            names = list(range(40)) if step < 6 else list(range(7, 40))
            values: list[Value] = [dice.uniform(-1, 1) if n % 2 else 2**53 + step * n for n in names]
            batch = collection(
                at + step * 15 * SECOND, values, names=names, start=lambda n: at - SECOND if n % 3 else 0
            )
            await store(exporter, batch)
        await store(exporter, collection(at + 15 * SECOND, [9.0] * 40), collection(at + 166 * SECOND + 1, [3.0]))
        await store(exporter, collection(at + 165 * SECOND + 300, [1.5] * 33, names=list(range(7, 40))))
        await store(exporter, gauge({at + 1: 1.0, at + 2: 2.0}, name="alone"))


async def test_the_latest_of_each_series_is_what_the_points_say(database: Database) -> None:
    await stored(database)
    columns, latest = ([name for (name,) in database.run(_COLUMNS, [view])] for view in ("metrics", "metrics_latest"))
    assert columns == latest
    listed = ", ".join(columns)
    expected = database.run(
        f"SELECT DISTINCT ON (series_id) {listed} FROM metrics ORDER BY series_id, time_unix_nano DESC"
    )
    assert database.count("frame") > 0
    assert database.count("sample") > 0
    assert len(expected) > 41
    assert database.run(f"SELECT {listed} FROM metrics_latest ORDER BY series_id") == expected


async def test_series_of_other_types_have_no_latest_number(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, histogram(now()))
    assert database.count("metrics_latest") == 0
    assert database.count("metric_catalogue") == 1


@pytest.mark.parametrize("most", [1, 7, 40, 41, 100, 10_000])
async def test_the_newest_points_are_what_sorting_all_of_them_gives(database: Database, most: int) -> None:
    await stored(database)
    for metric, host in (("m2", None), ("m2.now", "nas"), ("alone", None), ("m2", "elsewhere"), ("none", None)):
        arguments = [metric, host, most]
        expected = database.run(
            "SELECT time_unix_nano FROM metrics WHERE name = %s AND (%s::text IS NULL OR host_name = %s)"
            " ORDER BY 1 DESC LIMIT %s",
            [metric, host, host, most],
        )
        found = database.run("SELECT time_unix_nano FROM newest_points(%s, %s, %s)", arguments)
        assert found == expected, (metric, host)
        assert bool(found) is (host != "elsewhere" and metric != "none")
        every = database.run("SELECT * FROM newest_points(%s, %s, %s)", arguments)
        assert set(map(str, every)) <= set(map(str, database.run("SELECT * FROM metrics")))


async def test_readers_find_all_of_it_where_they_look(database: Database) -> None:
    await stored(database)
    name = database.name
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' IN ROLE {READER_ROLE}")
    try:
        with psycopg.connect(database.dsn, user=name, password=name) as session:
            session.execute("SET search_path = obs_hub_views")
            for query in (
                "SELECT count(*) FROM newest_points('m2')",
                "SELECT count(*) FROM newest_points('m2', host => 'nas', most => 100)",
                "SELECT count(*) FROM metrics_latest WHERE name LIKE 'm%'",
                "SELECT sum(series) FROM metric_catalogue WHERE name LIKE 'm%'",
            ):
                (count,) = session.execute(query.encode()).fetchone() or (0,)
                assert count > 0, query
            for view in ("histogram_point", "exp_histogram_point", "summary_point", "bounds", "metric_seen"):
                session.execute(sql.SQL("SELECT * FROM public.{}").format(sql.Identifier(view)))
    finally:
        database.run(f"DROP OWNED BY {name}")
        database.run(f"DROP ROLE {name}")


# -- when it was seen ------------------------------------------------------------------------------------------------


async def test_metrics_are_seen_to_within_a_minute_by_several_gateways(database: Database) -> None:
    first = now() // _MINUTE * _MINUTE - 30 * _MINUTE
    async with running_exporter(database) as one, running_exporter(database) as other:
        for step in range(40):
            await store((one, other)[step % 2], collection(first + step * 15 * SECOND, [1.0] * 20, metrics=2))
        await store(one, histogram(first + 5 * _MINUTE))
        found = catalogue(database)
        assert {name: row[0] for name, row in found.items()} == {"m0.now": 10, "m1.now": 10, "latency": 1}
        for name in ("m0.now", "m1.now"):
            assert found[name][1] == instant(first)
            assert timedelta(0) <= instant(first + 39 * 15 * SECOND) - found[name][2] < timedelta(minutes=1)
        assert found["latency"][1:] == (instant(first + 5 * _MINUTE),) * 2
        # A point that comes late is of an earlier time, and one of the time between says nothing new.
        await store(other, collection(first - DAY, [1.0], names=[0]), collection(first + _MINUTE, [1.0] * 9, metrics=2))
        late = catalogue(database)
        assert late["m0.now"] == (10, instant(first - DAY), found["m0.now"][2])
        assert late["m1.now"] == found["m1.now"]


async def test_a_metric_is_written_to_once_a_minute(database: Database) -> None:
    minute = now() // _MINUTE * _MINUTE - 10 * _MINUTE
    async with running_exporter(database) as exporter:
        await store(exporter, collection(minute, [1.0] * 20, metrics=1))
        version = database.value("SELECT xmin::text FROM metric_seen")
        for step in range(1, 20):
            await store(exporter, collection(minute + step * SECOND, [1.0] * 20, metrics=1))
        assert database.value("SELECT xmin::text FROM metric_seen") == version
        await store(exporter, collection(minute + _MINUTE, [1.0] * 20, metrics=1))
        assert database.value("SELECT xmin::text FROM metric_seen") != version


async def test_points_that_are_not_accepted_are_not_seen(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge(at=now() - 400 * DAY, name="old"), gauge({now() - 400 * DAY: 1.0, now(): 1.0}))
    found = catalogue(database)
    assert found.get("old", (0, None, None))[1:] == (None, None)
    assert instant(now()) - found["system.cpu.utilization"][1] < timedelta(minutes=5)


async def test_when_it_was_first_seen_stays_while_there_is_anything_of_it(database: Database) -> None:
    at = now() - 2 * DAY
    async with running_exporter(database) as exporter:
        await store(exporter, gauge(at=at), gauge(at=at, name="gone"), gauge())
        database.run("DELETE FROM sample WHERE time < now() - interval '1 day'")
        with database.connect() as connection:
            collect_dimensions(connection)
        found = catalogue(database)
        assert found.keys() == {"system.cpu.utilization"}
        assert found["system.cpu.utilization"][1] == instant(at)
        assert database.count("metric_seen") == 1
        # The gateway goes on with what it knew, and says it anew.
        await store(exporter, gauge(name="gone"))
        assert catalogue(database)["gone"][1] is not None


async def test_what_an_earlier_version_stored_is_looked_for(database: Database) -> None:
    first = now() // _MINUTE * _MINUTE - 200 * _MINUTE
    async with running_exporter(database) as exporter:
        for step in range(5):
            await store(exporter, collection(first + step * _MINUTE, [1.0] * 20, metrics=2))
        await store(exporter, histogram(first))
    maintain(database)
    expected = catalogue(database)
    database.run("UPDATE metric_seen SET first_seen = NULL, last_seen = NULL, is_whole = false")
    assert database.count("metric_catalogue") == 3, "what is there is shown at once"
    maintain(database)
    assert catalogue(database) == expected
    assert database.value("SELECT bool_and(is_whole) FROM metric_seen")
    # Where retention took the points, the rollups know to within a minute or an hour.
    for table in ("sample", "frame"):
        database.run(f"DELETE FROM {table}")
    database.run("UPDATE metric_seen SET first_seen = NULL, last_seen = NULL, is_whole = false")
    with database.connect() as connection:
        look_back(connection)
    assert abs(catalogue(database)["m0.now"][1] - expected["m0.now"][1]) < timedelta(minutes=1)


# -- conversions -----------------------------------------------------------------------------------------------------


def test_conversions_of_times_are_exact_and_taken_into_plans(native_database: Database) -> None:
    assert native_database.value(
        "SELECT count(*) FROM generate_series(0, 18446744073, 7919) s, unnest(ARRAY[0, 1, 499999, 500000, 999999]) us,"
        " LATERAL (SELECT timestamptz 'epoch' + s * interval '1 s' + us * interval '1 us' AS at) t"
        " WHERE unix_nano(t.at, 7) <> s * 1000000000::numeric + us * 1000 + 7"
    ) == 0  # fmt: skip
    assert native_database.value(
        "SELECT count(*) FROM generate_series(0, 9007199254, 7919) s, unnest(ARRAY[0, 1, 499999, 500000, 999999]) us"
        " WHERE unix_nano(instant(s * 1000000000 + us * 1000 + 999), 999) <> s * 1000000000::numeric + us * 1000 + 999"
    ) == 0  # fmt: skip
    assert native_database.value("SELECT (unix_nano(NULL, 5), instant(NULL))::text") == "(,)"
    plan = native_database.run(
        "EXPLAIN (VERBOSE) SELECT unix_nano(time, time_ns), instant(int_value), time_unix_nano"
        " FROM number_point CROSS JOIN (SELECT time_unix_nano FROM logs) l"
    )
    assert not [line for (line,) in plan if "unix_nano(" in line or "instant(" in line]
