"""The few forms that queries of the store have: gauges over time, counters as rates, and latest values.

Panels read the view that `DETAIL` chooses by the time range: the raw points up to six hours, the rollups by minute up
to a week, those by hour beyond. Its columns are the same, but for the latest reading of an interval and its time:
`READINGS` has these.

What is not known is not shown: no query makes a zero of nothing.
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
READINGS = from_sql(
    "readings",
    "Readings",
    """
SELECT CASE '$points' WHEN 'metrics' THEN 'value AS reading, time AS at'
  ELSE 'last AS reading, coalesce(last_time, time) AS at' END""",
    "The columns of that view with a counter's latest reading, and the time of it.",
    hidden=True,
)
VARIABLES: tuple[Json, ...] = (DETAIL, READINGS)

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


def whole_intervals(time: str = "time") -> str:
    """Return the SQL of the condition that a time is in an interval which the time range holds from end to end.

    What adds up over an interval is too low in one that has only begun, and its curve would end in a cliff.
    """
    seconds = "($__interval_ms / 1000.0)"
    return (
        f"{time} >= to_timestamp(ceil(extract(epoch FROM $__timeFrom()::timestamptz) / {seconds}) * {seconds})"
        f" AND {time} < to_timestamp(floor(extract(epoch FROM $__timeTo()::timestamptz) / {seconds}) * {seconds})"
    )


def like(variable: str) -> str:
    """Return the SQL of a pattern for ILIKE: what was typed into a text box, anywhere; * stands for anything.

    Whatever is typed is a pattern: backslashes, percent signs and underscores stand for themselves.
    """
    escaped = f"'${variable}'"
    for character in ("\\", "%", "_"):
        escaped = f"replace({escaped}, '{character}', '\\{character}')"
    return f"'%' || replace({escaped}, '*', '%') || '%'"


def pattern_for_loki(variable: str) -> Json:
    """Return a hidden variable with what `like` matches as a regular expression, for a string of LogQL in quotes."""
    escaped = rf"regexp_replace('${variable}', '([][\\^$+?.(){{}}|])', '\\\1', 'g')"
    return from_sql(
        f"{variable}_pattern",
        f"{variable} as a pattern",
        f"SELECT '(?i).*' || replace(replace(replace({escaped}, '*', '.*'), '\\', '\\\\'), '\"', '\\\"') || '.*'",
        "What is typed above, as Loki's expressions have it.",
        hidden=True,
    )


def summed_gauge(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "") -> str:
    """Return the query of a gauge of which each label adds up several series, at each time."""
    positions = ", ".join(str(number + 1) for number in range(len(labels) + 1))
    columns = "".join(f", {label}" for label in labels)
    return f"""
SELECT time{columns}, sum(value) AS value
FROM (
  SELECT $__timeGroup(time, $__interval) AS time{_labels(labels)}, series_id, avg(value) AS value
  FROM $points
  WHERE {_names(name)} AND $__timeFilter(time) AND {whole_intervals()}{_also(where)}
  GROUP BY {positions}, series_id
) AS series
GROUP BY {positions}
ORDER BY 1"""


def rate(name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "", value: str = "sum(rate)") -> str:
    """Return the query of a counter's growth a second. A counter that fell was reset, and began anew from zero.

    It is the growth from one reading to the next by the time between them, whatever the intervals are.
    """
    positions = ", ".join(str(number + 1) for number in range(len(labels) + 1))
    columns = "".join(f", {label}" for label in labels)
    return f"""
SELECT time{columns}, {value} AS value
FROM (
  SELECT $__timeGroup(time, $__interval) AS time{columns}, series_id,
    sum(CASE WHEN reading >= before THEN reading - before ELSE reading END)
      / sum(extract(epoch FROM at - since)) AS rate
  FROM (
    SELECT *, lag(reading) OVER earlier AS before, lag(at) OVER earlier AS since
    FROM (
      SELECT time, series_id{_labels(labels)}, $readings
      FROM $points
      WHERE {_names(name)} AND $__timeFilter(time){_also(where)}
    ) AS points
    WHERE reading IS NOT NULL
    WINDOW earlier AS (PARTITION BY series_id ORDER BY at)
  ) AS readings
  WHERE since < at AND {whole_intervals()}
  GROUP BY {positions}, series_id
) AS rates
GROUP BY {positions}
ORDER BY 1"""


def increase(
    name: str | tuple[str, ...], labels: Mapping[str, str], where: str = "", sign_of_life: str | tuple[str, ...] = ()
) -> str:
    """Return the query of how much a counter grew in the time range: one number, or a table with one for each label.

    A series that has no reading in the first twentieth of the range began within it, from zero: a counter of failures
    often does not exist before the first one. So no growth is known only of who is heard of, by this metric or by a
    ``sign_of_life``, in the last ten minutes of the range; of who is not, there is no row.
    """
    columns = "".join(f"{label}, " for label in labels)
    positions = ", ".join(str(number + 1) for number in range(len(labels)))
    both = (*((name,) if isinstance(name, str) else name),
            *((sign_of_life,) if isinstance(sign_of_life, str) else sign_of_life))  # fmt: skip
    growth = "sum(CASE WHEN reading >= before THEN reading - before ELSE reading END)"
    ending = (
        f"GROUP BY {positions}\nORDER BY value DESC"
        if labels
        else f"""HAVING {growth} > 0 OR EXISTS (
  SELECT FROM metrics
  WHERE {_names(both)} AND $__timeFilter(time) AND time > $__timeTo()::timestamptz - interval '10 minutes'
)"""
    )
    return f"""
SELECT {columns}coalesce({growth}, 0) AS value
FROM (
  SELECT *, coalesce(lag(reading) OVER earlier, CASE
      WHEN time > $__timeFrom()::timestamptz + ($__timeTo()::timestamptz - $__timeFrom()::timestamptz) / 20 THEN 0
    END) AS before
  FROM (
    SELECT time, series_id{_labels(labels)}, $readings
    FROM $points
    WHERE {_names(name)} AND $__timeFilter(time){_also(where)}
  ) AS points
  WHERE reading IS NOT NULL
  WINDOW earlier AS (PARTITION BY series_id ORDER BY at)
) AS readings
WHERE before IS NOT NULL
{ending}"""


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
