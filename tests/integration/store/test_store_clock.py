"""Nothing is removed because of its age while the database's clock is in doubt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.store.clock import Clock
from tests.support.databases import Database
from tests.support.stores import maintain, migrate, running_exporter, store
from tests.support.telemetry import DAY, gauge, now

A_DAY = timedelta(days=1)


def believed(database: Database) -> bool:
    """Whether a gateway that starts now believes the clock."""
    with database.connect() as connection:
        return Clock(A_DAY).now(connection) is not None


def receipts(database: Database, *ages: str) -> None:
    """Make it that batches were stored so long ago."""
    for age in ages:
        database.run("INSERT INTO receipt VALUES (gen_random_uuid(), now() - %s::interval)", [age])


@pytest.mark.parametrize(
    ("ages", "trusted"),
    [
        ((), True),
        (("1 minute",), True),
        (("40 hours", "20 hours", "1 minute"), True),
        (("3 days",), False),
        (("100 days", "1 minute"), False),
        (("100 days", "20 hours", "1 minute"), False),
        (("100 days", "25 hours", "5 hours"), True),
        (("-100 days", "1 minute"), True),
        (("-100 days", "-3 days"), True),
    ],
)
def test_a_gap_between_receipts_is_doubted_until_a_day_has_passed_without(
    native_database: Database, ages: tuple[str, ...], trusted: bool
) -> None:
    migrate(native_database)
    receipts(native_database, *ages)
    assert believed(native_database) is trusted


async def test_in_doubt_receipts_and_partitions_stay(native_database: Database) -> None:
    # The exporter's own maintenance, which begins before there is anything to doubt, drops nothing, and ends with it.
    async with running_exporter(native_database, accept={"past": "60d"}, retention={"metrics": None}) as exporter:
        await store(exporter, gauge(at=now() - 40 * DAY))
    native_database.run("UPDATE receipt SET received_at = received_at - interval '40 days'")
    maintain(native_database)
    assert native_database.count("receipt") == 1
    assert native_database.count("sample") == 1
    receipts(native_database, "30 hours", "10 hours")
    maintain(native_database)
    assert native_database.count("receipt") == 1
    assert native_database.count("sample") == 0


async def test_a_rollup_whose_partition_was_dropped_meanwhile_gets_it_again(native_database: Database) -> None:
    """Data older than its rollup is kept come again and again; maintenance goes on."""
    kept = {"retention": {"rollup_1m": "3d"}, "accept": {"past": "20d"}}
    async with running_exporter(native_database, maintenance_interval="1s", **kept) as exporter:
        for round_ in range(3):
            await store(exporter, gauge([round_], at=now() - 10 * DAY))
            await native_database.until("SELECT NOT EXISTS (SELECT FROM rollup_pending)")
            await native_database.until("SELECT NOT EXISTS (SELECT FROM sample_1m)")
