"""A hub with a pipeline is killed at each of its steps, and at random moments: every document is an event once.

Processes of their own share no stand-in, so a server is needed; `tests/integration/pipelines` tries the same steps
without one.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
import yaml

from tests.faults.harness import ROUNDS, until
from tests.integration.cli.processes import Hubs, config_text, free_port
from tests.support import mongo as mongos
from tests.support.databases import Database
from tests.support.mongo import Mongo, document

STEPS = ["pipeline before sending", "pipeline after acknowledgement", "pipeline after marking"]
DOCUMENTS = 60


@pytest.fixture
def mongo() -> Iterator[Mongo]:
    if not os.environ.get(mongos.VARIABLE):
        pytest.skip(f"{mongos.VARIABLE} names no server that speaks MongoDB's protocol")
    with mongos.database(real=True) as database:
        yield database


def configuration(mongo: Mongo, database: Database, batch: int) -> str:
    config = yaml.safe_load(config_text(grpc=free_port(), timescale={"dsn": database.dsn}))
    reading = {
        "mongodb": mongo.settings,
        "batch": {"max_documents": batch},
        "schedule": {"every": "1s", "at_most_every": "100ms"},
    }
    config["extensions"] = {"pipelines": {"pipelines": {"reading": reading}}}
    config["service"]["extensions"] = ["pipelines"]
    return yaml.safe_dump(config)


def events(database: Database) -> Counter[str]:
    with suppress(psycopg.Error), database.connect() as connection:
        query = "SELECT attributes ->> 'log.record.uid', count(*) FROM events WHERE service_name = 'reading' GROUP BY 1"
        return Counter(dict(connection.execute(query).fetchall()))
    return Counter()


def prove(mongo: Mongo, database: Database, ids: list[object]) -> None:
    """Each document is processed, and is in the store as one event."""
    until(lambda: mongo.states() == {"processed": len(ids)}, "every document being processed")
    assert events(database) == Counter({str(each): 1 for each in ids})


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(mongo: Mongo, native_database: Database, hubs_to_start: Hubs, step: str) -> None:
    ids = mongo.write(*map(document, range(DOCUMENTS)))
    hub = hubs_to_start.start(configuration(mongo, native_database, 20), OBSHUB_TEST_CRASH_AT=f"{step}:2")
    until(lambda: hub.process.poll() is not None, "the end of the hub")
    assert hub.process.returncode == -9, hub.stderr
    assert mongo.states()["ingested"] > 0
    hub = hubs_to_start.start(configuration(mongo, native_database, 13)).until_ready()
    prove(mongo, native_database, ids)
    assert hub.stop() == 0, hub.stderr


def test_killed_at_random_moments(mongo: Mongo, native_database: Database, hubs_to_start: Hubs) -> None:
    chance = random.Random(5)
    ids: list[object] = []
    for round_ in range(3 * ROUNDS):
        ids += mongo.write(*map(document, range(DOCUMENTS)))
        before = events(native_database).total()
        hub = hubs_to_start.start(configuration(mongo, native_database, 5 + round_))
        until(lambda before=before: events(native_database).total() > before, "more events")
        time.sleep(chance.uniform(0, 0.4))
        hub.process.kill()
        hub.wait()
    hub = hubs_to_start.start(configuration(mongo, native_database, 17)).until_ready()
    prove(mongo, native_database, ids)
    assert hub.stop() == 0, hub.stderr
