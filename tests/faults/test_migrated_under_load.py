"""The store becomes newer under gateways that write to it. What a real earlier version does, `upgrade` tries."""

from __future__ import annotations

from pathlib import Path

from tests.faults.harness import Gateway, load, prove
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database
from tests.support.upgrades import migrate_later


def test_a_store_is_migrated_while_gateways_write_and_one_of_them_is_killed(
    hubs_to_start: Hubs, database: Database, tmp_path: Path
) -> None:
    """The one that starts again is of the version before, too: it was rolled back, or not upgraded yet."""
    both = [Gateway(hubs_to_start, database.dsn, name=name).start(wait=False) for name in ("one", "two")]
    with load(*both, clients=6, frames=True) as clients:
        for each in both:
            each.hub.until_ready()
        clients.until_acknowledged(20)
        migrate_later(database, tmp_path)
        clients.until_acknowledged(40)
        both[0].kill()
        both[0].start()
        clients.until_acknowledged(40)
        clients.finish()
    assert database.count("later") == 0, "the table of the later version"
    assert database.count("frame") > 0
    prove("store migrated by a later version under load", clients, *both)
