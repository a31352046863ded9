"""The limit: a token bucket for each service, and a memory of what was decided.

A batch that comes again is limited as it was the first time, and takes nothing from the bucket: otherwise a client
whose batch some exporter refused would have the others take another part of it. The memory is that of one process,
bounded in number. An exporter with receipts knows a batch by its digest also after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.component.batch import Batch, Signal
from gateway.component.interfaces import Processed
from gateway.otlp.counting import has_timestamp
from gateway.processors.common.editing import Editor, Verdict, records_of
from gateway.processors.common.messages import RESOURCE
from gateway.processors.common.processor import EditingProcessor, edited
from gateway.processors.common.values import as_text, find
from gateway.processors.limit.config import LimitConfig

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MOST_DECISIONS = 50_000
"""Batches whose decisions are remembered, as many as exporters remember: some 10 MB."""

MOST_SERVICES = 10_000
"""Services that are told apart. The one that was heard of least lately is forgotten, and begins with a full bucket."""

_MAX_NAME = 200


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class Limit(EditingProcessor):
    """Lets so many records a second through of each service."""

    def __init__(
        self, name: str, config: LimitConfig, pipeline: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name)
        self._rate = config.records_per_second
        self._most = config.most_at_once
        self._by = config.by
        self._pipeline = pipeline
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._decisions: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Event] = {}
        self._told: OrderedDict[str, LogRateLimit] = OrderedDict()

    async def process(self, batch: Batch) -> Processed:
        """Limit a batch, or as it was limited before."""
        while (others := self._under_way.get(batch.digest)) is not None:
            await others.wait()
        decided = self._decisions.get(batch.digest)
        if decided is not None and has_timestamp(batch):
            return await edited(batch, _Limiting(batch.signal, self, decided))
        event = self._under_way[batch.digest] = asyncio.Event()
        try:
            editor = _Limiting(batch.signal, self, ())
            processed = await edited(batch, editor)
            self._remember(batch.digest, tuple(editor.decided))
            return processed
        finally:
            del self._under_way[batch.digest]
            event.set()

    def service(self, raw: bytes) -> str:
        """Return which service a resource is, serialized."""
        attributes = RESOURCE.FromString(raw).attributes
        values = (find(attributes, key) for key in self._by)
        return " ".join("" if value is None else as_text(value)[:_MAX_NAME] for value in values)

    def take(self, service: str, records: int) -> int:
        """Return how many of so many records a service may send now."""
        now = self._clock()
        bucket = self._buckets.get(service)
        if bucket is None:
            bucket = self._buckets[service] = _Bucket(self._most, now)
            if len(self._buckets) > MOST_SERVICES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(service)
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        taken = min(records, int(bucket.tokens))
        bucket.tokens -= taken
        if taken < records:
            self._tell(service, records - taken)
        return taken

    def _tell(self, service: str, records: int) -> None:
        rate_limit = self._told.setdefault(service, LogRateLimit())
        self._told.move_to_end(service)
        if len(self._told) > MOST_SERVICES:
            self._told.popitem(last=False)
        if count := rate_limit.count(records):
            _log.warning(
                "records are left out, for a service sends more than its limit",
                processor=self.name,
                pipeline=self._pipeline,
                service=service or "(without a name)",
                records=count,
            )

    def _remember(self, digest: bytes, decided: tuple[int, ...]) -> None:
        self._decisions[digest] = decided
        self._decisions.move_to_end(digest)
        if len(self._decisions) > MOST_DECISIONS:
            self._decisions.popitem(last=False)


class _Limiting(Editor):
    """Keeps the first records of each resource, as many as are allowed: ``decided`` of it, by its place."""

    def __init__(self, signal: Signal, limit: Limit, decided: tuple[int, ...]) -> None:
        self._signal = signal
        self._limit = limit
        self._known = iter(decided)
        self._left = 0
        self.decided: list[int] = []

    def resource(self, resource: Any) -> Verdict:
        records = sum(records_of(scope, self._signal) for scope in resource.scopes)
        allowed = next(self._known, None)
        if allowed is None:
            allowed = self._limit.take(self._limit.service(resource.resource), records)
        self.decided.append(allowed)
        if allowed >= records:
            return Verdict.KEEP
        self._left = allowed
        return Verdict.LOOK if allowed else Verdict.DROP

    def record(self, raw: bytes, message: Any) -> bytes | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return raw
