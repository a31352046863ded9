"""Which metrics the store has, and their series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from gateway.query.store import Store
from gateway.query.values import text_of

DELTA, CUMULATIVE = 1, 2
"""Temporalities, as OTLP numbers them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What series have in common. `temporality` and `is_monotonic` are as in the table ``metric``."""

    name: str
    type: str
    unit: str
    temporality: int
    is_monotonic: bool

    @property
    def is_number(self) -> bool:
        """Whether its points are single numbers."""
        return self.type in ("gauge", "sum")

    @property
    def is_counter(self) -> bool:
        """Whether its rate says more than its value."""
        return self.type == "sum" and (self.is_monotonic or self.temporality == DELTA)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: `own` are the attributes of its points, with ``host_name`` and ``service_name``."""

    id: int
    own: Mapping[str, Any]
    resource: Mapping[str, Any]

    def label(self, key: str) -> str | None:
        """Return an attribute of the points or else of the resource, as text."""
        value = self.own.get(key, self.resource.get(key))
        return None if value is None else text_of(value)


class CatalogueRow(TypedDict):
    """A metric in a list."""

    name: str
    type: str
    unit: str
    series: int
    last_seen: datetime | None
    attributes: list[str]
    """Keys that its series have."""


def metric_names(store: Store) -> list[str]:
    """Return the names of all metrics that the store has."""
    return [row["name"] for row in store.rows("SELECT DISTINCT name FROM metric ORDER BY 1")]


def catalogue(store: Store, pattern: str | None = None) -> list[CatalogueRow]:
    """Return each metric with its type, unit, number of series, attribute keys and when it was last seen.

    In the pattern, ``*`` stands for any text and ``?`` for any letter.
    """
    return store.rows(
        """
        SELECT
            c.name, c.type, c.unit, sum(c.series)::bigint AS series, max(c.last_seen) AS last_seen,
            array(
                SELECT DISTINCT jsonb_object_keys(o.attributes)
                FROM series o WHERE o.metric_id = ANY (array_agg(c.metric_id))
                ORDER BY 1
            ) AS attributes
        FROM metric_catalogue c
        WHERE c.series > 0 AND (%(like)s::text IS NULL OR c.name LIKE %(like)s)
        GROUP BY c.name, c.type, c.unit
        ORDER BY c.name, c.type, c.unit
        """,
        {"like": None if pattern is None else _like(pattern)},
        CatalogueRow,
    )


def _like(pattern: str) -> str:
    for sign, meaning in (("\\", "\\\\"), ("%", "\\%"), ("_", "\\_"), ("*", "%"), ("?", "_")):
        pattern = pattern.replace(sign, meaning)
    return pattern


def series_of(store: Store, name: str, where: Sequence[tuple[str, str]] = ()) -> list[tuple[Metric, list[Series]]]:
    """Return the series of a metric's name that have these attributes, by whatever else may differ."""
    found: defaultdict[Metric, list[Series]] = defaultdict(list)
    rows = store.rows(
        """
        SELECT e.id, e.attributes, r.attributes AS resource, r.host_name, r.service_name,
            m.type, m.unit, m.temporality, m.is_monotonic
        FROM metric m JOIN series e ON e.metric_id = m.id JOIN resource r ON r.id = e.resource_id
        WHERE m.name = %(name)s ORDER BY e.id
        """,
        {"name": name},
    )
    for row in rows:
        who = {key: row[key] for key in ("host_name", "service_name") if row[key] is not None}
        series = Series(row["id"], {**row["attributes"], **who}, row["resource"] or {})
        if all(series.label(key) == value for key, value in where):
            kind = {key: row[key] for key in ("type", "unit", "temporality", "is_monotonic")}
            found[Metric(name, **kind)].append(series)
    return list(found.items())
