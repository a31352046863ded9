"""Several gateways on one store: one of them does what is to be done once, and none is bothered by what others meet."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest

from exporters.timescale import limits
from gateway.store import maintenance
from gateway.store.connections import Connections
from gateway.store.maintenance import Maintenance
from gateway.store.turns import Turn, take
from tests.support.databases import Database
from tests.support.stores import migrate, running_exporter, settings, store
from tests.support.telemetry import gauge

MINUTE = timedelta(minutes=1)
JOBS = ("make_partitions", "roll_up", "apply_retention", "remove_receipts", "remove_identities")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count how often each job of maintenance is done, by whatever gateway of this process."""
    done: Counter[str] = Counter()
    lock = threading.Lock()
    with monkeypatch.context() as patched:
        for owner, name in [*((Maintenance, job) for job in JOBS), (maintenance, "collect_dimensions")]:
            original = getattr(owner, name)

            def job(*arguments: object, original: object = original, name: str = name) -> object:
                with lock:
                    done[name] += 1
                assert callable(original)
                return original(*arguments)

            patched.setattr(owner, name, job)
        yield done


def test_one_of_several_gateways_does_each_job(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    present = migrate(database)
    often = settings(maintenance_interval="1m", collect_interval="1d")
    for turn, age in ((Turn.MAINTENANCE, "2 minutes"), (Turn.COLLECTION, "2 days")):
        database.run("INSERT INTO store_setting VALUES (%s, to_jsonb(now() - %s::interval))", [turn.value, age])
    gateways = [Maintenance(often, present) for _ in range(4)]

    def one_round(gateway: Maintenance) -> bool:
        with Connections(database.dsn).open() as connection:
            return gateway.run(connection)

    with counted(monkeypatch) as done, ThreadPoolExecutor(len(gateways)) as threads:
        rounds = [list(threads.map(one_round, gateways)) for _ in range(3)]
    assert sorted(rounds[0]) == [False, False, False, True]
    assert not any(any(each) for each in rounds[1:]), "within the interval nobody has a turn"
    expected = {"roll_up", "remove_receipts", "remove_identities", "collect_dimensions"}
    expected |= {"make_partitions", "apply_retention"} if present.native else set()
    assert done == dict.fromkeys(expected, 1)


def test_the_turn_of_a_gateway_that_ended_goes_to_another(database: Database) -> None:
    """It was killed in the middle, or its clock was set forward while it had the turn: neither keeps others from it."""
    migrate(database)
    with database.connect() as connection:
        assert take(connection, Turn.MAINTENANCE, MINUTE)
        assert not take(connection, Turn.MAINTENANCE, MINUTE)
        for moment in ("now() - interval '61 s'", "now() + interval '1 day'"):
            database.run(
                f"UPDATE store_setting SET value = to_jsonb({moment}) WHERE key = %s", [Turn.MAINTENANCE.value]
            )
            assert take(connection, Turn.MAINTENANCE, MINUTE)


def test_nothing_is_collected_before_a_store_is_old_enough(database: Database) -> None:
    migrate(database)
    with database.connect() as connection:
        assert not take(connection, Turn.COLLECTION, MINUTE, at_first=False)
        assert not take(connection, Turn.COLLECTION, MINUTE, at_first=False)
        database.run(
            "UPDATE store_setting SET value = to_jsonb(now() - interval '61 s') WHERE key = %s", [Turn.COLLECTION.value]
        )
        assert take(connection, Turn.COLLECTION, MINUTE, at_first=False)


async def test_a_new_series_in_one_gateway_does_not_make_another_reload(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the part of the index of series that has changed, a four-thousandth, and goes on with what it knows."""
    read: list[int] = []
    original = limits._read

    def counting(*arguments: object) -> object:
        found = original(*arguments)  # type: ignore[arg-type]
        read.append(len(found[0]))
        return found

    many = [gauge(name="many", attributes={"number": str(number)}) for number in range(300)]
    async with running_exporter(database) as one:
        await store(one, *many)
    async with running_exporter(database) as one, running_exporter(database, maintenance_interval="1s") as other:
        await store(other, many[0])
        generation = other._dimensions.generation
        monkeypatch.setattr(limits, "_read", counting)
        await store(one, gauge(name="new"))
        while other.gauges()["obs_hub.series.count"] < 301:
            await database.until("SELECT true")
        monkeypatch.undo()
        assert other._dimensions.generation == generation, "it forgot what it knew"
    assert sum(read) < 10, read
