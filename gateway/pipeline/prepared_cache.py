"""What was prepared of batches that went to the spool, for as long as there is room: replay prepares the others anew.

Payloads are read from the spool either way, so none is kept here. The oldest stay, for these are replayed first.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from gateway.component.batch import Batch
from gateway.component.interfaces import Prepared
from gateway.pipeline.attempts import Arrival, arrival

_MOST_BYTES = 32 * 2**20
"""What all of it may take, in each process for each exporter: some 50,000 log records, or 3 million points."""

_EACH = 1_000
"""Bytes that each takes besides."""


class PreparedCache:
    """What one exporter has prepared of the batches in one spool."""

    def __init__(self, most: int = _MOST_BYTES) -> None:
        self.size = 0
        self._most = most
        self._kept: dict[Arrival, tuple[Prepared, int]] = {}

    def keep(self, prepared: Prepared) -> None:
        """Keep what was prepared of a batch that is in the spool now, if there is room."""
        cost = prepared.size + _EACH
        key = arrival(prepared.batch)
        if key in self._kept or self.size + cost > self._most:
            return
        kept = copy.copy(prepared)
        kept.batch = replace(prepared.batch, payload=b"", load=None)
        self._kept[key] = kept, cost
        self.size += cost

    def of(self, batch: Batch) -> Prepared | None:
        """Return what was prepared of a batch that the spool holds, None where that is not known."""
        kept = self._kept.get(arrival(batch))
        if kept is None:
            return None
        prepared = copy.copy(kept[0])
        prepared.batch = batch
        return prepared

    def forget(self, key: Arrival) -> None:
        """Forget a batch that needs no delivery any more."""
        _, cost = self._kept.pop(key, (None, 0))
        self.size -= cost

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.size = 0
