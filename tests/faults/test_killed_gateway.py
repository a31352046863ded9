"""The gateway is killed: at random moments, and at each step of a batch's way."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.faults.harness import ROUNDS, Gateway, load, prove, until_delivered
from tests.integration.cli.processes import PATIENCE, Hubs
from tests.support.databases import Database

DIRECT = ["after receive", "after commit", "before acknowledge"]
SPOOLING = ["before spool write", "after spool write", "after spool fsync"]
REPLAYING = ["after replay commit", "before spool truncate"]


def test_kill_at_random_moments(hubs_to_start: Hubs) -> None:
    gateway, rounds = Gateway(hubs_to_start), 5 * ROUNDS
    chance = random.Random(rounds)
    with load(gateway, idle=0) as clients:
        for _ in range(rounds):
            gateway.start()
            clients.until_acknowledged(5)
            time.sleep(chance.uniform(0, 0.7))
            gateway.kill()
        gateway.start()
        clients.until_acknowledged(5)
        clients.stop()
    prove("gateway killed at random moments", clients, gateway, rounds=rounds)


def test_kill_at_random_moments_while_the_database_comes_and_goes(hubs_to_start: Hubs, database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, database.dsn), 3 * ROUNDS
    chance = random.Random(rounds)
    gateway.start()
    with load(gateway, idle=0) as clients:
        for _ in range(rounds):
            clients.until_acknowledged(5)
            database.allow_connections(False)
            clients.until_acknowledged(20)
            time.sleep(chance.uniform(0, 0.3))
            gateway.kill()
            gateway.start()
            clients.until_acknowledged(20)
            database.allow_connections(True)
            time.sleep(chance.uniform(0, 0.5))
            gateway.kill()
            gateway.start()
        clients.finish()
    prove("gateway killed while the database comes and goes", clients, gateway, rounds=2 * rounds)


@pytest.mark.parametrize("step", DIRECT + SPOOLING + REPLAYING)
def test_kill_at_each_step(hubs_to_start: Hubs, native_database: Database, step: str) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn, spool={"segment_size": "64KiB"})
    count = 15 if step in DIRECT else 2
    gateway.start(OBSHUB_TEST_CRASH_AT=f"{step}:{count}")
    with load(gateway) as clients:
        clients.until_acknowledged(10, unless=lambda: gateway.dead)
        native_database.allow_connections(False)
        if step not in DIRECT:
            clients.until_acknowledged(20, unless=lambda: gateway.dead)
        native_database.allow_connections(True)
        gateway.until_dead()
        assert gateway.hub.process.returncode == -signal.SIGKILL
        gateway.start()
        clients.until_acknowledged(5)
        clients.finish()
    prove(f"gateway killed {step}", clients, gateway)


def test_sigterm_under_full_load_ends_cleanly_and_in_time(hubs_to_start: Hubs, database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, database.dsn, delivery={"shutdown_grace": "5s"}), 2 * ROUNDS
    with load(gateway, clients=8, pause=0) as clients:
        for _ in range(rounds):
            gateway.start()
            clients.until_acknowledged(30)
            gateway.hub.signal(signal.SIGTERM)
            assert gateway.hub.process.wait(PATIENCE) == 0, gateway.log()
        gateway.start()
        clients.finish()
    prove("SIGTERM under full load", clients, gateway, rounds=rounds)


def test_sigterm_while_the_database_is_away_keeps_what_is_spooled(hubs_to_start: Hubs, database: Database) -> None:
    gateway = Gateway(hubs_to_start, database.dsn, delivery={"shutdown_grace": "5s"}).start()
    with load(gateway) as clients:
        clients.until_acknowledged(5)
        database.allow_connections(False)
        clients.until_acknowledged(20)
        assert gateway.hub.stop() == 0, gateway.log()
        assert gateway.spooled
        database.allow_connections(True)
        gateway.start()
        clients.until_acknowledged(5)
        clients.stop()
    prove("SIGTERM while the database is away", clients, gateway)


def test_the_spools_of_workers_that_are_no_more_are_delivered(hubs_to_start: Hubs, database: Database) -> None:
    gateway = Gateway(hubs_to_start, database.dsn).start("--workers", "2")
    with load(gateway, clients=8) as clients:
        clients.until_acknowledged(10)
        database.allow_connections(False)
        clients.until_acknowledged(40)
        assert gateway.hub.stop() == 0, gateway.log()
        database.allow_connections(True)
        gateway.start()
        until_delivered(clients, gateway)
        clients.stop()
    prove("fewer workers than before", clients, gateway)
