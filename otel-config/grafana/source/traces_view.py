"""Traces: how often, how long and how well services work, and the traces to look at."""

from __future__ import annotations

from model import Dashboard, Panel, Row, custom, from_sql, sql, textbox
from panels import GREEN, OPEN_TRACE, ORANGE, RED, link, override, stat, steps, table, timeseries
from queries import like, whole_intervals

SERVICES = from_sql(
    "service",
    "Service",
    "SELECT DISTINCT service_name FROM resources WHERE service_name IS NOT NULL ORDER BY 1",
    "Services whose spans are shown.",
)
KINDS = custom(
    "kind", "Kind", ("server", "consumer", "client", "producer", "internal", "unspecified"), "Kinds of spans."
)
VARIABLES = (
    SERVICES,
    textbox("operation", "Operation", "Part of a span's name; * stands for anything. Empty for all."),
    KINDS,
    textbox("least", "At least, ms", "Only spans that took so long. Empty for all."),
)

LEAST = "coalesce(substring('$least' FROM '^ *([0-9]{1,9}([.][0-9]{1,6})?) *$'), '0')::float8"
SPANS = f"""$__timeFilter(time) AND service_name = ANY (ARRAY[$service]::text[])
  AND kind = ANY (ARRAY[$kind]::text[]) AND name ILIKE {like("operation")} AND coalesce(duration_ms, 0) >= {LEAST}"""
FAILED = "count(*) FILTER (WHERE status = 'error')"
BAD_SHARE = steps((None, GREEN), (0.01, ORANGE), (0.05, RED))


def took(share: float) -> str:
    """Return the SQL of the time within which a share of the spans was done, in milliseconds."""
    return f"percentile_cont({share:g}) WITHIN GROUP (ORDER BY duration_ms)"


def _number(title: str, expression: str, description: str, unit: str, thresholds: object = None) -> Panel:
    return stat(
        title,
        sql(f"SELECT {expression} AS value FROM spans WHERE {SPANS} HAVING count(*) > 0", "table"),
        description=description,
        unit=unit,
        thresholds=thresholds,  # type: ignore[arg-type]
        width=6,
    )


def _curve(title: str, expression: str, description: str, unit: str, high: float | None = None) -> Panel:
    return timeseries(
        title,
        sql(
            f"SELECT $__timeGroup(time, $__interval) AS time, service_name AS service, {expression} AS value\n"
            f"FROM spans WHERE {SPANS} AND {whole_intervals()}\nGROUP BY 1, 2 ORDER BY 1"
        ),
        description=description,
        unit=unit,
        high=high,
        name="${__field.labels.service}",
        width=8,
    )


ONLY_THIS = link(
    "Only ${__value.text}",
    "/d/obs-hub-traces/traces?var-service=${__data.fields.Service:percentencode}"
    "&var-operation=${__value.text:percentencode}&${__url_time_range}",
)
OF_SPANS = {"Began": 180, "Service": 150, "Took": 100, "Status": 75, "Message": 200, "Trace": 130}

DASHBOARD = Dashboard(
    uid="obs-hub-traces",
    title="Traces",
    description="How often services are called, how long that takes and how often it fails; and the traces behind it.",
    variables=VARIABLES,
    rows=(
        Row(
            "Services",
            (
                _number("Spans", "count(*)", "Spans of what is chosen above, in the time range.", "short"),
                _number(
                    "Failed",
                    f"{FAILED}::float8 / count(*)",
                    "Share of them with the status error.",
                    "percentunit",
                    BAD_SHARE,
                ),
                _number("Half took at most", took(0.5), "Half of them were done within this.", "ms"),
                _number("95 % took at most", took(0.95), "95 % of them were done within this.", "ms"),
                _curve("Rate", "count(*) / ($__interval_ms / 1000.0)", "Spans a second, by service.", "cps"),
                _curve(
                    "Failures",
                    f"{FAILED}::float8 / count(*)",
                    "Share of spans with the status error.",
                    "percentunit",
                    1,
                ),
                _curve("95 % took", took(0.95), "The time within which 95 % of the spans were done.", "ms"),
            ),
        ),
        Row(
            "Operations",
            (
                table(
                    "Operations",
                    sql(
                        f"""
SELECT service_name AS "Service", name AS "Operation", kind AS "Kind", count(*) AS "Spans",
  {FAILED}::float8 / count(*) AS "Failed", {took(0.5)} AS "Half", {took(0.95)} AS "95 %", max(duration_ms) AS "Longest",
  sum(duration_ms) AS "In all"
FROM spans WHERE {SPANS}
GROUP BY 1, 2, 3 ORDER BY 9 DESC NULLS LAST LIMIT 100""",
                        "table",
                    ),
                    description="What services do, by the time that it takes in all. Click an operation to see only it.",
                    widths={
                        "Service": 150,
                        "Kind": 90,
                        "Spans": 90,
                        "Failed": 85,
                        "Half": 95,
                        "95 %": 95,
                        "Longest": 95,
                        "In all": 95,
                    },
                    overrides=(
                        override("Operation", links=[ONLY_THIS]),
                        override(
                            "Failed",
                            unit="percentunit",
                            thresholds=BAD_SHARE,
                            custom_cellOptions={"type": "color-text"},
                        ),
                        *(override(column, unit="ms") for column in ("Half", "95 %", "Longest", "In all")),
                    ),
                    height=9,
                ),
            ),
        ),
        Row(
            "Traces",
            (
                table(
                    "Longest spans",
                    sql(
                        f"""
SELECT time AS "Began", service_name AS "Service", name AS "Operation", duration_ms AS "Took", status AS "Status",
  status_message AS "Message", trace_id AS "Trace"
FROM spans WHERE {SPANS}
ORDER BY duration_ms DESC NULLS LAST LIMIT 100""",
                        "table",
                    ),
                    description="The longest spans of what is chosen. Click a trace to see all of it.",
                    widths=OF_SPANS,
                    overrides=(override("Took", unit="ms"), override("Trace", links=[OPEN_TRACE])),
                    height=10,
                ),
                table(
                    "Latest failures",
                    sql(
                        f"""
SELECT time AS "Began", service_name AS "Service", name AS "Operation", duration_ms AS "Took", status AS "Status",
  status_message AS "Message", trace_id AS "Trace"
FROM spans WHERE {SPANS} AND status = 'error'
ORDER BY time DESC LIMIT 100""",
                        "table",
                    ),
                    description="The newest spans with the status error. Click a trace to see all of it.",
                    widths=OF_SPANS,
                    overrides=(override("Took", unit="ms"), override("Trace", links=[OPEN_TRACE])),
                    height=10,
                ),
            ),
        ),
    ),
    since="now-1h",
)
