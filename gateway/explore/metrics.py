"""Which metrics the store has, and their series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.explore.log_lines import text_of
from gateway.explore.store import Row, Store

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


def metric_names(store: Store) -> list[str]:
    """Return the names of all metrics that the store has."""
    return [row["name"] for row in store.rows("SELECT DISTINCT name FROM metric ORDER BY 1")]


def catalogue(store: Store, pattern: str | None = None) -> list[Row]:
    """Return each metric with its type, unit, number of series, attribute keys and when it was last seen.

    In the pattern, ``*`` stands for any text and ``?`` for any letter.
    """
    return store.rows(
        """
        SELECT
            m.name, m.type, m.unit, count(*) AS series,
            max(CASE m.type
                WHEN 'histogram' THEN
                    (SELECT time FROM histogram_sample s WHERE s.series_id = e.id ORDER BY time DESC LIMIT 1)
                WHEN 'exponential_histogram' THEN
                    (SELECT time FROM exp_histogram_sample s WHERE s.series_id = e.id ORDER BY time DESC LIMIT 1)
                WHEN 'summary' THEN
                    (SELECT time FROM summary_sample s WHERE s.series_id = e.id ORDER BY time DESC LIMIT 1)
                ELSE greatest(
                    (SELECT time FROM sample s WHERE s.series_id = e.id ORDER BY time DESC LIMIT 1),
                    (SELECT max(f.time)
                     FROM member b
                     CROSS JOIN LATERAL
                         (SELECT time FROM frame WHERE set_id = b.set_id ORDER BY time DESC LIMIT 1) f
                     WHERE b.series_id = e.id)
                )
            END) AS last_seen,
            array(
                SELECT DISTINCT jsonb_object_keys(o.attributes)
                FROM metric n JOIN series o ON o.metric_id = n.id
                WHERE n.name = m.name AND n.type = m.type AND n.unit = m.unit
                ORDER BY 1
            ) AS attributes
        FROM metric m JOIN series e ON e.metric_id = m.id
        WHERE %(like)s::text IS NULL OR m.name LIKE %(like)s
        GROUP BY m.name, m.type, m.unit
        ORDER BY m.name, m.type, m.unit
        """,
        {"like": None if pattern is None else _like(pattern)},
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
