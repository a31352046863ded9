"""The spool of one exporter as a layer of its delivery.

A batch that cannot be committed soon is written to disk, and that is its OK. As long as the spool holds anything, new
batches go behind it, and what it holds is replayed in order (`gateway.pipeline.replay`).

Each process has a spool of its own. What a worker left that is no more is replayed by another, where it lies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings
from gateway.component.batch import Batch
from gateway.component.errors import DeliveryError
from gateway.component.interfaces import Exporter, Prepared
from gateway.pipeline.attempts import Attempts
from gateway.pipeline.commit_queue import Pending
from gateway.pipeline.deduplicator import Deduplicator
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.orphaned_spools import OrphanedSpools
from gateway.pipeline.refusals import Refusals
from gateway.pipeline.replay import Replay
from gateway.pipeline.spool import Spool

_POLL_SECONDS = 1.0
"""How often a process looks whether a spool that another held is free by now."""


class SpoolSender:
    """Writes batches to a spool, and has it replayed. ``orphans`` returns the directories that former workers left."""

    def __init__(
        self,
        spool: Spool,
        exporter: Exporter,
        attempts: Attempts,
        circuit: Circuit,
        refusals: Refusals,
        settings: ExporterSettings,
        deduplicator: Deduplicator,
        instruments: Instruments,
        orphans: Callable[[], Iterable[Path]],
    ) -> None:
        self.spool = spool
        self._exporter = exporter
        self._attempts = attempts
        self._circuit = circuit
        self._refusals = refusals
        self._settings = settings
        self._deduplicator = deduplicator
        self._instruments = instruments
        self._replay = self._replay_of(spool)
        self._orphans = OrphanedSpools(orphans, settings.spool, self._replay_orphan)

    @property
    def spools(self) -> list[Spool]:
        """That of this process, and those of former workers that it empties at the moment."""
        return [self.spool, *self._orphans.spools]

    @property
    def damaged(self) -> int:
        """At how many places something was lost, since the start."""
        return self.spool.damaged + self._orphans.damaged

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the spool, unless another process still holds it, and know what is in it."""
        await self.spool.open()
        self._deduplicator.add(await self.spool.digests())

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to replay what an earlier run left. Returns the tasks, which are to be cancelled before `stop`."""
        self._replay.wake()
        return [asyncio.create_task(self._replay.run()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """Replay nothing more, also of what former workers left. Batches can still be written."""
        await self._orphans.close()

    async def close(self) -> None:
        """Close the spool."""
        await self.spool.close()

    async def _watch(self) -> None:
        """Open the spool once its former owner is gone, and take over what former workers left."""
        known = self.spool.is_open
        while True:
            await self.spool.open()
            if self.spool.is_open and not known:
                known = True
                self._deduplicator.add(await self.spool.digests())
            if not self.spool.empty:
                self._replay.wake()
            await self._orphans.adopt()
            await asyncio.sleep(_POLL_SECONDS)

    async def _replay_orphan(self, spool: Spool) -> None:
        self._deduplicator.add(await spool.digests())
        await self._replay_of(spool).until_empty()

    def _replay_of(self, spool: Spool) -> Replay:
        return Replay(
            spool,
            self._exporter,
            self._attempts,
            self._circuit,
            self._refusals,
            self._settings,
            self._deduplicator.forget,
        )

    # -- what is replayed ----------------------------------------------------------------------------------------

    def settle(self, batch: Batch) -> None:
        """Note that a batch in the spool needs no delivery any more."""
        self._replay.settle(batch)

    def hold_replay(self) -> None:
        """Replay nothing until `release_replay`."""
        self._replay.hold()

    def release_replay(self) -> None:
        """Let go of one `hold_replay`."""
        self._replay.release()

    async def catch_up(self, seconds: float) -> None:
        """Wait until the spool has been replayed, at most so long.

        The disk takes batches quicker than the destination. Without this wait a busy gateway whose destination answers
        again would spool for ever; with it, replay catches up and clients feel how fast that is.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._replay.drained.wait(), seconds)

    # -- what is written -----------------------------------------------------------------------------------------

    async def keep(self, prepared: Prepared) -> None:
        """Write a batch to the spool. Raises `DeliveryError` when it does not take it."""
        self._replay.drained.clear()
        await self.spool.append(prepared.batch)
        self._replay.keep(prepared)
        attributes = {"signal": prepared.batch.signal.value, "exporter": self._exporter.name}
        self._instruments.spooled.add(prepared.records, attributes)

    async def keep_all(self, batches: Sequence[Pending]) -> None:
        """Spool batches and answer for each. They share one write."""

        async def one(pending: Pending) -> None:
            try:
                await self.keep(pending.prepared)
            except DeliveryError as error:
                pending.fail(error)
            else:
                pending.succeed()

        await asyncio.gather(*map(one, batches))

    async def keep_under_way(self, batches: Sequence[Pending]) -> None:
        """Spool the batches of the attempt under way and answer for each; one that cannot be spooled waits on.

        When the attempt succeeds after all, they are settled there and not delivered again.
        """

        async def one(pending: Pending) -> None:
            if pending.settled:
                return
            pending.spooled = True
            try:
                await self.keep(pending.prepared)
            except DeliveryError:
                pending.spooled = False
                self._replay.unsettle(pending.prepared.batch)
            else:
                pending.succeed()

        await asyncio.gather(*map(one, batches))
