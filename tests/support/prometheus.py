"""OTLP metrics for tests of what reads them, and the store as query languages see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.component import Batch, Signal
from gateway.query.config import QuerySettings
from gateway.query.limits import Usage
from gateway.query.reading.querier import StoreQuerier
from gateway.query.series import Hints, Matcher, Series
from gateway.query.service import QueryService
from tests.support.databases import Database
from tests.support.telemetry import set_attributes

MILLISECOND = 10**6
CUMULATIVE, DELTA = 2, 1
NO_VALUE = 1
"""The flag of a point without a recorded value."""


class Collection:
    """What one service reports at one time. ``at`` is in milliseconds since the epoch."""

    def __init__(self, at: int, resource: Mapping[str, str] | None = None, scope: str = "tests") -> None:
        self.at = at
        self.request = ExportMetricsServiceRequest()
        owner = self.request.resource_metrics.add()
        set_attributes(owner.resource.attributes, resource or {"service.name": "shop", "service.instance.id": "1"})
        self._scope = owner.scope_metrics.add()
        self._scope.scope.name = scope

    @property
    def batch(self) -> Batch:
        return Batch.of(Signal.METRICS, self.request.SerializeToString())

    @property
    def has_points(self) -> bool:
        return len(self._scope.metrics) > 0

    def gauge(
        self, name: str, value: float, unit: str = "", flags: int = 0, attributes: Mapping[str, str] | None = None
    ) -> Collection:
        point = self._metric(name, unit).gauge.data_points.add(as_double=value)
        return self._point(point, attributes, flags=flags)

    def counter(
        self,
        name: str,
        value: float,
        unit: str = "",
        temporality: int = CUMULATIVE,
        attributes: Mapping[str, str] | None = None,
    ) -> Collection:
        its = self._metric(name, unit).sum
        its.is_monotonic, its.aggregation_temporality = True, temporality
        return self._point(its.data_points.add(as_double=value), attributes)

    def histogram(
        self,
        name: str,
        bounds: Sequence[float],
        counts: Sequence[int],
        total: float | None = None,
        *,
        unit: str = "",
        temporality: int = CUMULATIVE,
        flags: int = 0,
        attributes: Mapping[str, str] | None = None,
    ) -> Collection:
        its = self._metric(name, unit).histogram
        its.aggregation_temporality = temporality
        point = its.data_points.add(explicit_bounds=bounds, bucket_counts=counts, count=sum(counts), sum=total)
        return self._point(point, attributes, flags=flags)

    def exponential(
        self, name: str, scale: int, offset: int, counts: Sequence[int], temporality: int = CUMULATIVE, **more: Any
    ) -> Collection:
        its = self._metric(name, "").exponential_histogram
        its.aggregation_temporality = temporality
        count = sum(counts) + sum(more.get("negative", ())) + more.get("zero_count", 0)
        point = its.data_points.add(
            scale=scale, zero_count=more.get("zero_count", 0), count=count, sum=more.get("total")
        )
        point.positive.offset = offset
        point.positive.bucket_counts.extend(counts)
        if "negative" in more:
            point.negative.bucket_counts.extend(more["negative"])
        return self._point(point, more.get("attributes"), flags=more.get("flags", 0))

    def summary(self, name: str, count: int, total: float, quantiles: Mapping[float, float]) -> Collection:
        point = self._metric(name, "").summary.data_points.add(count=count, sum=total)
        for quantile, value in quantiles.items():
            point.quantile_values.add(quantile=quantile, value=value)
        return self._point(point, None)

    def _metric(self, name: str, unit: str) -> Any:
        return self._scope.metrics.add(name=name, unit=unit)

    def _point(self, point: Any, attributes: Mapping[str, str] | None, flags: int = 0) -> Collection:
        point.time_unix_nano, point.flags = self.at * MILLISECOND, flags
        set_attributes(point.attributes, attributes or {})
        return self


@contextmanager
def querying(database: Database, **settings: Any) -> Iterator[QueryService]:
    """The store of a database, open for queries."""
    service = QueryService(QuerySettings.model_validate(settings), lambda: database.dsn)
    try:
        yield service
    finally:
        service.close()


@contextmanager
def querier(database: Database, usage: Usage | None = None, **settings: Any) -> Iterator[StoreQuerier]:
    """What reads series for one query."""
    with querying(database, **settings) as service, service.querier(usage or service.usage()) as found:
        yield found


def matchers(**labels: str) -> list[Matcher]:
    """Matchers of equal values; ``name`` is that of the metric."""
    return [Matcher("__name__" if name == "name" else name, "=", value) for name, value in labels.items()]


def select(its: StoreQuerier, start: int, end: int, *asked: Matcher, **labels: str) -> list[Series]:
    """Series that match, sorted by labels."""
    found = its.select([*asked, *matchers(**labels)], start, end, Hints())
    return sorted(found, key=lambda series: sorted(series.labels.items()))
