"""A PostgreSQL pair: the primary dies under load, and its standby takes over."""

from __future__ import annotations

from tests.faults.harness import Gateway, load, prove, until, until_delivered
from tests.integration.cli.processes import Hubs
from tests.support.pairs import either, pair


def test_the_primary_dies_and_its_synchronous_standby_takes_over(hubs_to_start: Hubs) -> None:
    with pair(synchronous=True) as (primary, standby):
        gateway = Gateway(hubs_to_start, either(primary, standby)).start()
        with load(gateway, clients=6, frames=True) as clients:
            clients.until_acknowledged(40)
            primary.kill()
            clients.until_acknowledged(20)
            standby.promote()
            until_delivered(clients, gateway)
            clients.until_acknowledged(10)
            clients.finish()
        prove("PostgreSQL fails over to a synchronous standby", clients, gateway)


def test_a_synchronous_standby_is_away_for_longer_than_a_commit_may_take(hubs_to_start: Hubs) -> None:
    with pair(synchronous=True) as (primary, standby):
        gateway = Gateway(hubs_to_start, either(primary, standby)).start()
        with load(gateway, clients=6, frames=True) as clients:
            clients.until_acknowledged(20)
            standby.suspend()
            until(lambda: gateway.spooled, "something being spooled")
            clients.until_acknowledged(40)
            clients.stop()
            primary.kill()
            standby.resume()
            standby.promote()
        prove("PostgreSQL fails over after its standby was away", clients, gateway)
