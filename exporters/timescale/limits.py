"""Limits on the number of series, and what becomes of the points beyond.

A label with unbounded values (a user id, a URL) makes a new series for each, and with them a store that grows until it
stops. Beyond the limit of its metric, or of the whole store, a point with new attributes is kept in one series of its
metric with the attribute ``otel.metric.overflow`` set to true and no others. Source: OpenTelemetry metrics SDK
specification, "Cardinality limits", which says the same of SDKs.

A series that the store has is always accepted: what is known of them is loaded from it at the start and whenever the
counts drift apart, because another gateway stores into it or unused series were removed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.common.v1 import common_pb2

from exporters.timescale.copy import HEADER, TRAILER
from gateway.store import Connection

_log = logging.getLogger(__name__)

_ROW = np.dtype([("fields", ">i2"), ("length", ">i4"), ("series", ">i8"), ("length_", ">i4"), ("metric", ">i8")])

OVERFLOW = (
    common_pb2.KeyValue(key="otel.metric.overflow", value=common_pb2.AnyValue(bool_value=True)).SerializeToString(),
)
"""The serialized attributes of an overflow series."""


class StoredSeries(NamedTuple):
    """The keys of the series in a store, sorted, and the key of the metric of each."""

    series: npt.NDArray[np.int64]
    metrics: npt.NDArray[np.int64]


class SeriesLimits:
    """Decides which new series are admitted. ``per_metric`` and ``total`` are numbers of series."""

    def __init__(self, per_metric: int, total: int) -> None:
        self._per_metric = per_metric
        self._total = total
        self._stored: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._new: dict[int, int] = {}
        self._counts: Counter[int] = Counter()
        self._warned: set[int] = set()
        self.turned_away = 0

    @property
    def count(self) -> int:
        """How many series there are, as far as this process knows."""
        return len(self._stored) + len(self._new)

    def admit(self, series: int, metric: int, name: str) -> bool:
        """Tell whether a series may be, ``name`` being its metric's for the log. Admitted once, it stays admitted."""
        if series in self._new or self._is_stored(series):
            return True
        if self._counts[metric] >= self._per_metric or self.count >= self._total:
            self.turned_away += 1
            self._warn(metric, name)
            return False
        self._new[series] = metric
        self._counts[metric] += 1
        return True

    def load(self, stored: StoredSeries, pending: Iterable[tuple[Any, ...]]) -> None:
        """Take over what the store has (see `read`), and the series rows that are on the way to it."""
        self._stored = stored.series
        metrics, counts = np.unique(stored.metrics, return_counts=True)
        self._counts = Counter(dict(zip(metrics.tolist(), counts.tolist(), strict=True)))
        self._new = {}
        for series, metric, *_ in pending:
            if not self._is_stored(series):
                self._new[series] = metric
                self._counts[metric] += 1

    def _is_stored(self, series: int) -> bool:
        index = int(np.searchsorted(self._stored, series))
        return index < len(self._stored) and bool(self._stored[index] == series)

    def _warn(self, metric: int, name: str) -> None:
        if metric not in self._warned:
            self._warned.add(metric)
            _log.warning(
                "the metric %s has too many series (limits: %d a metric, %d in all); points with new attributes go to "
                "its overflow series (settings series_limit, series_limit_total)",
                name,
                self._per_metric,
                self._total,
            )


def count(connection: Connection) -> int:
    """Return how many series the store has."""
    row = connection.execute("SELECT count(*) FROM series").fetchone()
    return row[0] if row else 0


def read(connection: Connection) -> StoredSeries:
    """Return all series that the store has."""
    # A million of them are 26 MB like this, and several times that as Python objects.
    query = "COPY (SELECT id, metric_id FROM series ORDER BY id) TO STDOUT (FORMAT binary)"
    with connection.transaction(), connection.cursor().copy(query) as stream:
        data = b"".join(stream)
    rows = np.frombuffer(data[len(HEADER) : -len(TRAILER)], _ROW)
    return StoredSeries(rows["series"].astype(np.int64), rows["metric"].astype(np.int64))
