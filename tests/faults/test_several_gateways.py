"""Four gateways on one database, any of which may die."""

from __future__ import annotations

from tests.faults.harness import Gateway, load, prove, until
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database


def test_any_of_several_gateways_is_killed_while_they_write_and_maintain(
    hubs_to_start: Hubs, database: Database
) -> None:
    """Each in turn, in the middle of its rounds of maintenance, and the others go on with these."""
    names = ("one", "two", "three", "four")
    often = {"maintenance_interval": "1s", "collect_interval": "1s"}
    gateways = [Gateway(hubs_to_start, database.dsn, name=name, **often).start(wait=False) for name in names]
    for each in gateways:
        each.hub.until_ready()
    with load(*gateways, clients=8, frames=True) as clients:
        clients.until_acknowledged(20)
        for each in gateways:
            each.kill()
            last = turn(database)
            until(lambda last=last: turn(database) != last, "another gateway having the turn")
            clients.until_acknowledged(10)
            each.start(wait=False)
        clients.finish()
    prove("one of four gateways killed, each in turn", clients, *gateways, rounds=len(gateways))


def turn(database: Database) -> str:
    found: str = database.value("SELECT value #>> '{}' FROM store_setting WHERE key = 'turn_maintenance'")
    return found
