"""The database dies, hangs, is locked, is full up, or is not to be written to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import psutil
import psycopg
import pytest
from psycopg import sql

from gateway.embedded import EmbeddedPostgres
from tests.faults.harness import METHOD, ROUNDS, Gateway, load, prove, request, stored, until, until_delivered
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database
from tests.support.waiting import PATIENCE


def test_killed_embedded_postgresql_is_started_again(hubs_to_start: Hubs) -> None:
    gateway, rounds = Gateway(hubs_to_start).start(), 2 * ROUNDS
    with load(gateway) as clients:
        for _ in range(rounds):
            clients.until_acknowledged(5)
            until(lambda: gateway.hub.postgres, "PostgreSQL").kill()
            clients.until_acknowledged(20)
            until_delivered(clients, gateway)
        clients.finish()
    prove("embedded PostgreSQL killed", clients, gateway, rounds=rounds)


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_is_stopped_and_started(hubs_to_start: Hubs, postgres: EmbeddedPostgres, how: str) -> None:
    assert postgres.dsn
    gateway = Gateway(hubs_to_start, postgres.dsn).start()
    with load(gateway) as clients:
        clients.until_acknowledged(5)
        if how == "immediate":
            assert postgres.pid
            psutil.Process(postgres.pid).send_signal(signal.SIGQUIT)
            until(lambda: postgres.pid is None, "the end of PostgreSQL")
        postgres.stop()
        clients.until_acknowledged(20)
        assert gateway.spooled
        postgres.start()
        until_delivered(clients, gateway)
        clients.until_acknowledged(5)
        clients.finish()
    prove(f"PostgreSQL stopped ({how}) and started", clients, gateway)


def test_a_gateway_that_starts_without_its_database_spools(hubs_to_start: Hubs, postgres: EmbeddedPostgres) -> None:
    dsn = postgres.dsn
    postgres.stop()
    gateway = Gateway(hubs_to_start, dsn).start()
    with load(gateway) as clients:
        clients.until_acknowledged(20)
        postgres.start()
        until_delivered(clients, gateway)
        clients.finish()
    prove("PostgreSQL is away when the gateway starts", clients, gateway)


def test_postgresql_hangs_for_longer_than_every_timeout(hubs_to_start: Hubs, postgres: EmbeddedPostgres) -> None:
    gateway = Gateway(hubs_to_start, postgres.dsn).start()
    with load(gateway, timeout=1.5) as clients:
        clients.until_acknowledged(5)
        assert postgres.pid
        server = psutil.Process(postgres.pid)
        frozen = [server, *server.children(recursive=True)]
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            clients.until_acknowledged(20)
            time.sleep(3)
        finally:
            for process in frozen:
                with suppress(psutil.NoSuchProcess):
                    process.resume()
        until_delivered(clients, gateway)
        clients.finish()
    prove("PostgreSQL frozen for longer than every timeout", clients, gateway)


def test_connections_are_terminated_in_the_middle_of_commits(hubs_to_start: Hubs, database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, database.dsn).start(), 60 * ROUNDS
    with load(gateway, records=500, pause=0) as clients:
        clients.until_acknowledged(5)
        with database.connect() as connection:
            for _ in range(rounds):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                time.sleep(0.03)
        clients.until_acknowledged(5)
        clients.finish()
    prove("connections terminated in the middle of commits", clients, gateway, rounds=rounds)


def test_the_server_has_no_connection_left(hubs_to_start: Hubs, postgres: EmbeddedPostgres) -> None:
    gateway = Gateway(hubs_to_start, postgres.dsn).start()
    held: list[psycopg.Connection[Any]] = []
    with load(gateway) as clients:
        clients.until_acknowledged(5)
        admin = psycopg.connect(postgres.dsn, autocommit=True)
        try:
            for _ in range(20):  # take every slot, from under the gateway as well
                with suppress(psycopg.OperationalError):
                    while len(held) < 200:
                        held.append(psycopg.connect(postgres.dsn))
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'obs-hub'"
                )
            assert len(held) > 10
            clients.until_acknowledged(20)
        finally:
            for connection in (*held, admin):
                connection.close()
        until_delivered(clients, gateway)
        clients.finish()
    prove("no connection left on the server", clients, gateway)


@contextmanager
def locked(database: Database, table: str) -> Iterator[None]:
    """Hold a table as a schema change does, for the length of a block."""
    with psycopg.connect(database.dsn) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        yield


@pytest.mark.parametrize("table", ["sample", "receipt"])
def test_a_table_is_locked_for_longer_than_the_timeout(hubs_to_start: Hubs, database: Database, table: str) -> None:
    gateway = Gateway(hubs_to_start, database.dsn).start()
    with load(gateway) as clients:
        clients.until_acknowledged(5)
        with locked(database, table):
            clients.until_acknowledged(20)
            time.sleep(2.5)
            clients.until_acknowledged(20)
        until_delivered(clients, gateway)
        clients.finish()
    prove(f"table {table} locked", clients, gateway)


def test_a_table_is_locked_for_a_moment_again_and_again(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, native_database.dsn).start(), 8 * ROUNDS
    with load(gateway) as clients:
        for _ in range(rounds):
            clients.until_acknowledged(3)
            with locked(native_database, "sample"):
                time.sleep(0.35)  # longer than slow_after, shorter than the timeout: commits end after their clients
        clients.finish()
    prove("table locked for a moment again and again", clients, gateway, rounds=rounds)


def test_the_database_is_read_only_for_a_while(hubs_to_start: Hubs, database: Database) -> None:
    gateway = Gateway(hubs_to_start, database.dsn).start()

    def read_only(value: bool) -> None:
        with psycopg.connect(database.server.dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
                    sql.Identifier(database.name), sql.Literal(value)
                )
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
            )

    with load(gateway) as clients:
        clients.until_acknowledged(5)
        read_only(True)
        clients.until_acknowledged(20)
        until(lambda: gateway.spooled, "something being spooled")
        read_only(False)
        until_delivered(clients, gateway)
        clients.finish()
    prove("read-only database", clients, gateway)
    assert not list(gateway.hub.data_dir.glob("dead-letter/*/*.json")), "read-only for now is not refused for good"


def test_clients_that_send_again_what_was_committed_after_they_gave_up(hubs_to_start: Hubs, database: Database) -> None:
    """The commit outlives the client's patience, without a spool that would answer meanwhile."""
    gateway = Gateway(hubs_to_start, database.dsn, spool={"enabled": False}, timeout="10s").start()
    with load(gateway, timeout=0.3) as clients:
        clients.until_acknowledged(5)
        for _ in range(3 * ROUNDS):
            with locked(database, "sample"):
                time.sleep(0.8)
            clients.until_acknowledged(5)
        clients.finish()
    assert clients.answers["DEADLINE_EXCEEDED"]
    prove("client gave up, the commit did not", clients, gateway, rounds=3 * ROUNDS)


def test_identical_requests_side_by_side_are_stored_once(hubs_to_start: Hubs, database: Database) -> None:
    gateway = Gateway(hubs_to_start, database.dsn, connections=4).start()
    payload = request(range(100, 120))

    def send() -> None:
        with grpc.insecure_channel(gateway.endpoint) as channel:
            for _ in range(5):
                channel.unary_unary(METHOD)(payload, timeout=PATIENCE)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    until(lambda: not gateway.spooled, "the spool being empty")
    assert set(stored(database.dsn).values()) == {1}


def test_two_gateways_on_one_database_start_migrate_and_write_at_once(hubs_to_start: Hubs, database: Database) -> None:
    both = [Gateway(hubs_to_start, database.dsn, name=name).start(wait=False) for name in ("one", "two")]
    with load(*both, clients=6) as clients:
        for each in both:
            each.hub.until_ready()
        clients.until_acknowledged(40)
        both[0].kill()
        clients.until_acknowledged(10)
        both[0].start()
        clients.until_acknowledged(10)
        clients.finish()
    prove("two gateways on one database", clients, *both)


def test_records_far_in_the_past_and_future_are_rejected_and_the_others_stored(
    hubs_to_start: Hubs, database: Database
) -> None:
    gateway = Gateway(hubs_to_start, database.dsn).start()
    now, day = time.time_ns(), 86_400 * 10**9
    moments = {1: now, 2: now - 20 * day, 3: now - 400 * day, 4: now + 2 * day, 5: 1, 6: 2**63 - 1, 7: 2**64 - 1}
    with grpc.insecure_channel(gateway.endpoint) as channel:
        for number, at in moments.items():
            channel.unary_unary(METHOD)(request([number], at=at), timeout=PATIENCE)
        together = b"".join(request([number + 10], "other", at) for number, at in moments.items())
        channel.unary_unary(METHOD)(together, timeout=PATIENCE)
    assert sorted(stored(database.dsn)) == [1, 2, 11, 12]
