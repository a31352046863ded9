"""Content-addressed dimensions: resources, scopes, metrics and series, known by a hash of what they say.

The key of a dimension is the first 8 bytes, as a signed big-endian integer, of the BLAKE2b hash of its canonical form,
a JSON array. Every writer on every machine computes the same key, so a batch is encoded without asking the database,
and the dimensions that are new to this process are declared with the batch: inserted unless they are there.

A dimension stays *pending*, and every commit inserts it, until one that did so has succeeded: no stored fact can refer
to a dimension that is not there.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2

from exporters.timescale import wire
from exporters.timescale.limits import OVERFLOW, SeriesLimits
from exporters.timescale.series_index import SeriesIndex, salt
from exporters.timescale.templates import Templates
from exporters.timescale.values import Fragments, string_json, without_nul
from gateway.otlp.bounds import check_parts

TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "resource": (
        ("id", "bigint"),
        ("attributes", "jsonb"),
        ("dropped_attributes_count", "bigint"),
        ("entity_refs", "jsonb"),
        ("schema_url", "text"),
    ),
    "scope": (
        ("id", "bigint"),
        ("name", "text"),
        ("version", "text"),
        ("attributes", "jsonb"),
        ("dropped_attributes_count", "bigint"),
        ("schema_url", "text"),
    ),
    "metric": (
        ("id", "bigint"),
        ("name", "text"),
        ("type", "text"),
        ("unit", "text"),
        ("description", "text"),
        ("temporality", "integer"),
        ("is_monotonic", "boolean"),
        ("metadata", "jsonb"),
    ),
    "series": (
        ("id", "bigint"),
        ("metric_id", "bigint"),
        ("resource_id", "bigint"),
        ("scope_id", "bigint"),
        ("attributes", "jsonb"),
    ),
    "bounds": (
        ("id", "bigint"),
        ("bounds", "double precision[]"),
    ),
}
"""The dimension tables: for each its columns with their types, the key first. The order is the order of insertion."""

SETS = "series_set"
"""The table of sets (`exporters.timescale.sets`): their keys and their members. It comes after `TABLES`."""

SEEN = "metric_seen"
"""The table that says when metrics were observed: their keys, and the first and last time known. It comes at last."""

_MINUTE = 60 * 10**9

_FEW = 64
"""Numbers that `struct` packs at once: it keeps the last hundred formats, of lists as long as a request, too."""

Rows = dict[str, dict[int, tuple[Any, ...]]]
"""Dimension rows by table and key."""


def dimension_id(*parts: bytes) -> int:
    """Return the key of the dimension whose canonical form is the JSON array of these parts."""
    canonical = b"[" + b",".join(parts) + b"]"
    return int.from_bytes(hashlib.blake2b(canonical).digest()[:8], "big", signed=True)


class MetricKey(msgspec.Struct, frozen=True, gc=False):
    """What a metric says of itself.

    Its description and metadata describe it and do not identify it. Source: OpenTelemetry metrics data model, "Stream
    manipulations"; ``metrics.proto``, ``Metric.metadata``.
    """

    name: str
    type: str
    unit: str
    description: str
    temporality: int
    is_monotonic: bool
    metadata: tuple[bytes, ...]


class MetricContext(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One metric of one resource and scope. ``salt`` is combined with the hashes by which its series are known.

    Nothing in it refers back to it, so Python's garbage collection need not know of it, nor of a `MetricKey`: to look
    through hundreds of thousands would hold the event loop.
    """

    metric_id: int
    resource_id: int
    scope_id: int
    name: str
    salt: int


class Dimensions:
    """Computes keys, remembers them, and collects the rows that the database may not have yet.

    ``limit`` bounds the series remembered (see `SeriesIndex`), and the resources and scopes; metrics are at most a
    twentieth of that. What has a long serialized form is not remembered at all: it is likely unique, and a few of them
    would fill the memory.
    """

    _PENDING_LIMIT = 64 * 2**20
    _ROW = 300  # bytes of a row beside its strings
    _LONGEST_KEY = 8 * 2**10
    _MOST_EXPECTED = 16
    _MOST_BOUNDS = 10_000

    def __init__(self, limit: int, limits: SeriesLimits | None = None) -> None:
        self.limits = limits
        self.fragments = Fragments()
        self.templates = Templates()
        self.epoch: int | None = None
        self.generation = 0
        self._limit = limit
        self.series_known = SeriesIndex(limit)
        self._resources: dict[tuple[bytes | None, str], int] = {}
        self._scopes: dict[tuple[bytes | None, str], int] = {}
        self._metrics: dict[tuple[int, int, MetricKey], MetricContext] = {}
        self._older_metrics: dict[tuple[int, int, MetricKey], MetricContext] = {}
        self._known: set[int] = set()
        self._descriptions: dict[int, tuple[str, bytes]] = {}
        self._bounds: dict[int, bool] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._pending: Rows = {table: {} for table in (*TABLES, SETS, SEEN)}
        self._pending_size = 0
        self._expected: dict[bytes, tuple[Any, ...]] = {}

    @property
    def pending_count(self) -> int:
        """How many rows every commit must insert now."""
        return sum(map(len, self._pending.values()))

    def forget(self, epoch: int | None) -> None:
        """Forget everything: the store is at a new epoch, in which every dimension in use is to be declared anew.

        Keys handed out until now belong to a past ``generation``; batches encoded with them are to be encoded again.
        """
        self.epoch = epoch
        self.generation += 1
        self.templates.clear()
        self.series_known.clear()
        self._resources.clear()
        self._scopes.clear()
        self._metrics.clear()
        self._older_metrics.clear()
        self._known.clear()
        self._descriptions.clear()
        self._bounds = dict.fromkeys(self._bounds, False)
        self._seen.clear()
        self._pending = {table: {} for table in (*TABLES, SETS, SEEN)}
        self._pending_size = 0

    def relieve(self) -> None:
        """Forget everything when the rows that wait for the database take too much memory, as while it is down.

        The batches that need them are encoded again when it is back. To be called between two batches.
        """
        if self._pending_size > self._PENDING_LIMIT:
            self.forget(self.epoch)

    def pending(self) -> Rows:
        """Return the rows that every commit must insert now."""
        return {table: dict(rows) for table, rows in self._pending.items() if rows}

    def stored(self, rows: Rows) -> None:
        """Say that a commit has inserted these rows."""
        for table, stored in rows.items():
            pending = self._pending[table]
            for key, row in stored.items():
                if pending.get(key) is row:  # and not one that says more than what was stored
                    del pending[key]
                    self._pending_size -= self._ROW + _size(row)

    def resource(self, raw: bytes | None, schema_url: str) -> int:
        """Return the key of a serialized ``Resource``; None when the request carried none."""
        key = (raw, schema_url)
        found = self._resources.get(key)
        if found is None:
            found = self._remember(self._resources, key, self._new_resource(raw, schema_url))
        return found

    def scope(self, raw: bytes | None, schema_url: str) -> int:
        """Return the key of a serialized ``InstrumentationScope``; None when the request carried none."""
        key = (raw, schema_url)
        found = self._scopes.get(key)
        if found is None:
            found = self._remember(self._scopes, key, self._new_scope(raw, schema_url))
        return found

    def metric(self, resource_id: int, scope_id: int, key: MetricKey) -> MetricContext:
        """Return the context in which the series of a metric are known."""
        its_key = resource_id, scope_id, key
        context = self._metrics.get(its_key)
        if context is None:
            context = self._older_metrics.get(its_key)
            if context is None:
                metric_id = self._new_metric(key)
                its_salt = salt(metric_id, resource_id, scope_id)
                context = MetricContext(metric_id, resource_id, scope_id, key.name, its_salt)
            if _size((key.name, key.unit, key.description, *key.metadata)) <= self._LONGEST_KEY:
                self._metrics[its_key] = context
                if len(self._metrics) >= self._limit // 40:
                    self._older_metrics, self._metrics = self._metrics, {}
                    # Found again at the cost of one insertion that does nothing.
                    self._known.clear()
                    self._descriptions.clear()
        return context

    def series(self, context: MetricContext, its_hash: int, attributes: Sequence[bytes]) -> int:
        """Return the key of the series with these attributes, and know it by a hash of them from now on."""
        its_hash ^= context.salt
        found = self.series_known.get(its_hash)
        if found is None:
            found = self._new_series(context, attributes)
            self.series_known.add(its_hash, found)
        return found

    def series_set(self, key: int, members: bytes) -> None:
        """Declare a set, of which all series are declared."""
        self._add(SETS, key, (members,))

    def are_known(self, keys: frozenset[int]) -> bool:
        """Tell whether all these were declared, and nothing is to be done for them."""
        return keys <= self._known

    def bounds(self, values: Sequence[float]) -> int | None:
        """Return the key of a list of bounds or quantiles; None for one that stands in the row itself.

        That is so where it was not seen before, for it may never come again, and where there are very many.
        """
        its_size = len(values)
        packed = struct.pack(f">{its_size}d", *values) if its_size <= _FEW else np.array(values, ">f8").tobytes()
        key = int.from_bytes(hashlib.blake2b(b'"bounds"' + packed).digest()[:8], "big", signed=True)
        is_declared = self._bounds.get(key)
        if is_declared is None:
            if len(self._bounds) >= self._MOST_BOUNDS:  # those that came once go first
                self._bounds = {known: True for known, declared in self._bounds.items() if declared}
            if len(self._bounds) < self._MOST_BOUNDS:
                self._bounds[key] = False
            return None
        if not is_declared:
            self._bounds[key] = True
            self._await("bounds", key, ("{" + ",".join(map(repr, values)) + "}",))
        return key

    def seen(self, metric_id: int, first: int, last: int) -> None:
        """Hear that a metric was observed at times between two, in nanoseconds since the Unix epoch.

        Commits say so, once a minute and metric: a write for each of its points would cost as much as the points.
        """
        known = self._seen.get(metric_id)
        if known is not None and known[0] <= first // _MINUTE and last // _MINUTE <= known[1]:
            return
        if known is None and len(self._seen) >= self._limit // 20:
            self._seen.clear()  # noted again at the cost of an insertion that does nothing
        earliest, latest = known or (first // _MINUTE, last // _MINUTE)
        self._seen[metric_id] = min(earliest, first // _MINUTE), max(latest, last // _MINUTE)
        if (waiting := self._pending[SEEN].pop(metric_id, None)) is not None:
            self._pending_size -= self._ROW
            first, last = min(first, waiting[1]), max(last, waiting[2])
        self._await(SEEN, metric_id, (first, min(last, 2**63 - 1)))

    def _remember(self, cache: dict[tuple[bytes | None, str], int], key: tuple[bytes | None, str], value: int) -> int:
        if _size(key) <= self._LONGEST_KEY:
            if len(cache) >= self._limit:
                cache.clear()
                self._known.clear()
            cache[key] = value
        return value

    def _add(self, table: str, key: int, row: tuple[Any, ...]) -> int:
        if key not in self._known:
            self._known.add(key)
            self._await(table, key, row)
        return key

    def _await(self, table: str, key: int, row: tuple[Any, ...]) -> None:
        """Have every commit insert a row, until one has."""
        if key not in self._pending[table]:
            self._pending[table][key] = (key, *row)
            self._pending_size += self._ROW + _size(row)

    def expect(self, raw: bytes, decoded: tuple[Any, ...]) -> None:
        """Hear what a large resource or scope decodes to, by `decode_resource` or `decode_scope`, before it is met."""
        if len(self._expected) >= self._MOST_EXPECTED:
            self._expected.clear()
        self._expected[raw] = decoded

    def _new_resource(self, raw: bytes | None, schema_url: str) -> int:
        decoded = self._expected.pop(raw or b"", None) or decode_resource(raw or b"", self.fragments)
        attributes, dropped, entity_refs = decoded
        schema_url = without_nul(schema_url)
        key = dimension_id(
            b'"resource"',
            b"null" if raw is None else attributes,
            b"%d" % dropped,
            entity_refs,
            string_json(schema_url),
        )
        refs = None if entity_refs == b"[]" else entity_refs
        return self._add("resource", key, (None if raw is None else attributes, dropped, refs, schema_url))

    def _new_scope(self, raw: bytes | None, schema_url: str) -> int:
        decoded = self._expected.pop(raw or b"", None) or decode_scope(raw or b"", self.fragments)
        name, version, attributes, dropped = decoded
        if raw is None:
            name = None
        schema_url = without_nul(schema_url)
        key = dimension_id(
            b'"scope"',
            b"null" if name is None else string_json(name),
            string_json(version),
            attributes,
            b"%d" % dropped,
            string_json(schema_url),
        )
        return self._add("scope", key, (name, version, attributes, dropped, schema_url))

    def _new_metric(self, metric: MetricKey) -> int:
        texts = [without_nul(text) for text in (metric.name, metric.type, metric.unit, metric.description)]
        metadata = self.fragments.canonical(metric.metadata)
        # Where description and metadata stood in the hash of older versions, there is nothing: metrics that have
        # neither keep the keys they had.
        key = dimension_id(
            b'"metric"',
            *map(string_json, texts[:3]),
            b'""',
            b"%d" % metric.temporality,
            b"true" if metric.is_monotonic else b"false",
            b"{}",
        )
        return self._describe(key, (*texts, metric.temporality, metric.is_monotonic, metadata))

    def _describe(self, key: int, row: tuple[Any, ...]) -> int:
        """Declare a metric, and again when it is described better than before: what the store has is mended then."""
        description, metadata = row[3], row[6]
        best = self._descriptions.get(key)
        if best is not None and key in self._known:
            if len(description) <= len(best[0]) and metadata in (best[1], b"{}"):
                return key
            longest = description if len(description) > len(best[0]) else best[0]
            row = (*row[:3], longest, *row[4:])
            self._known.discard(key)
            if (waiting := self._pending["metric"].pop(key, None)) is not None:
                self._pending_size -= self._ROW + _size(waiting)
        self._descriptions[key] = (row[3], metadata)
        return self._add("metric", key, row)

    def _new_series(self, context: MetricContext, raw: Sequence[bytes]) -> int:
        key, attributes = self._series_key(context, raw)
        if self.limits is not None and not self.limits.admit(key, context.metric_id, context.name):
            key, attributes = self._series_key(context, OVERFLOW)
        if self.limits is None or not self.limits.is_declared(key, self.epoch):
            self._await("series", key, (context.metric_id, context.resource_id, context.scope_id, attributes))
        return key

    def _series_key(self, context: MetricContext, raw: Sequence[bytes]) -> tuple[int, bytes]:
        attributes = self.fragments.canonical(raw)
        key = dimension_id(
            b'"series"',
            b"%d" % context.metric_id,
            b"%d" % context.resource_id,
            b"%d" % context.scope_id,
            attributes,
        )
        return key, attributes


def decode_resource(raw: bytes, fragments: Fragments) -> tuple[bytes, int, bytes]:
    """Return the attributes of a ``Resource`` as JSON, the count of those dropped, its entity references as JSON.

    Raises `google.protobuf.message.DecodeError` or `MalformedPayloadError`.
    """
    check_parts(raw, resource_pb2.Resource.DESCRIPTOR)
    resource = wire.Resource.FromString(raw)
    refs = map(_entity_ref_json, wire.counted(resource.entity_refs, "entity references"))
    return fragments.canonical(resource.attributes), resource.dropped_attributes_count, b"[" + b",".join(refs) + b"]"


def decode_scope(raw: bytes, fragments: Fragments) -> tuple[str | None, str, bytes, int]:
    """Return name and version of an ``InstrumentationScope``, its attributes as JSON, the count of those dropped.

    Raises `google.protobuf.message.DecodeError` or `MalformedPayloadError`.
    """
    check_parts(raw, common_pb2.InstrumentationScope.DESCRIPTOR)
    scope = wire.Scope.FromString(raw)
    attributes = fragments.canonical(scope.attributes)
    return without_nul(scope.name), without_nul(scope.version), attributes, scope.dropped_attributes_count


def in_order(rows: Mapping[int, tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of one table sorted by key, so that no two writers deadlock."""
    # numpy sorts numbers in a fraction of the time that Python takes for pairs, and lets other threads run meanwhile.
    return map(rows.__getitem__, np.sort(np.fromiter(rows, np.int64, len(rows))).tolist())


def _size(row: Iterable[Any]) -> int:
    """Return about how many bytes the strings of a row or key take: each its own and those of a reference to it."""
    return sum(len(value) + 8 for value in row if isinstance(value, bytes | str))


def _entity_ref_json(raw: bytes) -> bytes:
    ref = common_pb2.EntityRef.FromString(raw)

    def strings(values: Iterable[str]) -> bytes:
        return b"[" + b",".join(map(string_json, values)) + b"]"

    return b'{"schema_url":%b,"type":%b,"id_keys":%b,"description_keys":%b}' % (
        string_json(ref.schema_url),
        string_json(ref.type),
        strings(ref.id_keys),
        strings(ref.description_keys),
    )
