"""Upgrade from an earlier version for real: ``python -m tests.faults.upgrade REVISION``.

Checks a revision of the repository out, starts two of its gateways on one store, and starts one of the present version
beside them, which migrates the store under load. Then one of the earlier gateways is stopped and one is killed, and the
present version takes their data directories. Every record is asked for, and whether rollups have all of them.

It takes some three minutes, for two have to end while both versions write. With ``OBSHUB_TEST_TIMESCALE_DSN`` in the
environment the store is one with TimescaleDB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.embedded import EmbeddedPostgres
from tests.conftest import TIMESCALE_VARIABLE
from tests.faults.harness import Gateway, load, prove, until, until_delivered
from tests.integration.cli.processes import ROOT, HubProcess, Hubs
from tests.support.databases import Database, Server, fresh

_INCOMPLETE = """
SELECT minute, points, rolled FROM
    (SELECT date_trunc('minute', time) AS minute, count(*) AS points FROM number_point GROUP BY 1) AS stored
    LEFT JOIN (SELECT time AS minute, sum(count) AS rolled FROM rollup_1m GROUP BY 1) AS rollups USING (minute)
WHERE minute < date_trunc('minute', now()) AND rolled IS DISTINCT FROM points
ORDER BY 1
"""
_DUE = "SELECT count(*) FROM rollup_pending WHERE minute < date_trunc('minute', now())"


class Versions(Hubs):
    """Starts hubs from the checkout that ``version`` is."""

    version = ROOT

    def start(
        self,
        config: str | None,
        *options: str,
        name: str = "hub",
        command: str = "serve",
        first: bool = False,
        **variables: str,
    ) -> HubProcess:
        hub = HubProcess(self.folder / name, config, *options, command=command, cwd=self.version, **variables)
        self._started.append(hub)
        return hub


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """The files of a revision, for the length of a block."""
    where = folder / "earlier"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", where, revision], cwd=ROOT, check=True)
    try:
        yield where
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", where], cwd=ROOT, check=True)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    if dsn := os.environ.get(TIMESCALE_VARIABLE):
        yield Server("timescale", dsn)
        return
    with EmbeddedPostgres(folder / "postgres") as postgres:
        yield Server("native", postgres.dsn)


def rehearse(database: Database, hubs: Versions, earlier: Path) -> None:
    """Upgrade under load, and ask for what was sent."""
    often = {"maintenance_interval": "1s", "collect_interval": "5s"}
    hubs.version = earlier
    old = [Gateway(hubs, database.dsn, name=name, **often).start(wait=False) for name in ("one", "two")]
    for each in old:
        each.hub.until_ready()
    before = database.value("SELECT version_num FROM schema_version")
    new = Gateway(hubs, database.dsn, name="three", **often)
    with load(*old, clients=6, frames=True, pause=0.05) as of_old:
        of_old.until_acknowledged(60)
        hubs.version = ROOT
        new.start()
        print(f"the store was at {before}, and is at {database.value('SELECT version_num FROM schema_version')}")
        with load(new, clients=3, frames=True, pause=0.05) as of_new:
            for _ in range(2):
                time.sleep(62 - time.time() % 60)
            of_new.until_acknowledged(20)
            of_old.until_acknowledged(20)
            until_delivered(of_old, *old)
            of_new.finish()
        old[0].hub.stop()
        old[0].start()
        old[1].kill()
        old[1].start()
        of_old.until_acknowledged(50)
        of_old.finish()
    prove(f"upgrade from {earlier.name}: clients of the earlier gateways", of_old, *old)
    prove("upgrade: clients of the new one", of_new, new)
    time.sleep(62 - time.time() % 60)
    until(lambda: not database.value(_DUE), "all that has ended being rolled up")
    incomplete = database.run(_INCOMPLETE)
    assert not incomplete, f"rollups lack points: {incomplete}"
    total = len(set(of_old.acknowledged)) + len(set(of_new.acknowledged))
    print(f"{total:,} records acknowledged, each stored once, and all points rolled up; answers: {of_old.answers}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="obs-hub-upgrade-") as place:
        Path(place).chmod(0o711)
        with checkout(sys.argv[1], Path(place)) as files, server(Path(place)) as on, fresh(on) as store:
            hubs = Versions(Path(place))
            try:
                rehearse(store, hubs, files)
            finally:
                hubs.end()
