"""Batches that a client sends again are not given to an exporter a second time.

A client repeats a request when it got no answer, and when another exporter of the signal refused it. The memory is that
of one process, bounded in time and in number; what the spool holds is put into it at the start. Destinations with
receipts recognize the rest by themselves.

One that an operator dropped from the spool is forgotten: whoever sends it again has it stored. What a full spool drops
by itself is not: its loss is counted, and clients whose requests another exporter refuses for long would fill it with
the same batches again and again.

A payload of log records without any timestamp is exempt, as it is from receipts: two such may be equal and yet be two.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta

from gateway.component.batch import Batch
from gateway.otlp.counting import has_timestamp

MOST = 50_000
"""Batches that are remembered: some 10 MB in memory. At 100 batches a second that is eight minutes."""

_SECOND = timedelta(seconds=1)


class Deduplicator:
    """Remembers what the exporter has for as long as the window lasts, at most `MOST` of them."""

    def __init__(self, window: timedelta) -> None:
        self._window = window / _SECOND
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[None]] = {}

    def find(self, batch: Batch) -> asyncio.Future[None] | None:
        """Return what comes true when the exporter has an equal batch, or has come true already; None: it is new."""
        under_way = self._under_way.get(batch.digest)
        if under_way is not None:
            return under_way if has_timestamp(batch) else None
        at = self._known.get(batch.digest)
        if at is None or time.monotonic() - at > self._window or not has_timestamp(batch):
            return None
        has_it: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        has_it.set_result(None)
        return has_it

    def begin(self, batch: Batch) -> asyncio.Future[None]:
        """Note that a batch is on its way to the exporter. What is returned is for `succeed` or `fail`."""
        under_way: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.setdefault(batch.digest, under_way)
        return under_way

    def succeed(self, batch: Batch, under_way: asyncio.Future[None]) -> None:
        """Note that the exporter has it."""
        self._end(batch, under_way)
        under_way.set_result(None)
        self.add([batch.digest])

    def fail(self, batch: Batch, under_way: asyncio.Future[None], error: BaseException) -> None:
        """Note that the exporter did not take it. Whoever waited for it hears the same error."""
        self._end(batch, under_way)
        if isinstance(error, asyncio.CancelledError):
            under_way.cancel()
        else:
            under_way.set_exception(error)
            under_way.exception()  # seen here, in case that nobody waits for it

    def add(self, digests: Iterable[bytes]) -> None:
        """Remember batches, the oldest first."""
        now = time.monotonic()
        for digest in digests:
            self._known[digest] = now
            self._known.move_to_end(digest)
        while self._known and (len(self._known) > MOST or now - next(iter(self._known.values())) > self._window):
            self._known.popitem(last=False)

    def forget(self, batch: Batch) -> None:
        """Know a batch no more: the exporter does not have it any longer."""
        self._known.pop(batch.digest, None)

    def _end(self, batch: Batch, under_way: asyncio.Future[None]) -> None:
        if self._under_way.get(batch.digest) is under_way:
            del self._under_way[batch.digest]
