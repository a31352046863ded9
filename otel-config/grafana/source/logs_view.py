"""Logs: the log records of everything that sends any, from the store."""

from __future__ import annotations

from model import Dashboard, Panel, Row, custom, from_sql, sql, textbox
from panels import (
    BLUE,
    LEVEL,
    LEVEL_CURVES,
    ORANGE,
    RED,
    count_of_logs,
    link,
    log_table,
    override,
    table,
    timeseries,
)
from queries import like

SERVICE, HOST = "coalesce(service_name, 'no service')", "coalesce(host_name, 'no host')"
LEVELS = ("fatal", "error", "warning", "info", "debug", "trace", "unknown")
VARIABLES = (
    from_sql("host", "Host", f"SELECT DISTINCT {HOST} FROM resources ORDER BY 1", "Hosts, of any signal."),
    from_sql("service", "Service", f"SELECT DISTINCT {SERVICE} FROM resources ORDER BY 1", "Services, of any signal."),
    custom("level", "Level", LEVELS, "How severe."),
    textbox("search", "Search", "Part of a message; * stands for anything. Empty for all."),
)
RECORDS = f"""$__timeFilter(time) AND {HOST} = ANY (ARRAY[$host]::text[]) AND {SERVICE} = ANY (ARRAY[$service]::text[])
  AND {LEVEL} = ANY (ARRAY[$level]::text[]) AND concat_ws(' ', event_name, body) ILIKE {like("search")}"""


def _count(title: str, condition: str, description: str, color: str) -> Panel:
    return count_of_logs(title, condition, description, color, of=RECORDS, name="records", width=6)


ONLY_SERVICE = link(
    "Only ${__value.text}", "/d/obs-hub-logs/logs?var-service=${__value.text:percentencode}&${__url_time_range}"
)

DASHBOARD = Dashboard(
    uid="obs-hub-logs",
    title="Logs",
    description="Log records and events of every service in the store.",
    variables=VARIABLES,
    rows=(
        Row(
            "Logs",
            (
                _count("Records", "true", "Log records of what is chosen above, in the time range.", BLUE),
                _count("Warnings", "severity_number BETWEEN 13 AND 16", "Those that are warnings.", ORANGE),
                _count("Errors", "severity_number >= 17", "Those that are errors or worse.", RED),
                _count("With a trace", "trace_id IS NOT NULL", "Those that were made within a trace.", BLUE),
                timeseries(
                    "Records by level",
                    sql(
                        f"SELECT $__timeGroup(time, $__interval) AS time, {LEVEL} AS level, count(*) AS records\n"
                        f"FROM logs WHERE {RECORDS}\nGROUP BY 1, 2 ORDER BY 1"
                    ),
                    description="Log records in each interval.",
                    name="${__field.labels.level}",
                    stack=True,
                    bars=True,
                    overrides=LEVEL_CURVES,
                ),
                timeseries(
                    "Records by service",
                    sql(
                        f"""
WITH busiest AS (
  SELECT {SERVICE} AS service FROM logs WHERE {RECORDS} GROUP BY 1 ORDER BY count(*) DESC LIMIT 10
)
SELECT $__timeGroup(time, $__interval) AS time, {SERVICE} AS service, count(*) AS records
FROM logs WHERE {RECORDS} AND {SERVICE} IN (SELECT service FROM busiest)
GROUP BY 1, 2 ORDER BY 1"""
                    ),
                    description="Log records in each interval, of the ten services that log most.",
                    name="${__field.labels.service}",
                    stack=True,
                    bars=True,
                ),
                log_table(
                    "Latest records",
                    sql(
                        f"""
SELECT time AS "Time", {LEVEL} AS "Level", host_name AS "Host", {SERVICE} AS "Service",
  concat_ws(' ', event_name, body) AS "Message", trace_id AS "Trace"
FROM logs WHERE {RECORDS}
ORDER BY time DESC LIMIT 500""",
                        "table",
                    ),
                    description="The newest 500 records of what is chosen. Click a service to see only its records, and "
                    "a trace to see it.",
                    of="Service",
                    of_width=150,
                    links=(ONLY_SERVICE,),
                ),
            ),
        ),
        Row(
            "What is said most",
            (
                table(
                    "Messages",
                    sql(
                        f"""
SELECT {SERVICE} AS "Service", {LEVEL} AS "Level", regexp_replace(left(body, 300), '[0-9]+', '#', 'g') AS "Message",
  count(*) AS "Records", max(time) AS "Last"
FROM (SELECT * FROM logs WHERE {RECORDS} ORDER BY time DESC LIMIT 20000) AS latest
GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 50""",
                        "table",
                    ),
                    description="Messages that are alike but for their numbers, among the newest 20 000 records.",
                    widths={"Service": 150, "Level": 75, "Records": 85, "Last": 130},
                    overrides=(override("Last", unit="dateTimeFromNow"), override("Service", links=[ONLY_SERVICE])),
                    height=10,
                ),
            ),
        ),
    ),
    since="now-1h",
)
