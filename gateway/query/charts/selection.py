"""Which series a chart is of."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from gateway.query.metrics.catalogue import Metric
from gateway.query.names import text_of
from gateway.query.reading.connection import Reading

_BIGINT, _DOUBLE = struct.Struct(">q"), struct.Struct(">d")

_SERIES: LiteralString = """
SELECT
    e.id, m.name, m.type, m.unit, m.temporality::bigint, m.is_monotonic, e.attributes::text, r.host_name,
    r.service_name,
    coalesce(r.attributes, '{{}}')::text, extract(epoch FROM s.first_seen)::float8
FROM series e
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
LEFT JOIN metric_seen s ON s.metric_id = m.id
WHERE {where}
LIMIT {most}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One series. ``attributes`` are those of its points, ``first_seen`` when its metric was, in seconds."""

    id: int
    attributes: Mapping[str, Any]
    host: str | None
    service: str | None
    resource: Mapping[str, Any]
    first_seen: float

    def label(self, key: str) -> str:
        """Return an attribute, of the points or else of the resource, as text; empty when there is none."""
        value = self.attributes.get(key)
        if value is None:
            value = {"host.name": self.host, "service.name": self.service}.get(key)
        if value is None:
            value = self.resource.get(key)
        return "" if value is None else text_of(value)


Found = dict[Metric, list[Series]]


def find(
    reading: Reading,
    names: Sequence[str],
    *,
    host: str | None = None,
    service: str | None = None,
    only: Iterable[tuple[str, str]] = (),
) -> Found:
    """Return the series of some metrics, of one host or service, that have these attributes (of points or resources).

    Raises `LimitExceededError` for too many.
    """
    where: list[sql.Composable] = [sql.SQL("m.name = ANY({})").format(sql.Literal(list(names)))]
    if host is not None:
        where.append(sql.SQL("r.host_name = {}").format(sql.Literal(host)))
    if service is not None:
        where.append(sql.SQL("r.service_name = {}").format(sql.Literal(service)))
    query = sql.SQL(_SERIES).format(where=sql.SQL(" AND ").join(where), most=reading.usage.limits.series + 1)
    found: defaultdict[Metric, list[Series]] = defaultdict(list)
    metrics: dict[tuple[bytes | None, ...], Metric] = {}
    resources: dict[bytes, Mapping[str, Any]] = {}
    wanted = tuple(only)
    for row in reading.texts(query):
        key, name, kind, unit, temporality, monotonic, attributes, its_host, its_service, resource, seen = row
        assert key is not None
        assert name is not None
        assert kind is not None
        assert unit is not None
        assert temporality is not None
        assert monotonic is not None
        assert attributes is not None
        assert resource is not None
        identity = row[1:6]
        if (metric := metrics.get(identity)) is None:
            metric = metrics[identity] = Metric(
                name.decode(), kind.decode(), unit.decode(), _BIGINT.unpack(temporality)[0], monotonic != b"\0"
            )
        if (of_resource := resources.get(resource)) is None:
            of_resource = resources[resource] = msgspec.json.decode(resource)
        series = Series(
            _BIGINT.unpack(key)[0],
            msgspec.json.decode(attributes),
            None if its_host is None else its_host.decode(),
            None if its_service is None else its_service.decode(),
            of_resource,
            math.inf if seen is None else _DOUBLE.unpack(seen)[0],
        )
        if all(series.label(name) == value for name, value in wanted):
            found[metric].append(series)
    reading.usage.add_series(sum(map(len, found.values())))
    return dict(found)


def first_seen(found: Found) -> float:
    """Return when any of the metrics was first observed, in seconds since 1970; infinity where that is not known."""
    return min((one.first_seen for several in found.values() for one in several[:1]), default=math.inf)
