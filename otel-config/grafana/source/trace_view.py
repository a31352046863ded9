"""Trace: the spans and logs of one trace in the store, as Grafana draws those of Tempo."""

from __future__ import annotations

from model import Dashboard, Row, from_sql, logql, sql, textbox
from panels import LEVEL, log_table, logs, traces

# The column names of Grafana's own: TraceSpanRow of its package @grafana/data. Times are in milliseconds.
SPANS = """
SELECT trace_id AS "traceID", span_id AS "spanID", parent_span_id AS "parentSpanID", name AS "operationName",
  coalesce(service_name, 'unknown') AS "serviceName", resource ->> 'service.namespace' AS "serviceNamespace", kind,
  start_time_unix_nano::float8 / 1e6 AS "startTime", coalesce(duration_ms, 0) AS duration,
  CASE status WHEN 'ok' THEN 1 WHEN 'error' THEN 2 ELSE 0 END AS "statusCode",
  coalesce(status_message, '') AS "statusMessage", coalesce(trace_state, '') AS "traceState",
  coalesce(scope_name, '') AS "instrumentationLibraryName", scope_version AS "instrumentationLibraryVersion",
  (SELECT coalesce(jsonb_agg(jsonb_build_object('key', key, 'value', value) ORDER BY key), '[]')
    FROM jsonb_each(attributes || CASE status WHEN 'error' THEN '{"error": true}'::jsonb ELSE '{}' END))::text AS tags,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('key', key, 'value', value) ORDER BY key), '[]')
    FROM jsonb_each(coalesce(resource, '{}')))::text AS "serviceTags",
  (SELECT coalesce(jsonb_agg(jsonb_build_object('timestamp', (event ->> 'time_unix_nano')::float8 / 1e6,
      'name', event ->> 'name', 'fields',
      (SELECT coalesce(jsonb_agg(jsonb_build_object('key', key, 'value', value) ORDER BY key), '[]')
        FROM jsonb_each(event -> 'attributes')))), '[]')
    FROM jsonb_array_elements(coalesce(events, '[]')) AS event)::text AS logs,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('traceID', link ->> 'trace_id', 'spanID', link ->> 'span_id', 'tags',
      (SELECT coalesce(jsonb_agg(jsonb_build_object('key', key, 'value', value) ORDER BY key), '[]')
        FROM jsonb_each(link -> 'attributes')))), '[]')
    FROM jsonb_array_elements(coalesce(links, '[]')) AS link)::text AS "references"
FROM spans
WHERE trace_id = lower(trim('$trace'))
ORDER BY start_time_unix_nano
LIMIT 5000"""

ID = from_sql(
    "id",
    "Trace id",
    "SELECT coalesce(nullif(lower(regexp_replace('$trace', '[^0-9a-fA-F]', '', 'g')), ''), 'none')",
    "What is typed above, without what no trace id has: for a string of LogQL.",
    hidden=True,
)

DASHBOARD = Dashboard(
    uid="obs-hub-trace",
    title="Trace",
    description="Spans and logs of one trace in the store. Other dashboards link here; or enter its id.",
    variables=(textbox("trace", "Trace", "The trace's id, 32 hexadecimal digits."), ID),
    rows=(
        Row(
            "Trace",
            (
                traces(
                    "Spans",
                    sql(SPANS, "table"),
                    description="The spans of the trace, each below the one that called it, and when they took place. "
                    "Click one for its attributes, events and links. At most 5000.",
                ),
                log_table(
                    "Logs of the trace",
                    sql(
                        f"""
SELECT time AS "Time", {LEVEL} AS "Level", host_name AS "Host", service_name AS "Service",
  concat_ws(' ', event_name, body) AS "Message", trace_id AS "Trace"
FROM logs
WHERE trace_id = lower(trim('$trace'))
ORDER BY time LIMIT 1000""",
                        "table",
                    ),
                    description="Log records and events that were made within the trace, from the store.",
                    of="Service",
                    of_width=150,
                    height=10,
                ),
            ),
        ),
        Row(
            "Logs of the trace, in Loki",
            (
                logs(
                    "Logs of the trace (Loki)",
                    logql('{service_name=~".+"} | trace_id="${id:raw}"'),
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
