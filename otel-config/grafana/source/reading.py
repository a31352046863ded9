"""Reading Analytics: the application events of the example pipeline `reading`."""

from __future__ import annotations

from model import Dashboard, Row, from_sql, sql
from panels import OPEN_TRACE, bargauge, logs, override, stat, table, timeseries

SERVICES = from_sql(
    "service",
    "Application",
    "SELECT DISTINCT service_name FROM events WHERE $__timeFilter(time) AND service_name IS NOT NULL ORDER BY 1",
    "Applications that sent events in the time range.",
)
NAMES = from_sql(
    "event",
    "Event",
    "SELECT DISTINCT name FROM events WHERE $__timeFilter(time) AND service_name = ANY (ARRAY[$service]::text[]) ORDER BY 1",
    "Names of events in the time range.",
)

EVENTS = "$__timeFilter(time) AND service_name = ANY (ARRAY[$service]::text[])"
FINISHED = f"{EVENTS} AND name = 'reading.session_finished'"
TITLE, AUTHOR = "coalesce(body ->> 'title', 'untitled')", "coalesce(body ->> 'author', 'unknown')"


def number(key: str) -> str:
    """Return the SQL of a number in the body, NULL where there is none."""
    return f"CASE WHEN jsonb_typeof(body -> '{key}') = 'number' THEN (body ->> '{key}')::float8 END"


MINUTES, PAGES = number("duration_minutes"), number("pages_read")


def _sum(
    title: str, expression: str, column: str, description: str, where: str = FINISHED, unit: str = "short"
) -> object:
    return stat(
        title,
        sql(f"SELECT {expression} AS {column} FROM events WHERE {where}", "table"),
        description=description,
        unit=unit,
    )


DASHBOARD = Dashboard(
    uid="obs-hub-reading",
    title="Reading Analytics",
    description="What is read, when and how long, and what the applications around it do.",
    variables=(SERVICES, NAMES),
    rows=(
        Row(
            "Reading",
            (
                _sum(
                    "Time read",
                    f"coalesce(60 * sum({MINUTES}), 0)",
                    "time_read",
                    "Time of all finished sessions.",
                    unit="dtdurations",
                ),
                _sum("Sessions", "count(*)", "sessions", "Sessions that were finished."),
                _sum("Pages", f"coalesce(sum({PAGES}), 0)", "pages", "Pages of all finished sessions."),
                _sum(
                    "Pages an hour",
                    f"60 * sum({PAGES}) / nullif(sum({MINUTES}) FILTER (WHERE {PAGES} IS NOT NULL), 0)",
                    "pace",
                    "Pages by time, over the sessions that counted pages.",
                ),
                _sum(
                    "Books opened",
                    f"count(DISTINCT {TITLE})",
                    "books",
                    "Different titles that were opened.",
                    f"{EVENTS} AND name = 'book.opened'",
                ),
                _sum(
                    "Books finished",
                    f"count(DISTINCT {TITLE})",
                    "books",
                    "Different titles that were read to their end.",
                    f"{EVENTS} AND name = 'book.finished'",
                ),
                timeseries(
                    "Minutes a day",
                    sql(
                        f"SELECT date_trunc('day', time, 'UTC') AS time, {TITLE} AS book, sum({MINUTES}) AS "
                        "minutes\nFROM events "
                        f"WHERE {FINISHED}\nGROUP BY 1, 2 ORDER BY 1"
                    ),
                    description="Minutes of the sessions finished on each day (UTC), by book.",
                    unit="m",
                    name="${__field.labels.book}",
                    stack=True,
                    bars=True,
                    width=16,
                ),
                bargauge(
                    "By hour of the day",
                    sql(
                        f"SELECT to_char(extract(hour FROM time AT TIME ZONE 'UTC'), 'FM00') || ' h' AS hour, sum({MINUTES}) AS "
                        f"minutes\nFROM events WHERE {FINISHED}\nGROUP BY 1 ORDER BY 1",
                        "table",
                    ),
                    description="Minutes by the hour (UTC) in which a session ended.",
                    unit="m",
                    high=None,
                    width=8,
                ),
                table(
                    "Books",
                    sql(
                        f"""
SELECT {TITLE} AS "Title", {AUTHOR} AS "Author",
  count(*) FILTER (WHERE name = 'reading.session_finished') AS "Sessions",
  60 * sum({MINUTES}) FILTER (WHERE name = 'reading.session_finished') AS "Time",
  sum({PAGES}) FILTER (WHERE name = 'reading.session_finished') AS "Pages",
  max(time) FILTER (WHERE name = 'book.finished') AS "Finished", max(time) AS "Last read"
FROM events
WHERE {EVENTS} AND name IN ('reading.session_finished', 'book.opened', 'book.finished')
GROUP BY 1, 2 ORDER BY 4 DESC NULLS LAST LIMIT 50""",
                        "table",
                    ),
                    description="Books with sessions in the time range, by the time spent on them.",
                    overrides=(
                        override("Time", unit="dtdurations"),
                        override("Last read", unit="dateTimeFromNow"),
                        override("Finished", unit="dateTimeAsIso"),
                    ),
                    width=16,
                ),
                bargauge(
                    "By device",
                    sql(
                        "SELECT coalesce(attributes ->> 'device', body ->> 'device', 'unknown') AS device, "
                        f"sum({MINUTES}) AS minutes\nFROM events WHERE {FINISHED}\nGROUP BY 1 ORDER BY 2 DESC",
                        "table",
                    ),
                    description="Minutes by the device that a session took place on.",
                    unit="m",
                    high=None,
                    width=8,
                ),
            ),
        ),
        Row(
            "All events",
            (
                timeseries(
                    "Events by name",
                    sql(
                        "SELECT $__timeGroup(time, $__interval) AS time, name AS event, count(*) AS "
                        "events\nFROM events "
                        f"WHERE {EVENTS} AND name = ANY (ARRAY[$event]::text[])\nGROUP BY 1, 2 ORDER BY 1"
                    ),
                    description="Events in each interval.",
                    name="${__field.labels.event}",
                    stack=True,
                    bars=True,
                ),
                table(
                    "Event names",
                    sql(
                        f"""
SELECT service_name AS "Application", name AS "Event", count(*) AS "Events",
  percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM observed_time - time)) AS "Delay", max(time) AS "Last"
FROM events WHERE {EVENTS} AND name = ANY (ARRAY[$event]::text[])
GROUP BY 1, 2 ORDER BY 3 DESC""",
                        "table",
                    ),
                    description="How many events there are of each name, and how long after they happened 95 "
                    "% of them were seen "
                    "by the pipeline.",
                    overrides=(override("Delay", unit="s"), override("Last", unit="dateTimeFromNow")),
                    width=12,
                ),
                logs(
                    "Latest events",
                    sql(
                        f"""
SELECT time, concat_ws(' ', name, body::text) AS body, service_name AS application,
  attributes::text AS attributes, trace_id
FROM events WHERE {EVENTS} AND name = ANY (ARRAY[$event]::text[])
ORDER BY time DESC LIMIT 200""",
                        "table",
                    ),
                    description="The newest 200 events, with their bodies.",
                    overrides=(override("trace_id", links=[OPEN_TRACE]),),
                    height=12,
                ),
            ),
        ),
    ),
    since="now-30d",
    refresh="15m",
)
