"""A store in use that gets a new version of the gateway: what is there is read as before, and what is left is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.embedded import binaries
from gateway.store.backup.dump import backup
from gateway.store.backup.restore import restore
from tests.support.databases import Database, fresh
from tests.support.stores import maintain, make_earlier, migrate, running_exporter, store
from tests.support.telemetry import BOUNDS, gauge, histogram, now, summary

pytestmark = pytest.mark.empty_database

_AGES = ("40 days", "2 days", "3 hours", "1 minute")
_ROWS = {
    "sample": "(time, series_id, value, time_ns) VALUES (now() - %(age)s::interval, 1, 5, 0)",
    "histogram_sample": "(time, series_id, count, time_ns, explicit_bounds, bucket_counts)"
    " VALUES (now() - %(age)s::interval, 2, 3, 0, %(bounds)s, %(counts)s)",
    "exp_histogram_sample": "(time, series_id, count, zero_count, zero_threshold, scale, time_ns, positive_offset,"
    " positive_bucket_counts) VALUES (now() - %(age)s::interval, 3, 3, 0, 0, 1, 0, 4, %(counts)s)",
    "summary_sample": "(time, series_id, count, sum, time_ns, quantiles, quantile_values)"
    " VALUES (now() - %(age)s::interval, 4, 3, 1.5, 0, %(bounds)s, %(bounds)s)",
}
_QUERIES = (
    "SELECT time, name, value, time_unix_nano FROM metrics ORDER BY 1",
    "SELECT time, name, explicit_bounds, bucket_counts, positive_bucket_counts FROM histograms ORDER BY 1, 2",
    "SELECT time, name, quantiles, quantile_values FROM summaries ORDER BY 1",
)


def fill_as_earlier(database: Database) -> list[list[tuple[Any, ...]]]:
    """Store points as versions before frames had them; return what the views say of them."""
    database.run('INSERT INTO resource (id, attributes, epoch) VALUES (1, \'{"host.name": "nas"}\', 0)')
    database.run("INSERT INTO scope (id, name, epoch) VALUES (1, 's', 0)")
    for number, kind in enumerate(("gauge", "histogram", "exponential_histogram", "summary"), 1):
        database.run(f"INSERT INTO metric VALUES ({number}, 'm{number}', '{kind}', '', '', 0, false, '{{}}', 0)")
        database.run(f"INSERT INTO series VALUES ({number}, {number}, 1, 1, '{{}}', 0)")
    for table, row in _ROWS.items():
        if database.native:
            for name, lower, upper in (("old", "90 days", "1 day"), ("new", "1 day", "-9 days")):
                day = "SELECT date_trunc('day', now() - %s::interval)::text"
                begin, end = database.value(day, [lower]), database.value(day, [upper])
                database.run(
                    f"CREATE TABLE {table}_{name} PARTITION OF {table} FOR VALUES FROM ('{begin}') TO ('{end}')"
                )
        for age in _AGES:
            statement = f"INSERT INTO {table} {row}"
            with database.connect() as connection:
                connection.execute(
                    statement.encode(), {"age": age, "bounds": BOUNDS, "counts": list(range(len(BOUNDS) + 1))}
                )
    return [database.run(query) for query in _QUERIES]


def status(database: Database) -> Result:
    return CliRunner().invoke(main, ["db", "status", "--dsn", database.dsn])


@pytest.mark.parametrize("revision", ["0006", "0007"])
async def test_what_is_there_is_read_at_once_and_what_comes_is_stored_anew(
    database: Database, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_earlier(database, revision, monkeypatch)
    before = fill_as_earlier(database)
    assert [len(rows) for rows in before] == [4, 8, 4]

    migrate(database)

    assert [database.run(query) for query in _QUERIES] == before
    told = status(database)
    assert told.exit_code == 0, told.output
    assert "Of 4 metrics a gateway is yet to look for when they were first and last observed." in told.output
    for table in _ROWS:
        assert f"  {table}: " in told.output
    assert "go when retention.metrics drops them" in told.output

    async with running_exporter(database, retention={"metrics": None}, accept={"past": "100d"}) as exporter:
        for _ in range(3):
            await store(exporter, gauge(), histogram(now()), summary(now(), BOUNDS))
    maintain(database, retention={"metrics": None}, accept={"past": "100d"})
    assert "yet to look for" not in status(database).output
    after = [database.run(query) for query in _QUERIES]
    assert [len(rows) for rows in after] == [7, 11, 7]
    assert all(set(map(str, old)) <= set(map(str, new)) for old, new in zip(before, after, strict=True))
    assert database.count("bounds") == 1, "bounds and quantiles, which here are the same list"
    seen = database.run(
        "SELECT name, now() - first_seen > interval '39 days', now() - last_seen < interval '1 hour'"
        " FROM metric_catalogue WHERE name ~ '^m[0-9]' ORDER BY 1"
    )
    assert seen == [(f"m{number}", True, True) for number in range(1, 5)]

    if not database.native:  # a job that compresses a chunk could not end beside one who drops it
        database.run("SELECT _timescaledb_functions.stop_background_workers()")
    # Of a day in which points of before and of now are side by side, nothing is told apart.
    for table in _ROWS:
        database.run(f"DELETE FROM {table}")
        if database.native:
            database.run(f"DROP TABLE {table}_old")
            database.run(f"TRUNCATE {table}")
        else:
            database.run("SELECT drop_chunks(%s, now() + interval '2 days')", [table])
    assert "Nothing is left of how points were kept before" in status(database).output


def test_a_store_that_began_with_this_version_says_nothing_of_before(database: Database) -> None:
    migrate(database)
    told = status(database)
    assert told.exit_code == 0
    assert "before" not in told.output
    assert "yet to look" not in told.output


@pytest.mark.parametrize("revision", ["0006", "0007"])
def test_a_backup_made_before_is_restored_after(
    database: Database, revision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_earlier(database, revision, monkeypatch)
    before = fill_as_earlier(database)
    made = backup(database.dsn, tmp_path, keep=None, bin_dirs=[binaries()], progress=lambda _: None)
    with fresh(database.server) as target:
        restore(target.dsn, made.path, bin_dirs=[binaries()], say=lambda _: None)
        migrate(target)
        assert [target.run(query) for query in _QUERIES] == before
        maintain(target, retention={"metrics": None, "rollup_1m": None}, accept={"past": "100d"})
        assert target.value("SELECT count(*) FROM metric_catalogue WHERE first_seen < now() - interval '39 days'") == 4
