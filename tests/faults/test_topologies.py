"""The same faults in each way in which a hub may run: what holds for one process on a plain server holds for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.component import Signal
from gateway.embedded import EmbeddedPostgres
from tests.faults.harness import ROUNDS, Gateway, Load, load, prove, until, until_delivered
from tests.integration.cli.processes import Hubs, free_port
from tests.support.databases import Database, Server
from tests.support.poolers import bouncing, need_program
from tests.support.scenarios import set_for
from tests.support.wires import Swallowing, Wire, wired

SIDE = "otlp/side"
ODD = {
    "timezone": "Asia/Kathmandu",
    "datestyle": "German, DMY",
    "client_encoding": "LATIN1",
    "synchronous_commit": "off",
    "default_transaction_isolation": "serializable",
    "lock_timeout": "1ms",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "enable_partition_pruning": "off",
}
TOPOLOGIES = ("one process", "`--workers 2`", "two gateways", "fan-out, one dead", "odd settings", "PgBouncer")


@dataclass
class Site:
    """Gateways, the server behind them, and the wire in between."""

    gateways: list[Gateway]
    server: EmbeddedPostgres
    database: Database
    wire: Wire
    options: tuple[str, ...] = ()
    spool: str | None = None
    """The exporter that has to deliver; None for all."""

    def start(self) -> None:
        for each in self.gateways:
            each.start(*self.options, wait=False)
        for each in self.gateways:
            each.hub.until_ready()

    def until_spooled(self) -> None:
        until(lambda: all(each.spooled_for("timescale") for each in self.gateways), "something in each spool")

    def until_delivered(self, clients: Load) -> None:
        until_delivered(clients, *self.gateways, spool=self.spool, dsn=self.database.dsn)


@pytest.fixture(params=TOPOLOGIES)
def site(request: pytest.FixtureRequest, hubs_to_start: Hubs, postgres: EmbeddedPostgres) -> Iterator[Site]:
    with ExitStack() as stack:
        yield stack.enter_context(made(request.param, hubs_to_start, postgres))


@contextmanager
def made(topology: str, hubs: Hubs, postgres: EmbeddedPostgres) -> Iterator[Site]:
    """Make a site, whose gateways are not started yet."""
    its = conninfo_to_dict(postgres.dsn)
    server = Server("native", make_conninfo(postgres.dsn, dbname="postgres"))
    database = Database(server, str(its["dbname"]))
    exporters: dict[str, dict[str, object]] | None = None
    routes = None
    with ExitStack() as stack:
        if topology == "PgBouncer":
            need_program()
            pool = stack.enter_context(bouncing(server, "transaction", server_login_retry=1))
            behind: str | tuple[str, int] = ("127.0.0.1", int(conninfo_to_dict(pool.dsn)["port"]))
        else:
            behind = f"{its['host']}/.s.PGSQL.{its['port']}"
        if topology == "odd settings":
            for name, value in ODD.items():
                set_for(database, name, value)
        if topology == "fan-out, one dead":
            spool = {"max_size": "1MiB", "when_full": "drop_oldest"}
            exporters = {SIDE: {"endpoint": f"http://127.0.0.1:{free_port()}", "spool": spool}}
            routes = {signal.value: ["timescale", SIDE] for signal in Signal}
        wire = stack.enter_context(wired(behind))
        dsn = make_conninfo("", host="127.0.0.1", port=wire.port, user=its["user"], dbname=its["dbname"])
        names = ("one", "two") if topology == "two gateways" else ("hub",)
        gateways = [
            Gateway(
                hubs,
                f"{dsn} connect_timeout=2",
                name=name,
                topology=topology,
                exporters=exporters,
                routes=routes,
                delivery={"shutdown_grace": "5s"},
            )
            for name in names
        ]
        options = ("--workers", "2") if topology == "`--workers 2`" else ()
        yield Site(gateways, postgres, database, wire, options, "timescale" if exporters else None)


def killed(site: Site, clients: Load) -> None:
    """All processes at once, with batches spooled and under way."""
    clients.until_acknowledged(5)
    site.database.allow_connections(False)
    site.until_spooled()
    clients.until_acknowledged(10)
    for each in site.gateways:
        each.kill_all()
    site.start()
    clients.until_acknowledged(5)
    site.database.allow_connections(True)
    site.until_delivered(clients)


def told_to_stop(site: Site, clients: Load) -> None:
    clients.until_acknowledged(20)
    for each in site.gateways:
        assert each.hub.stop() == 0, each.log()
    site.start()
    clients.until_acknowledged(5)


def server_killed(site: Site, clients: Load) -> None:
    clients.until_acknowledged(5)
    assert site.server.pid
    postmaster = psutil.Process(site.server.pid)
    for process in (postmaster, *postmaster.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # its children end with it by themselves
            process.kill()
    until(lambda: site.server.pid is None, "the end of PostgreSQL")
    site.server.stop()
    clients.until_acknowledged(10)
    site.until_spooled()
    site.server.start()
    site.until_delivered(clients)


def connections_ended(site: Site, clients: Load) -> None:
    clients.until_acknowledged(5)
    with psycopg.connect(site.database.server.dsn, autocommit=True) as connection:
        for _ in range(20):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [site.database.name]
            )
            time.sleep(0.03)
    clients.until_acknowledged(5)


def table_locked(site: Site, clients: Load) -> None:
    """For longer than the timeout."""
    clients.until_acknowledged(5)
    with psycopg.connect(site.database.dsn, options="-c lock_timeout=0") as connection:
        connection.execute("LOCK TABLE sample, log, span IN ACCESS EXCLUSIVE MODE")
        site.until_spooled()
        clients.until_acknowledged(10)
        time.sleep(1.5)
    site.until_delivered(clients)


FAULTS: dict[str, Callable[[Site, Load], None]] = {
    "all processes killed, the database away": killed,
    "SIGTERM under full load": told_to_stop,
    "PostgreSQL killed": server_killed,
    "connections ended in the middle of commits": connections_ended,
    "tables locked for longer than the timeout": table_locked,
}


UNDER_FULL_LOAD = ("SIGTERM under full load", "connections ended in the middle of commits")


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_doubled_or_changed(site: Site, fault: str) -> None:
    site.start()
    with load(*site.gateways, clients=6, **({"pause": 0} if fault in UNDER_FULL_LOAD else {})) as clients:
        for _ in range(ROUNDS):
            FAULTS[fault](site, clients)
        clients.finish()
    prove(fault, clients, *site.gateways, rounds=ROUNDS, spool=site.spool, dsn=site.database.dsn)


SWALLOWED: dict[Swallowing, str] = {
    "all": "in both directions",
    "answers": "the answers alone",
    "answers to receipts": "answers from the receipts on",
    "after copying began": "while rows were copied",
}


@pytest.mark.parametrize("what", SWALLOWED)
def test_packets_are_swallowed_between_gateway_and_database(site: Site, what: Swallowing) -> None:
    """Neither side is told: the server waits for what does not come, and holds what it has begun."""
    site.start()
    # A step of the test waits for each that it is about; what more is sent meanwhile only has to be delivered, too.
    with load(*site.gateways, clients=6, pause=0.1) as clients:
        for _ in range(ROUNDS):
            clients.until_acknowledged(5)
            site.wire.swallow(what)
            until(lambda: site.wire.swallowed, "something being swallowed")
            site.until_spooled()
            clients.until_acknowledged(10)
            site.wire.mend()
            site.until_delivered(clients)
        clients.finish()
    fault = f"packets swallowed, {SWALLOWED[what]}"
    prove(fault, clients, *site.gateways, rounds=ROUNDS, spool=site.spool, dsn=site.database.dsn)
