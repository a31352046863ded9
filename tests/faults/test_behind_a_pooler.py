"""Gateways of one and of several processes behind PgBouncer, whose few sessions they share and somebody ends."""

from __future__ import annotations

from psycopg.conninfo import make_conninfo

from tests.faults.harness import Gateway, load, prove, stored
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database, Server
from tests.support.poolers import bouncing, need_program
from tests.support.scenarios import set_for


def test_sessions_are_ended_and_gateways_killed_behind_a_pooler(
    hubs_to_start: Hubs, embedded_server: Server, native_database: Database
) -> None:
    need_program()
    with bouncing(embedded_server, "transaction", default_pool_size=3) as server:
        dsn = make_conninfo(server.dsn, dbname=native_database.name)
        several = Gateway(hubs_to_start, dsn, name="several").start("--workers", "2")
        one = Gateway(hubs_to_start, dsn, name="one").start()
        with load(several, one) as clients:
            clients.until_acknowledged(10)
            set_for(native_database, "timezone", "Asia/Kathmandu")
            set_for(native_database, "datestyle", "German")
            native_database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            clients.until_acknowledged(20)
            for gateway in (several, one):
                gateway.kill()
            several.start("--workers", "2")
            one.start()
            clients.until_acknowledged(10)
            clients.finish()
        prove(
            "gateways killed and sessions ended behind PgBouncer",
            clients,
            several,
            one,
            read=lambda: stored(native_database.dsn),
        )
