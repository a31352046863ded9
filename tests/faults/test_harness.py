"""A fault test that waits in vain says where everything is, so that what happens once can be explained."""

from __future__ import annotations

from tests.faults.harness import Gateway, load, state_of
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database


def test_what_a_hub_and_its_database_are_at_is_told(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn).start("--workers", "2")
    with load(gateway) as clients:
        clients.until_acknowledged(5)
        with native_database.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE receipt")
            clients.until_acknowledged(5)
            told = state_of(gateway)
        clients.finish()
    assert "LOCK TABLE receipt" in told, "what the server's processes do"
    assert "receipt AccessExclusiveLock" in told, "what they hold"
    for pid in (gateway.hub.pid, *(worker.pid for worker in gateway.hub.workers)):
        assert f"process {pid}:" in told
    assert "commit_queue.py" in told, "where tasks wait"
    assert "concurrent/futures/thread.py" in told, "where threads are"
    assert '"event"' in told, "the log"
