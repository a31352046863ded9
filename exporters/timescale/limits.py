"""Limits on the number of series, and what becomes of the points beyond.

A label with unbounded values (a user id, a URL) makes a new series for each, and with them a store that grows until it
stops. Beyond the limit of its metric, or of the whole store, a point with new attributes is kept in one series of its
metric with the attribute ``otel.metric.overflow`` set to true and no others. Source: OpenTelemetry metrics SDK
specification, "Cardinality limits", which says the same of SDKs.

A series that the store has is always accepted: what is known of them is loaded from it at the start and whenever the
counts drift apart, because another gateway stores into it or unused series were removed. Then only those are read that
lie where something changed: series are told apart by the first bits of their keys into parts, of each of which the
store says how many there are and what the exclusive or of their keys is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog
from opentelemetry.proto.common.v1 import common_pb2
from psycopg import sql

from gateway.store import Connection, read_rows

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_Keys = npt.NDArray[np.int64]

_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("length", ">i4"),
        ("series", ">i8"),
        ("length_", ">i4"),
        ("metric", ">i8"),
        ("length__", ">i4"),
        ("is_declared", "?"),
    ]
)
_PART_BITS = 12
_PART = sql.SQL("id >> {}").format(64 - _PART_BITS)
_PARTS = sql.SQL("SELECT {}, count(*), bit_xor(id) FROM series GROUP BY 1").format(_PART)
_MANY_NEW = 1_000

OVERFLOW = (
    common_pb2.KeyValue(key="otel.metric.overflow", value=common_pb2.AnyValue(bool_value=True)).SerializeToString(),
)
"""The serialized attributes of an overflow series."""


class StoredSeries(NamedTuple):
    """The keys of the series in a store, sorted, the key of the metric of each, and how many there are of each metric.

    ``is_declared`` tells which were declared in the ``epoch`` in which they were read: these stay until the next.
    """

    series: _Keys
    metrics: _Keys
    is_declared: npt.NDArray[np.bool_]
    epoch: int
    counts: Counter[int]

    @classmethod
    def of(cls, series: _Keys, metrics: _Keys, is_declared: npt.NDArray[np.bool_], epoch: int) -> StoredSeries:
        """Count series, which are sorted."""
        its_metrics, counts = np.unique(metrics, return_counts=True)
        counted = Counter(dict(zip(its_metrics.tolist(), counts.tolist(), strict=True)))
        return cls(series, metrics, is_declared, epoch, counted)


_NONE = StoredSeries.of(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool), -1)


class SeriesLimits:
    """Decides which new series are admitted. ``per_metric`` and ``total`` are numbers of series."""

    def __init__(self, per_metric: int, total: int) -> None:
        self._per_metric = per_metric
        self._total = total
        self.stored = _NONE
        self._new: dict[int, int] = {}
        self._counts: Counter[int] = Counter()
        self._warned: set[int] = set()
        self.turned_away = 0

    @property
    def count(self) -> int:
        """How many series there are, as far as this process knows."""
        return len(self.stored.series) + len(self._new)

    def admit(self, series: int, metric: int, name: str) -> bool:
        """Tell whether a series may be, ``name`` being its metric's for the log. Admitted once, it stays admitted."""
        if series in self._new or self._place(series) is not None:
            return True
        if self._counts[metric] >= self._per_metric or self.count >= self._total:
            self.turned_away += 1
            self._warn(metric, name)
            return False
        self._new[series] = metric
        self._counts[metric] += 1
        return True

    def is_declared(self, series: int, epoch: int | None) -> bool:
        """Tell whether the store is known to have a series, declared in this epoch, and not removed before the next."""
        place = self._place(series) if epoch == self.stored.epoch else None
        return place is not None and bool(self.stored.is_declared[place])

    def have_changed(self, count: int) -> bool:
        """Tell whether what the store has is to be read again, which has so many series now."""
        return count != self.count or len(self._new) >= _MANY_NEW

    def load(self, stored: StoredSeries, pending: Iterable[tuple[Any, ...]]) -> None:
        """Take over what the store has (see `read`), and the series rows that are on the way to it."""
        self.stored = stored
        self._counts = stored.counts.copy()
        self._new = {}
        for series, metric, *_ in pending:
            if self._place(series) is None:
                self._new[series] = metric
                self._counts[metric] += 1

    def _place(self, series: int) -> int | None:
        known = self.stored.series
        place = int(np.searchsorted(known, series))
        return place if place < len(known) and known[place] == series else None

    def _warn(self, metric: int, name: str) -> None:
        if metric not in self._warned:
            self._warned.add(metric)
            _log.warning(
                "a metric has too many series; points with new attributes go to its overflow series",
                metric=name,
                series_limit=self._per_metric,
                series_limit_total=self._total,
            )


def count(connection: Connection) -> int:
    """Return how many series the store has."""
    row = connection.execute("SELECT count(*) FROM series").fetchone()
    return row[0] if row else 0


def read(connection: Connection, known: StoredSeries = _NONE) -> StoredSeries:
    """Return all series that the store has, of which some are known.

    Read while dimensions are collected, some may be gone: then the epoch has changed, and all is read again.
    """
    with connection.transaction():
        epoch = _epoch(connection)
        while True:
            found = _read_as_of(connection, epoch, known)
            now = _epoch(connection)
            if now == epoch:
                return found
            epoch = now


def _epoch(connection: Connection) -> int:
    row = connection.execute("SELECT epoch FROM dimension_epoch").fetchone()
    return row[0] if row else 0


def _read_as_of(connection: Connection, epoch: int, known: StoredSeries) -> StoredSeries:
    if epoch != known.epoch:
        return StoredSeries.of(*_read(connection, epoch, None), epoch)
    changed = _changed(connection, known)
    if 2 * len(changed) > 2**_PART_BITS:
        return StoredSeries.of(*_read(connection, epoch, None), epoch)
    new = _read(connection, epoch, changed)
    kept = ~np.isin(known.series >> 64 - _PART_BITS, changed)
    series = np.concatenate((known.series[kept], new[0]))
    metrics, is_declared = (
        np.concatenate((known.metrics[kept], new[1])),
        np.concatenate((known.is_declared[kept], new[2])),
    )
    order = np.argsort(series)
    return StoredSeries.of(series[order], metrics[order], is_declared[order], epoch)


def _changed(connection: Connection, known: StoredSeries) -> _Keys:
    """Return the parts in which the store has other series than are known."""
    there = connection.execute(_PARTS).fetchall()
    parts, firsts = np.unique(known.series >> 64 - _PART_BITS, return_index=True)
    counts = np.diff([*firsts, len(known.series)])
    combined = np.bitwise_xor.reduceat(known.series, firsts) if len(firsts) else firsts
    ours = set(zip(parts.tolist(), counts.tolist(), combined.tolist(), strict=True))
    return np.array(sorted({part for part, *_ in ours.symmetric_difference(map(tuple, there))}), np.int64)


def _read(connection: Connection, epoch: int, parts: _Keys | None) -> tuple[_Keys, _Keys, npt.NDArray[np.bool_]]:
    """Read the series of some parts, or all, in the order of their keys."""
    where = sql.SQL("true") if parts is None else sql.SQL("{} = ANY({})").format(_PART, parts.tolist())
    query = sql.SQL(
        "COPY (SELECT id, metric_id, epoch = {} FROM series WHERE {} ORDER BY id) TO STDOUT (FORMAT binary)"
    )
    rows = read_rows(connection, query.format(epoch, where), _ROW)
    return rows["series"].astype(np.int64), rows["metric"].astype(np.int64), rows["is_declared"].copy()
