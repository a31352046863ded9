"""Two generations of a hub on one data directory: the first is killed, and the next starts at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from gateway.embedded import EmbeddedPostgres
from tests.faults.harness import ROUNDS, Gateway, load, prove, until, until_delivered
from tests.integration.cli.processes import Hubs, has_ended
from tests.support.databases import Database


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """Let a server do nothing for the length of a block, as a disk that hangs does."""
    assert server.pid
    postmaster = psutil.Process(server.pid)
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def test_the_first_process_is_killed_and_the_next_hub_starts_at_once(
    hubs_to_start: Hubs, postgres: EmbeddedPostgres
) -> None:
    """Its workers may neither go on taking what nobody will look for, nor keep the next ones from their spools.

    They are killed with requests in flight, which wait for the database for longer than the next hub needs to start.
    """
    dsn = f"{postgres.dsn}&connect_timeout=2"  # which a start waits for
    gateway = Gateway(hubs_to_start, dsn, timeout="25s", delivery={"shutdown_grace": "60s"})
    rounds = ROUNDS
    gateway.start("--workers", "2")
    with load(gateway, clients=16, timeout=60) as clients:
        for _ in range(rounds):
            clients.until_acknowledged(30)
            with frozen(postgres):
                until(lambda: gateway.spooled, "something being spooled")
                orphans = gateway.hub.workers
                assert len(orphans) == 2
                gateway.kill()
                gateway.start("--workers", "2")
                clients.until_acknowledged(10)
                until(lambda gone=orphans: all(map(has_ended, gone)), "the end of the former workers")
            until_delivered(clients, gateway)
        clients.finish()
    prove("the first of three processes killed, the next hub at once", clients, gateway, rounds=rounds)


def test_workers_are_killed_while_the_database_comes_and_goes(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, native_database.dsn).start("--workers", "2"), 2 * ROUNDS
    with load(gateway, clients=8) as clients:
        for number in range(rounds):
            clients.until_acknowledged(5)
            native_database.allow_connections(False)
            until(lambda: gateway.spooled, "something being spooled")
            gateway.hub.workers[number % 2].kill()
            clients.until_acknowledged(20)
            native_database.allow_connections(True)
            until(lambda: len(gateway.hub.workers) == 2, "another worker")
        clients.finish()
    prove("workers killed while the database comes and goes", clients, gateway, rounds=rounds)


def test_all_processes_are_killed_at_once_and_fewer_start(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, native_database.dsn), ROUNDS
    with load(gateway, clients=8) as clients:
        for _ in range(rounds):
            gateway.start("--workers", "2")
            clients.until_acknowledged(10)
            native_database.allow_connections(False)
            until(lambda: gateway.spooled, "something being spooled")
            clients.until_acknowledged(20)
            os.killpg(gateway.hub.pid, signal.SIGKILL)
            gateway.until_dead()
            gateway.start()
            clients.until_acknowledged(5)
            native_database.allow_connections(True)
            until_delivered(clients, gateway)
            assert gateway.hub.stop() == 0, gateway.log()
        gateway.start("--workers", "2")
        clients.finish()
    prove("all of three processes killed, a hub of one process at once", clients, gateway, rounds=rounds)


def test_several_workers_are_told_to_stop_under_full_load(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway, rounds = Gateway(hubs_to_start, native_database.dsn, delivery={"shutdown_grace": "5s"}), ROUNDS
    with load(gateway, clients=8, pause=0) as clients:
        for _ in range(rounds):
            gateway.start("--workers", "2")
            clients.until_acknowledged(30)
            assert gateway.hub.stop() == 0, gateway.log()
        gateway.start("--workers", "2")
        clients.finish()
    prove("SIGTERM to a hub of three processes under full load", clients, gateway, rounds=rounds)
