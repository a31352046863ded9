"""What a chart shows as SQL and as PromQL, for whoever wants to go on elsewhere, such as in Grafana.

SQL gives the same values at the same times: those of an interval at its start. PromQL has those of the interval before
a time; its ``rate`` extrapolates, so that it comes to the same where points come regularly.
"""

# ruff: noqa: S608 - what is written here is shown, and never run; whatever is not of this module is quoted all the same

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from psycopg import sql

from gateway.query import names
from gateway.query.charts.buckets import Source
from gateway.query.charts.lines import Chart, Question, Show
from gateway.query.metrics.catalogue import DELTA
from gateway.query.names import Translation

GRAFANA_TIME = "$__timeFilter(time)"
_LEGACY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_UNITS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def literal(text: str) -> str:
    """Return text as SQL has it."""
    return sql.Literal(text).as_string(None)


def time_condition(chart: Chart, ago: str | None = None) -> str:
    """Return the condition on the time: up to now, where ``ago`` says from when, such as ``1 hour``."""
    if ago is not None:
        return f"time >= now() - interval '{ago}'"
    start, end = (datetime.fromtimestamp(at, UTC).isoformat() for at in (chart.window.start, chart.window.end))
    return f"time >= '{start}' AND time < '{end}'"


def as_sql(chart: Chart, during: str) -> str:
    """Return one SELECT with the columns ``time``, those that it is grouped by, and ``value``."""
    if chart.show.quantile is not None:
        return _quantiles(chart, during, chart.show.quantile)
    if chart.show is Show.MEAN:
        return _means(chart, during)
    return _values(chart, during) if chart.show is Show.VALUE else _rates(chart, during)


def _view(chart: Chart) -> str:
    if chart.metric.is_number:
        return str(chart.source)
    return "summaries" if chart.metric.type == "summary" else "histograms"


def _where(chart: Chart, during: str) -> str:
    question = chart.question
    conditions = [f"name = {literal(question.metric)}"]
    if question.host is not None:
        conditions.append(f"host_name = {literal(question.host)}")
    if question.service is not None:
        conditions.append(f"service_name = {literal(question.service)}")
    conditions += [f"{_attribute(key)} = {literal(value)}" for key, value in question.only]
    conditions += [f"{_attribute(key)} IS DISTINCT FROM {literal(value)}" for key, value in question.without]
    return " AND ".join([*conditions, during])


def _attribute(key: str) -> str:
    match key:
        case "host.name":
            return "host_name"
        case "service.name":
            return "service_name"
        case _:
            return f"coalesce(attributes ->> {literal(key)}, resource ->> {literal(key)})"


def _columns(question: Question) -> list[tuple[str, str]]:
    """Return what is grouped by: each as SQL, and the name of its column."""
    return [(_attribute(key), sql.Identifier(key).as_string(None)) for key in question.by]


def _bin(chart: Chart, column: str = "time") -> str:
    return f"date_bin('{chart.window.step} s', {column}, '1970-01-01Z')"


def _positions(count: int) -> str:
    return ", ".join(str(n + 1) for n in range(count))


def _groups(question: Question) -> tuple[int, str, str]:
    """Return how many columns points are grouped by; these as a SELECT names them, and by their names alone."""
    columns = _columns(question)
    named = "".join(f", {its_sql} AS {name}" for its_sql, name in columns)
    return len(columns), named, "".join(f", {name}" for _, name in columns)


def _values(chart: Chart, during: str) -> str:
    count, named, known = _groups(chart.question)
    combine = "avg" if chart.metric.type == "gauge" else "sum"
    mean = "avg(value)" if chart.source is Source.POINTS else "sum(sum) / sum(count)"
    where = _where(chart, during)
    return (
        f"SELECT time{known}, {combine}(value) AS value\n"
        f"FROM (\n"
        f"    SELECT {_bin(chart)} AS time, series_id{named}, {mean} AS value\n"
        f"    FROM {_view(chart)}\n"
        f"    WHERE {where}\n"
        f"    GROUP BY {_positions(2 + count)}\n"
        f") AS each_series\n"
        f"GROUP BY {_positions(1 + count)}\n"
        f"ORDER BY 1"
    )


def _rates(chart: Chart, during: str) -> str:
    count, named, known = _groups(chart.question)
    where = _where(chart, during)
    if chart.metric.temporality == DELTA:
        total = "count" if not chart.metric.is_number else "value" if chart.source is Source.POINTS else "sum"
        return (
            f"SELECT {_bin(chart)} AS time{named}, sum({total}) / {chart.window.step} AS value\n"
            f"FROM {_view(chart)}\n"
            f"WHERE {where}\n"
            f"GROUP BY {_positions(1 + count)}\n"
            f"ORDER BY 1"
        )
    value, at = ("value", "time") if chart.source is Source.POINTS else ("last", "last_time")
    value = value if chart.metric.is_number else "count"
    change = f"{value} - lag({value}) OVER earlier"
    if chart.metric.is_monotonic or not chart.metric.is_number:
        change = f"CASE WHEN {value} < lag({value}) OVER earlier THEN {value} ELSE {change} END"
    return (
        f"SELECT time{known}, sum(rate) AS value\n"
        f"FROM (\n"
        f"    SELECT {_bin(chart)} AS time, series_id{known}, sum(change) / nullif(sum(seconds), 0) AS rate\n"
        f"    FROM (\n"
        f"        SELECT time, series_id{named},\n"
        f"            {change} AS change,\n"
        f"            extract(epoch FROM {at} - lag({at}) OVER earlier)::float8 AS seconds\n"
        f"        FROM {_view(chart)}\n"
        f"        WHERE {where}\n"
        f"        WINDOW earlier AS (PARTITION BY series_id ORDER BY time)\n"
        f"    ) AS points\n"
        f"    WHERE seconds > 0\n"
        f"    GROUP BY {_positions(2 + count)}\n"
        f") AS each_series\n"
        f"GROUP BY {_positions(1 + count)}\n"
        f"ORDER BY 1"
    )


def _means(chart: Chart, during: str) -> str:
    count, named, known = _groups(chart.question)
    where = _where(chart, during)
    if chart.metric.temporality == DELTA:
        return (
            f"SELECT {_bin(chart)} AS time{named}, sum(sum) / nullif(sum(count), 0)::float8 AS value\n"
            f"FROM {_view(chart)}\n"
            f"WHERE {where}\n"
            f"GROUP BY {_positions(1 + count)}\n"
            f"ORDER BY 1"
        )
    return (
        f"SELECT {_bin(chart)} AS time{known}, sum(added) / nullif(sum(counted), 0)::float8 AS value\n"
        f"FROM (\n"
        f"    SELECT time{named},\n"
        f"        CASE WHEN count < lag(count) OVER earlier THEN count\n"
        f"            ELSE count - lag(count) OVER earlier END AS counted,\n"
        f"        CASE WHEN count < lag(count) OVER earlier THEN sum ELSE sum - lag(sum) OVER earlier END AS added\n"
        f"    FROM {_view(chart)}\n"
        f"    WHERE {where}\n"
        f"    WINDOW earlier AS (PARTITION BY series_id ORDER BY time)\n"
        f") AS points\n"
        f"GROUP BY {_positions(1 + count)}\n"
        f"ORDER BY 1"
    )


def _quantiles(chart: Chart, during: str, part: float) -> str:
    count, named, known = _groups(chart.question)
    where = _where(chart, during)
    if chart.metric.temporality == DELTA:
        before, earlier, counted, later = "", "", "here", ""
    else:
        before = ",\n        lag(bucket_counts) OVER earlier AS before, count < lag(count) OVER earlier AS began"
        earlier = "\n    WINDOW earlier AS (PARTITION BY series_id, explicit_bounds ORDER BY time)"
        counted, later = "here - CASE WHEN began THEN 0 ELSE gone END", "\n    WHERE gone IS NOT NULL"
    arrays, columns = (
        ("bounds, counts", "upper, here") if not before else ("bounds, counts, before", "upper, here, gone")
    )
    return (
        f"WITH points AS (\n"
        f"    SELECT time{named}, explicit_bounds AS bounds, bucket_counts AS counts{before}\n"
        f"    FROM {_view(chart)}\n"
        f"    WHERE {where}{earlier}\n"
        f"), buckets AS (\n"
        f"    SELECT {_bin(chart)} AS time{known}, coalesce(upper, 'Infinity') AS upper,\n"
        f"        sum({counted})::float8 AS counted\n"
        f"    FROM points, unnest({arrays}) AS bucket ({columns}){later}\n"
        f"    GROUP BY {_positions(2 + count)}\n"
        f"), ranks AS (\n"
        f"    SELECT time{known}, upper, counted, coalesce(lag(upper) OVER smaller, least(upper, 0)) AS lower,\n"
        f"        sum(counted) OVER smaller AS upto, {part:g} * sum(counted) OVER (PARTITION BY time{known}) AS rank\n"
        f"    FROM buckets\n"
        f"    WINDOW smaller AS (PARTITION BY time{known} ORDER BY upper)\n"
        f")\n"
        f"SELECT DISTINCT ON ({_positions(1 + count)}) time{known}, CASE WHEN upper = 'Infinity' THEN lower\n"
        f"    ELSE lower + (upper - lower) * (rank - (upto - counted)) / nullif(counted, 0) END AS value\n"
        f"FROM ranks\n"
        f"WHERE rank > 0 AND upto >= rank\n"
        f"ORDER BY {_positions(1 + count)}, upper"
    )


# -- PromQL ------------------------------------------------------------------------------------------------------------


def as_promql(chart: Chart, translation: Translation) -> str | None:
    """Return one query; None where the metric has no name in PromQL."""
    metric, question = chart.metric, chart.question
    name = names.metric_name(translation.strategy, metric.name, metric.unit, metric.type, monotonic=metric.is_monotonic)
    if name is None:
        return None
    by, its_host = _by(question, translation), _of_host(question, translation)
    if metric.is_number and chart.show is Show.VALUE:
        inner = f"avg_over_time({_selector(name, question, translation)}[{duration(chart.window.step)}])"
        combine = "avg" if metric.type == "gauge" else "sum"
        return f"{combine} {by}({inner}{its_host})"
    length = duration(max(chart.window.step, 4 * chart.spacing))

    def rate(part: str) -> str:
        if metric.type == "exponential_histogram":
            selected = f"rate({_selector(name, question, translation)}[{length}])"
            return f"sum {by}(histogram_{part}({selected}{its_host}))"
        suffix = "" if metric.is_number else f"_{part}"
        return f"sum {by}(rate({_selector(name + suffix, question, translation)}[{length}]){its_host})"

    if chart.show.quantile is not None:
        buckets = _selector(f"{name}_bucket", question, translation)
        labels = [*(_label(key, translation) for key in question.by), "le"]
        by = f"by ({', '.join(map(_quoted_label, labels))}) "
        return f"histogram_quantile({chart.show.quantile:g}, sum {by}(rate({buckets}[{length}]){its_host}))"
    counted = rate("count")
    return f"{rate('sum')} / {counted}" if chart.show is Show.MEAN else counted


def _by(question: Question, translation: Translation) -> str:
    labels = [_label(key, translation) for key in question.by]
    return f"by ({', '.join(_quoted_label(label) for label in labels)}) " if labels else ""


def _label(key: str, translation: Translation) -> str:
    if key == "service.name" and not translation.promotes(key):
        return names.JOB
    return names.label_name(translation.strategy, key) or key


def _quoted_label(label: str) -> str:
    return label if _LEGACY.fullmatch(label) else json.dumps(label, ensure_ascii=False)


def _selector(name: str, question: Question, translation: Translation) -> str:
    conditions = []
    if not _LEGACY.fullmatch(name.replace(":", "_")):
        conditions.append(json.dumps(name, ensure_ascii=False))
        name = ""
    if question.host is not None and translation.promotes("host.name"):
        conditions.append(_matches("host.name", "=", question.host, translation))
    if question.service is not None:
        conditions.append(_job(question.service))
    conditions += [_matches(key, "=", value, translation) for key, value in question.only]
    conditions += [_matches(key, "!=", value, translation) for key, value in question.without]
    return name + (f"{{{', '.join(conditions)}}}" if conditions else "")


def _matches(key: str, how: str, value: str, translation: Translation) -> str:
    if key == "service.name" and not translation.promotes(key):
        return _job(value)
    return f"{_quoted_label(_label(key, translation))}{how}{json.dumps(value, ensure_ascii=False)}"


def _job(service: str) -> str:
    """Match a service: ``job`` is its name, after its namespace where it has one."""
    return f"{names.JOB}=~{json.dumps('(.+/)?' + re.escape(service), ensure_ascii=False)}"


def _of_host(question: Question, translation: Translation) -> str:
    """Where the name of the host is no label of series, it is one of ``target_info``."""
    if question.host is None or translation.promotes("host.name"):
        return ""
    label = _quoted_label(_label("host.name", translation))
    return f" and on (job, instance) target_info{{{label}={json.dumps(question.host, ensure_ascii=False)}}}"


def duration(seconds: float) -> str:
    """Return a length of time as PromQL has it, in one unit, rounded up to a second."""
    whole = max(int(-(-seconds // 1)), 1)
    return next(f"{whole // size}{unit}" for size, unit in _UNITS if whole % size == 0)
