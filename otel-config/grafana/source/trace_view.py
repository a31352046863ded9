"""Trace: the spans and logs of one trace in the store, for those who have no Tempo."""

from __future__ import annotations

from model import Dashboard, Row, from_sql, logql, sql, textbox
from panels import GREEN, OPEN_TRACE, RED, logs, override, steps, table

SERVICES = from_sql(
    "service",
    "Service",
    "SELECT DISTINCT service_name FROM resource WHERE service_name IS NOT NULL ORDER BY 1",
    "Services whose traces are listed.",
)

SPANS = """
WITH RECURSIVE spans_of_trace AS (
  SELECT * FROM spans WHERE trace_id = lower('$trace') LIMIT 5000
), tree AS (
  SELECT span_id, 0 AS depth, ARRAY[start_time_unix_nano::text, span_id] AS path
  FROM spans_of_trace s
  WHERE NOT EXISTS (SELECT FROM spans_of_trace p WHERE p.span_id = s.parent_span_id)
  UNION ALL
  SELECT s.span_id, t.depth + 1, t.path || ARRAY[s.start_time_unix_nano::text, s.span_id]
  FROM tree t JOIN spans_of_trace s ON s.parent_span_id = t.span_id
  WHERE t.depth < 100 AND s.span_id <> ALL (t.path)
)
SELECT repeat('   ', depth) || name AS "Span", service_name AS "Service", host_name AS "Host", kind AS "Kind",
  (start_time_unix_nano - min(start_time_unix_nano) OVER ())::float8 / 1e6 AS "Begins after",
  duration_ms AS "Took", status AS "Status", status_message AS "Message",
  attributes::text AS "Attributes", s.span_id AS "Id"
FROM tree JOIN spans_of_trace s USING (span_id)
ORDER BY path"""

DASHBOARD = Dashboard(
    uid="obs-hub-trace",
    title="Trace",
    description="Spans and logs of one trace. Other dashboards link here; choose one of the slowest, or enter its id.",
    variables=(textbox("trace", "Trace", "The trace's id, 32 hexadecimal digits."), SERVICES),
    rows=(
        Row(
            "Trace",
            (
                table(
                    "Spans",
                    sql(SPANS, "table"),
                    description="The spans of the trace, each below the one that called it.",
                    overrides=(
                        override("Span", custom_width=360),
                        override("Begins after", unit="ms", custom_width=120),
                        override(
                            "Took",
                            unit="ms",
                            min=0,
                            color={"mode": "continuous-BlPu"},
                            custom_cellOptions={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
                        ),
                        override(
                            "Status",
                            custom_width=90,
                            custom_cellOptions={"type": "color-text"},
                            mappings=[
                                {
                                    "type": "value",
                                    "options": {
                                        "error": {"color": RED, "index": 0},
                                        "ok": {"color": GREEN, "index": 1},
                                    },
                                }
                            ],
                        ),
                    ),
                    height=12,
                ),
                logs(
                    "Logs of the trace",
                    sql(
                        """
SELECT time, body, lower(severity) AS level, service_name AS service, host_name AS host, event_name AS event, span_id
FROM logs WHERE trace_id = lower('$trace') AND $__timeFilter(time)
ORDER BY time LIMIT 1000""",
                        "table",
                    ),
                    description="Log records and events that were made within the trace, from the store.",
                    height=10,
                ),
            ),
        ),
        Row(
            "Slowest traces",
            (
                table(
                    "Slowest traces",
                    sql(
                        """
SELECT time AS "Began", service_name AS "Service", name AS "Operation", duration_ms AS "Took",
  status AS "Status", trace_id AS "Trace"
FROM spans
WHERE $__timeFilter(time) AND parent_span_id IS NULL AND service_name = ANY (ARRAY[$service]::text[])
ORDER BY duration_ms DESC NULLS LAST LIMIT 100""",
                        "table",
                    ),
                    description="The first spans of traces in the time range, the longest first. Click a "
                    "trace to see it.",
                    overrides=(
                        override("Took", unit="ms", thresholds=steps((None, GREEN))),
                        override("Trace", links=[OPEN_TRACE]),
                    ),
                    height=10,
                ),
            ),
        ),
        Row(
            "Logs of the trace, in Loki",
            (
                logs(
                    "Logs of the trace (Loki)",
                    logql('{service_name=~".+"} | trace_id="$trace"'),
                    description="Log records that were made within the trace, from Loki.",
                    height=10,
                ),
            ),
            collapsed=True,
        ),
    ),
    since="now-24h",
    refresh="",
)
