"""A label with unbounded values fills one series, not the store."""

from __future__ import annotations

from exporters.timescale import limits
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, Outcome
from gateway.store.collection import collect_dimensions
from tests.support.databases import Database
from tests.support.logged import Logged
from tests.support.stores import running_exporter, store
from tests.support.telemetry import gauge

OVERFLOWN = "SELECT count(*) FROM metrics WHERE attributes = '{\"otel.metric.overflow\": true}'"


def point(user: int, name: str = "logins") -> Batch:
    return gauge([float(user)], name=name, attributes={"user.id": str(user)})


async def send(exporter: TimescaleExporter, *batches: Batch) -> list[Outcome]:
    prepared = [await exporter.prepare(batch) for batch in batches]
    await exporter.commit(prepared)
    return [each.outcome for each in prepared]


async def test_beyond_the_limit_of_its_metric_a_point_goes_to_the_overflow_series(database: Database) -> None:
    async with running_exporter(database, series_limit=10) as exporter:
        outcomes = await send(exporter, *(point(user) for user in range(25)), point(0, "logouts"))
        assert exporter.gauges()["obs_hub.series.turned_away"] == 15
    assert {outcome.rejected for outcome in outcomes} == {0}, "a point beyond the limit is kept, not rejected"
    assert database.value("SELECT count(DISTINCT series_id) FROM metrics WHERE name = 'logins'") == 11
    assert database.value(OVERFLOWN) == 15
    assert database.value("SELECT count(*) FROM metrics WHERE name = 'logouts' AND attributes ->> 'user.id' = '0'") == 1


async def test_beyond_the_limit_in_all_every_metric_overflows(database: Database) -> None:
    async with running_exporter(database, series_limit_total=3) as exporter:
        await send(exporter, *(point(user, f"metric {user}") for user in range(5)))
    assert database.value(OVERFLOWN) == 2


async def test_series_that_the_store_has_stay_theirs_after_a_restart(database: Database) -> None:
    for _ in range(2):
        async with running_exporter(database, series_limit=10) as exporter:
            await send(exporter, *(point(user) for user in range(10)))
            assert exporter.gauges()["obs_hub.series.count"] == 10
    assert database.value(OVERFLOWN) == 0
    async with running_exporter(database, series_limit=10) as exporter:
        await send(exporter, point(10))
    assert database.value(OVERFLOWN) == 1


async def test_what_another_gateway_stored_counts_once_maintenance_has_looked(database: Database) -> None:
    async with (
        running_exporter(database, series_limit=10) as one,
        running_exporter(database, series_limit=10, maintenance_interval="1s") as other,
    ):
        await store(one, *(point(user) for user in range(10)))
        while other.gauges()["obs_hub.series.count"] < 10:
            await database.until("SELECT true")
        await store(other, point(3), point(99))
    assert database.value(OVERFLOWN) == 1
    assert database.value("SELECT count(*) FROM metrics WHERE attributes ->> 'user.id' = '3'") == 2


async def test_room_is_made_when_unused_series_are_removed(database: Database) -> None:
    async with running_exporter(database, series_limit=10) as exporter:
        await send(exporter, *(point(user) for user in range(10)))
    database.run("DELETE FROM sample")
    with database.connect() as connection:
        assert collect_dimensions(connection)["series"] == 10
    async with running_exporter(database, series_limit=10) as exporter:
        await send(exporter, *(point(user) for user in range(10, 20)))
    assert database.value(OVERFLOWN) == 0


async def test_the_limit_is_said_once_a_metric(database: Database, logged: Logged) -> None:
    async with running_exporter(database, series_limit=1) as exporter:
        await send(exporter, *(point(user) for user in range(5)))
    (warning,) = logged.of("too many series")
    assert (warning["metric"], warning["series_limit"]) == ("logins", 1)


async def test_series_that_the_store_has_are_not_declared_again_after_a_restart(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await send(exporter, *(point(user) for user in range(10)))
    async with running_exporter(database) as exporter:
        await exporter.prepare(point(3))
        assert "series" not in exporter._dimensions.pending()
        await send(exporter, point(3), point(10))
    assert database.value("SELECT count(*) FROM series") == 11
    with database.connect() as connection:
        collect_dimensions(connection)
    async with running_exporter(database) as exporter:
        await exporter.prepare(point(3))
        assert len(exporter._dimensions.pending()["series"]) == 1, "an epoch later it might be removed"


async def test_of_what_another_gateway_adds_no_more_is_read_than_what_is_near(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await send(exporter, *(point(user) for user in range(300)))
    with database.connect() as connection:
        known = limits.read(connection)
        assert len(known.series) == 300
        async with running_exporter(database) as exporter:
            await send(exporter, point(999))
        database.run("DELETE FROM series WHERE id = (SELECT max(id) FROM series)")
        changed = limits._changed(connection, known)
        assert 1 <= len(changed) <= 2
        again = limits.read(connection, known)
    whole = database.run("SELECT id, metric_id FROM series ORDER BY id")
    assert list(zip(again.series.tolist(), again.metrics.tolist(), strict=True)) == whole
    assert again.is_declared.all()
    assert again.counts.total() == 300
