"""A server with a synchronous standby: what is acknowledged is on both."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from exporters.timescale.exporter import TimescaleExporter
from tests.support.pairs import pair
from tests.support.stores import settings, store
from tests.support.telemetry import gauge
from tests.support.waiting import until

_WAITING = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
"""The processes of the server that wait for the standby. One that was broken off goes on to until it is ended."""


async def test_a_batch_is_known_again_only_once_the_standby_has_it() -> None:
    """Broken off while it waits for the standby, a commit is there on the primary, and nowhere else."""
    with pair(synchronous=True) as (primary, standby):
        exporter = TimescaleExporter("timescale", settings(), primary.dsn)
        await exporter.start()
        assert await store(exporter, gauge(values=[1.0])) == [True]
        batch = gauge(values=[2.0])  # of a series that is known: nothing but the batch is to be written
        standby.suspend()
        waited: set[int] = set()
        try:
            for _ in range(3):
                storing = asyncio.create_task(store(exporter, batch))
                await until(lambda task=storing: task.done() or not waited.issuperset(primary.value(_WAITING)))
                waited.update(primary.value(_WAITING))
                assert not storing.done(), "it was told that the batch is stored"
                storing.cancel()
                with suppress(asyncio.CancelledError):
                    await storing
        finally:
            standby.resume()
        assert primary.value("SELECT count(*) FROM receipt") == 2
        assert await store(exporter, batch) == [False]
        await exporter.stop()
