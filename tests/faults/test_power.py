"""A machine loses power: what was acknowledged is on its disk."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.component import Signal
from tests.faults.harness import ROUNDS, Gateway, load, prove, until
from tests.integration.cli.processes import Hubs, free_port, has_ended
from tests.support import clusters
from tests.support.databases import Database, Server
from tests.support.power import Disk, disk
from tests.support.scenarios import set_for

TOPOLOGIES = ("one process", "`--workers 2`", "fan-out, one dead", "odd settings")


@pytest.fixture
def hub_disk(hubs_to_start: Hubs) -> Iterator[Disk]:
    """A disk where the data directory of the gateway ``hub`` will be: its spool, and its PostgreSQL."""
    with disk(hubs_to_start.folder / "hub/data", hubs_to_start.folder / "image") as made:
        try:
            yield made
        finally:
            hubs_to_start.end()


def test_what_was_not_synced_is_lost(tmp_path: Path) -> None:
    """The disk itself is tested: it would prove nothing if it kept what nobody had asked it to."""
    with disk(tmp_path / "disk", tmp_path / "image", "64m") as made:
        for name in ("synced", "forgotten"):
            with (made.place / name).open("wb") as file:
                file.write(b"before")
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                file.write(b"after!")
                file.flush()
                if name == "synced":
                    os.fdatasync(file.fileno())
        made.cut()
        with pytest.raises(OSError, match="error"):
            (made.place / "late").write_bytes(b"too late")
        made.restore()
        assert {each.name: each.read_bytes() for each in made.place.iterdir() if each.is_file()} == {
            "synced": b"after!",
            "forgotten": b"before",
        }


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("spooling", [False, True], ids=["storing", "spooling"])
def test_the_machine_loses_power(hubs_to_start: Hubs, hub_disk: Disk, topology: str, spooling: bool) -> None:
    """All that is on it: the gateway, its spool, its dead letters and its PostgreSQL."""
    clusters.place(hub_disk.place / "postgres", waits_for_disk=True)
    hub_disk.sync()
    exporters: dict[str, dict[str, object]] | None = None
    routes = None
    if topology == "fan-out, one dead":
        spool = {"max_size": "1MiB", "when_full": "drop_oldest"}
        exporters = {"otlp/side": {"endpoint": f"http://127.0.0.1:{free_port()}", "spool": spool}}
        routes = {signal.value: ["timescale", "otlp/side"] for signal in Signal}
    options = ("--workers", "2") if topology == "`--workers 2`" else ()
    gateway = Gateway(hubs_to_start, topology=topology, exporters=exporters, routes=routes)
    gateway.start(*options)
    database = database_of(gateway)
    assert database.value("SHOW fsync") == "on"
    if topology == "odd settings":
        set_for(database, "synchronous_commit", "off")
        set_for(database, "timezone", "Asia/Kathmandu")
        gateway.hub.stop()
        gateway.start(*options)
    chance = random.Random()
    with load(gateway, clients=6, idle=0) as clients:
        for _ in range(ROUNDS):
            clients.until_acknowledged(20)
            if spooling:
                database.allow_connections(False)
                until(lambda: gateway.spooled_for("timescale"), "something being spooled")
                clients.until_acknowledged(10)
            time.sleep(chance.uniform(0, 0.5))
            lose_power(gateway, hub_disk)
            gateway.start(*options)
            database = database_of(gateway)
            if spooling:
                database.allow_connections(True)
            clients.until_acknowledged(5)
        clients.finish()
    what = "batches spooled" if spooling else "batches stored"
    prove(
        f"the machine loses power, {what}",
        clients,
        gateway,
        rounds=ROUNDS,
        spool="timescale" if exporters else None,
    )


def database_of(gateway: Gateway) -> Database:
    its = conninfo_to_dict(gateway.hub.dsn)
    return Database(Server("native", make_conninfo(gateway.hub.dsn, dbname="postgres")), str(its["dbname"]))


def lose_power(gateway: Gateway, its_disk: Disk) -> None:
    """End all that runs on a gateway's disk, cut the power of that in the same moment, and give it power again.

    In this order, for a machine without power acknowledges nothing more, and ext4 lets whoever waits for a disk that is
    cut off meanwhile go on as if everything were there: what it discards with its journal, it takes for written.
    """
    postmaster = gateway.hub.postgres
    running = [psutil.Process(gateway.hub.pid), *([postmaster] if postmaster else [])]
    running += [child for each in running for child in each.children(recursive=True)]
    for each in running:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    its_disk.cut()
    gateway.until_dead()
    until(lambda: all(map(has_ended, running)), "the end of all processes")
    its_disk.restore()
