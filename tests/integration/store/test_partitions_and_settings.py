"""Partitions and TimescaleDB's policies follow the settings."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.store.layout import FACTS, METRIC_FACTS, ROLLUPS
from gateway.store.partitions import existing
from tests.support.databases import Database
from tests.support.stores import maintain, migrate, running_exporter, store
from tests.support.telemetry import DAY, SECOND, gauge, logs, now, spans


@pytest.fixture(autouse=True)
def _within_a_day() -> None:
    """What a partition of today is must not change in the middle of a test: shortly before midnight, wait for it."""
    left = 86_400 - time.time() % 86_400
    if left < 30:
        time.sleep(left)


# -- native: partitions ------------------------------------------------------------------------------------------------


def bounds(database: Database, table: str) -> list[tuple[datetime, datetime]]:
    """The time that each partition of a table spans, oldest first."""
    return [
        (datetime.fromisoformat(lower), datetime.fromisoformat(upper))
        for lower, upper in database.run(
            "SELECT (m)[1], (m)[2] FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid,"
            " LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \\('(.*)'\\) TO \\('(.*)'\\)$$) AS m"
            " WHERE i.inhparent = %s::regclass ORDER BY 1",
            [table],
        )
    ]


def day(offset: int = 0) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=offset)


async def test_partitions_are_made_ahead_of_time(native_database: Database) -> None:
    async with running_exporter(native_database):
        for table in (*FACTS, *ROLLUPS):
            assert bounds(native_database, table) == [(day(n), day(n + 1)) for n in range(3)]


async def test_late_data_gets_its_partition_on_demand(native_database: Database) -> None:
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge(at=now() - 5 * DAY))
        assert bounds(native_database, "sample")[0] == (day(-5), day(-4))
        assert len(bounds(native_database, "log")) == 3
    assert native_database.count("metrics") == 1


async def test_rows_are_found_by_their_time(native_database: Database) -> None:
    """A plan for one day does not look at another day's partition."""
    async with running_exporter(native_database) as exporter:
        await store(exporter, logs("old", at=now() - 5 * DAY), logs("new"))
    plan = "\n".join(
        line for (line,) in native_database.run("EXPLAIN SELECT * FROM log WHERE time > now() - interval '2 hours'")
    )
    assert f"log_p{day(-5):%Y%m%d}" not in plan


async def test_expired_partitions_are_dropped(native_database: Database) -> None:
    kept = {"metrics": "20d", "logs": "3d", "traces": None, "rollup_1m": "20d"}
    async with running_exporter(native_database, retention=kept, accept={"past": "30d"}) as exporter:
        old = now() - 5 * DAY
        await store(exporter, gauge(at=old), logs("old", at=old), logs("young"), spans("old", at=old))
        maintain(native_database, retention=kept)
    assert native_database.run("SELECT body FROM log") == [("young",)]
    assert bounds(native_database, "log")[0][0] == day()
    assert native_database.count("span") == 1
    assert native_database.count("sample") == 1


async def test_a_partition_is_not_dropped_while_any_of_it_must_be_kept(native_database: Database) -> None:
    async with running_exporter(native_database, accept={"past": "30d"}) as exporter:
        await store(exporter, logs("yesterday", at=now() - DAY))
        maintain(native_database, retention={"logs": "1d"})
    assert native_database.run("SELECT body FROM log") == [("yesterday",)]


async def test_a_partition_that_was_dropped_is_made_again_when_rows_need_it(native_database: Database) -> None:
    at = now() - 5 * DAY
    async with running_exporter(native_database) as exporter:
        await store(exporter, logs("first", at=at))
        native_database.run(f"DROP TABLE log_p{day(-5):%Y%m%d}_0000")
        assert await store(exporter, logs("second", at=at)) == [True]
    assert native_database.run("SELECT body FROM log") == [("second",)]


async def test_a_partition_that_is_being_dropped_is_not_counted(native_database: Database) -> None:
    """Another gateway may drop one between the look into the catalogue and the question for its bounds."""
    async with running_exporter(native_database) as exporter:
        await store(exporter, logs("old", at=now() - 5 * DAY))
    old = f"log_p{day(-5):%Y%m%d}_0000"
    with native_database.connect() as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        native_database.run(f"DROP TABLE {old}")
        assert [partition.lower for partition in existing(reader, "log")] == [day(n) for n in range(3)]


async def test_a_changed_interval_applies_to_the_partitions_made_from_then_on(native_database: Database) -> None:
    async with running_exporter(native_database, chunk_interval="1d"):
        pass
    before = bounds(native_database, "log")
    async with running_exporter(native_database, chunk_interval="6h") as exporter:
        at = now() - 5 * DAY
        await store(exporter, logs("old", at=at))
    after = bounds(native_database, "log")
    lower, upper = after[0]
    assert upper - lower == timedelta(hours=6)
    assert after[1:] == before
    assert lower <= datetime.fromtimestamp(at // SECOND, UTC) < upper


async def test_new_partitions_fill_what_older_ones_leave_free(native_database: Database) -> None:
    async with running_exporter(native_database, chunk_interval="6h") as exporter:
        noon = int(day(-5).timestamp()) * SECOND + 13 * 3600 * SECOND
        await store(exporter, logs("noon", at=noon))
    async with running_exporter(native_database, chunk_interval="1d") as exporter:
        morning, evening = noon - 10 * 3600 * SECOND, noon + 10 * 3600 * SECOND
        await store(exporter, logs("morning", at=morning), logs("evening", at=evening))
    start = day(-5)
    assert bounds(native_database, "log")[:3] == [
        (start, start + timedelta(hours=12)),
        (start + timedelta(hours=12), start + timedelta(hours=18)),
        (start + timedelta(hours=18), start + timedelta(hours=24)),
    ]
    assert native_database.count("log") == 3


async def test_rows_whose_partition_is_there_do_not_wait_for_who_makes_others(native_database: Database) -> None:
    """Maintenance may hold that lock for a minute when the network is away in the middle of it."""
    async with running_exporter(native_database) as exporter:
        with native_database.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE lock_partitions IN EXCLUSIVE MODE")
            assert await store(exporter, gauge(name="second")) == [True]


async def test_two_gateways_may_make_the_same_partition_at_once(native_database: Database) -> None:
    at = now() - 7 * DAY
    async with running_exporter(native_database) as one, running_exporter(native_database) as other:
        await asyncio.gather(*(store(e, gauge([n], name=f"m{n}", at=at)) for n, e in enumerate([one, other] * 3)))
    assert native_database.count("sample") == 6
    assert bounds(native_database, "sample")[0] == (day(-7), day(-6))


# -- timescale: policies -----------------------------------------------------------------------------------------------

_JOBS = """
SELECT j.job_id, j.proc_name, coalesce(c.user_view_name, j.hypertable_name) AS relation, j.config
FROM timescaledb_information.jobs j
LEFT JOIN _timescaledb_catalog.continuous_agg c ON c.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::int
    OR c.mat_hypertable_id = (j.config ->> 'hypertable_id')::int
WHERE j.job_id >= 1000
"""


def jobs(database: Database, procedure: str) -> dict[str, dict[str, Any]]:
    """The settings of the jobs that run a procedure, by the table or view they are for."""
    rows = database.run(f"SELECT relation, config FROM ({_JOBS}) j WHERE proc_name = %s", [procedure])
    return dict(rows)


def job_ids(database: Database) -> list[int]:
    return [row[0] for row in database.run(f"SELECT job_id FROM ({_JOBS}) j ORDER BY 1")]


async def test_every_table_has_its_policies(timescale_database: Database) -> None:
    async with running_exporter(timescale_database):
        pass
    assert set(jobs(timescale_database, "policy_retention")) == {*FACTS, *ROLLUPS}
    assert set(jobs(timescale_database, "policy_compression")) == {*FACTS, "frame_1m", "frame_1h"}
    assert jobs(timescale_database, "policy_refresh_continuous_aggregate") == {}


async def test_retention_is_each_signals_own(timescale_database: Database) -> None:
    kept = {"metrics": "10d", "logs": "20d", "traces": None, "rollup_1m": "30d", "rollup_1h": "40d"}
    async with running_exporter(timescale_database, retention=kept):
        pass
    drop_after = {name: its["drop_after"] for name, its in jobs(timescale_database, "policy_retention").items()}
    assert drop_after == {
        **dict.fromkeys(METRIC_FACTS, "10 days"),
        "log": "20 days",
        **dict.fromkeys(("sample_1m", "frame_1m"), "30 days"),
        **dict.fromkeys(("sample_1h", "frame_1h"), "40 days"),
    }


async def test_changed_settings_take_effect_on_the_next_start(timescale_database: Database) -> None:
    async with running_exporter(timescale_database):
        pass
    changed = {
        "retention": {"logs": "7d"},
        "columnstore": {"after": "2h"},
        "chunk_interval": "6h",
    }
    async with running_exporter(timescale_database, **changed):
        pass
    assert jobs(timescale_database, "policy_retention")["log"]["drop_after"] == "7 days"
    after = {its["compress_after"] for its in jobs(timescale_database, "policy_compression").values()}
    assert after == {"02:00:00"}
    assert timescale_database.run(
        "SELECT DISTINCT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = ANY(%s)",
        [list(FACTS)],
    ) == [(timedelta(hours=6),)]


async def test_unchanged_settings_leave_the_jobs_alone(timescale_database: Database) -> None:
    async with running_exporter(timescale_database):
        pass
    before = job_ids(timescale_database)
    timescale_database.run(f"SELECT alter_job(job_id, schedule_interval => '5 hours') FROM ({_JOBS}) j")
    async with running_exporter(timescale_database):
        pass
    assert job_ids(timescale_database) == before
    assert timescale_database.run(
        "SELECT DISTINCT schedule_interval FROM timescaledb_information.jobs WHERE job_id >= 1000"
    ) == [(timedelta(hours=5),)]


async def test_policies_can_be_switched_off_and_on(timescale_database: Database) -> None:
    off = {"columnstore": {"enabled": False}, "rollups": False, "retention": {"logs": None}}
    for changes in ({}, off):
        async with running_exporter(timescale_database, **changes):
            pass
    assert jobs(timescale_database, "policy_compression") == {}
    assert jobs(timescale_database, "policy_refresh_continuous_aggregate") == {}
    assert "log" not in jobs(timescale_database, "policy_retention")
    async with running_exporter(timescale_database):
        pass
    assert set(jobs(timescale_database, "policy_compression")) == {*FACTS, "frame_1m", "frame_1h"}
    assert jobs(timescale_database, "policy_refresh_continuous_aggregate") == {}


async def test_a_backlog_is_written_into_the_columnstore_and_read_back(timescale_database: Database) -> None:
    first = now() - 3600 * SECOND
    points = {first + n * SECOND + n: float(n) for n in range(500)}
    async with running_exporter(timescale_database) as exporter:
        await store(exporter, gauge(points))
    assert timescale_database.run("SELECT value FROM metrics ORDER BY time") == [(float(n),) for n in range(500)]
    assert timescale_database.value("SELECT bool_or(is_compressed) FROM timescaledb_information.chunks")


@pytest.mark.parametrize(
    "changes", [{"columnstore": {"direct_copy_points": None}}, {"columnstore": {"enabled": False}}]
)
async def test_writing_into_the_columnstore_can_be_switched_off(
    timescale_database: Database, changes: dict[str, Any]
) -> None:
    first = now() - 3600 * SECOND
    async with running_exporter(timescale_database, **changes) as exporter:
        await store(exporter, gauge({first + n: float(n) for n in range(500)}))
    assert not timescale_database.value("SELECT bool_or(is_compressed) FROM timescaledb_information.chunks")


async def test_settings_are_remembered_with_the_store(timescale_database: Database) -> None:
    migrate(timescale_database)
    assert timescale_database.run("SELECT 1 FROM store_setting WHERE key = 'policies'") == []
    async with running_exporter(timescale_database, retention={"logs": "7d"}):
        pass
    assert (
        timescale_database.value("SELECT value #>> '{retention,logs}' FROM store_setting WHERE key = 'policies'")
        == "7d"
    )
