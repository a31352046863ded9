"""The few forms that queries of the store have: gauges over time, counters as rates, and latest values.

Panels read the view that `DETAIL` chooses by the time range: the raw points up to six hours, the rollups by minute up
to a week, those by hour beyond. Its columns are the same, but for the latest value of an interval: `LATEST` has the
name of that column.
"""

from __future__ import annotations

from collections.abc import Mapping

from model import Json, from_sql

DETAIL = from_sql(
    "points",
    "Detail",
    """
SELECT CASE
  WHEN $__timeTo()::timestamptz - $__timeFrom()::timestamptz <= interval '6 hours' THEN 'metrics'
  WHEN $__timeTo()::timestamptz - $__timeFrom()::timestamptz <= interval '7 days' THEN 'metrics_1m'
  ELSE 'metrics_1h'
END""",
    "The view that is read, by the time range.",
    hidden=True,
)
LATEST = from_sql(
    "latest",
    "Latest",
    "SELECT CASE '$points' WHEN 'metrics' THEN 'value' ELSE 'last' END",
    "The column with a counter's latest value in that view.",
    hidden=True,
)
VARIABLES: tuple[Json, ...] = (DETAIL, LATEST)

HOST = "host_name"


def attribute(name: str, of: str = "attributes") -> str:
    """Return the SQL of an attribute as text."""
    return f"{of} ->> '{name}'"


def resource(name: str) -> str:
    """Return the SQL of a resource attribute as text."""
    return attribute(name, "resource")


def _names(names: str | tuple[str, ...]) -> str:
    if isinstance(names, str):
        return f"name = '{names}'"
    return "name IN (" + ", ".join(f"'{name}'" for name in names) + ")"


def _labels(labels: Mapping[str, str]) -> str:
    return "".join(f", {expression} AS {label}" for label, expression in labels.items())


def _also(where: str) -> str:
    return f"\n  AND {where}" if where else ""


def gauge(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "", value: str = "avg(value)") -> str:
    """Return the query of a gauge over time, with the labels that name its curves: SQL by name of the label."""
    positions = ", ".join(str(number + 1) for number in range(len(labels) + 1))
    return f"""
SELECT $__timeGroup(time, $__interval) AS time{_labels(labels)}, {value} AS value
FROM $points
WHERE {_names(name)} AND $__timeFilter(time){_also(where)}
GROUP BY {positions}
ORDER BY 1"""


def summed_gauge(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "") -> str:
    """Return the query of a gauge of which each label adds up several series, at each time."""
    positions = ", ".join(str(number + 1) for number in range(len(labels) + 1))
    columns = "".join(f", {label}" for label in labels)
    return f"""
SELECT time{columns}, sum(value) AS value
FROM (
  SELECT $__timeGroup(time, $__interval) AS time{_labels(labels)}, series_id, avg(value) AS value
  FROM $points
  WHERE {_names(name)} AND $__timeFilter(time){_also(where)}
  GROUP BY {positions}, series_id
) AS series
GROUP BY {positions}
ORDER BY 1"""


def rate(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "", value: str = "sum(rate)") -> str:
    """Return the query of a counter's growth a second. A counter that fell was reset, and began anew from zero."""
    positions = ", ".join(str(number + 1) for number in range(len(labels) + 1))
    columns = "".join(f", {label}" for label in labels)
    return f"""
SELECT time{columns}, {value} AS value
FROM (
  SELECT $__timeGroup(time, $__interval) AS time{columns}, series_id,
    sum(CASE WHEN reading >= before THEN reading - before ELSE reading END)
      / sum(extract(epoch FROM time - since)) AS rate
  FROM (
    SELECT time, series_id{_labels(labels)}, $latest AS reading, lag($latest) OVER earlier AS before,
      lag(time) OVER earlier AS since
    FROM $points
    WHERE {_names(name)} AND $__timeFilter(time) AND $latest IS NOT NULL{_also(where)}
    WINDOW earlier AS (PARTITION BY series_id ORDER BY time)
  ) AS readings
  WHERE since < time
  GROUP BY {positions}, series_id
) AS rates
GROUP BY {positions}
ORDER BY 1"""


def increase(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "") -> str:
    """Return the query of how much a counter grew in the time range: one number, or a table with one for each label.

    Without labels there is always a row: 0 where nothing was counted. A series that has no reading in the first
    twentieth of the range began within it, from zero: a counter of failures often does not exist before the first one.
    """
    columns = "".join(f"{label}, " for label in labels)
    positions = ", ".join(str(number + 1) for number in range(len(labels)))
    return f"""
SELECT {columns}coalesce(sum(CASE WHEN reading >= before THEN reading - before ELSE reading END), 0) AS value
FROM (
  SELECT time{_labels(labels)}, $latest AS reading,
    coalesce(lag($latest) OVER earlier, CASE
      WHEN time > $__timeFrom()::timestamptz + ($__timeTo()::timestamptz - $__timeFrom()::timestamptz) / 20 THEN 0
    END) AS before
  FROM $points
  WHERE {_names(name)} AND $__timeFilter(time) AND $latest IS NOT NULL{_also(where)}
  WINDOW earlier AS (PARTITION BY series_id ORDER BY time)
) AS readings
WHERE before IS NOT NULL""" + (f"\nGROUP BY {positions}\nORDER BY value DESC" if labels else "")


def now(name: str | tuple[str, ...], columns: str, where: str = "") -> str:
    """Return a query of the latest point of each series in the last ten minutes of the time range, as ``latest``.

    What is written after it reads that: ``now(...) + "SELECT ... FROM latest"``.
    """
    return f"""
WITH latest AS (
  SELECT DISTINCT ON (series_id) time, name, value, {columns}
  FROM metrics
  WHERE {_names(name)} AND $__timeFilter(time)
    AND time > $__timeTo()::timestamptz - interval '10 minutes' AND value IS NOT NULL{_also(where)}
  ORDER BY series_id, time DESC
)
"""
