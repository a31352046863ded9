"""Reading Analytics: the application events of the example pipeline `reading`."""

from __future__ import annotations

from model import Dashboard, Panel, Row, from_sql, sql
from panels import OPEN_TRACE, WRAPPED, bargauge, override, stat, table, timeseries

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
SESSION = "reading.session_finished"
FINISHED = f"{EVENTS} AND name = '{SESSION}'"
TITLE, AUTHOR = "coalesce(body ->> 'title', 'untitled')", "coalesce(body ->> 'author', 'unknown')"


def number(key: str) -> str:
    """Return the SQL of a number in the body, NULL where there is none."""
    return f"CASE WHEN jsonb_typeof(body -> '{key}') = 'number' THEN (body ->> '{key}')::float8 END"


MINUTES, PAGES = number("duration_minutes"), number("pages_read")


ZONE = "$__timezone"
"""The time zone that the dashboard is shown in, which Grafana fills in: days and hours are the viewer's."""


def _number(title: str, expression: str, column: str, description: str, unit: str = "short") -> Panel:
    """Return a number of all events: none where no application is heard of at all."""
    return stat(
        title,
        sql(f"SELECT {expression} AS {column} FROM events WHERE {EVENTS}\nHAVING count(*) > 0", "table"),
        description=description,
        unit=unit,
    )


def of(event: str) -> str:
    """Return the SQL that has an aggregate take only events of one name."""
    return f"FILTER (WHERE name = '{event}')"


DASHBOARD = Dashboard(
    uid="obs-hub-reading",
    title="Reading Analytics",
    description="What is read, when and how long, and what the applications around it do.",
    variables=(SERVICES, NAMES),
    rows=(
        Row(
            "Reading",
            (
                _number(
                    "Time read",
                    f"coalesce(60 * sum({MINUTES}) {of(SESSION)}, 0)",
                    "time_read",
                    "Time of all finished sessions.",
                    unit="dtdurations",
                ),
                _number("Sessions", f"count(*) {of(SESSION)}", "sessions", "Sessions that were finished."),
                _number(
                    "Pages", f"coalesce(sum({PAGES}) {of(SESSION)}, 0)", "pages", "Pages of all finished sessions."
                ),
                _number(
                    "Pages an hour",
                    f"60 * sum({PAGES}) {of(SESSION)} / nullif(sum(CASE WHEN {PAGES} IS NOT NULL THEN {MINUTES} END) {of(SESSION)}, 0)",
                    "pace",
                    "Pages by time, over the sessions that counted pages.",
                ),
                _number(
                    "Books opened",
                    f"count(DISTINCT {TITLE}) {of('book.opened')}",
                    "books",
                    "Different titles that were opened.",
                ),
                _number(
                    "Books finished",
                    f"count(DISTINCT {TITLE}) {of('book.finished')}",
                    "books",
                    "Different titles that were read to their end.",
                ),
                timeseries(
                    "Minutes a day",
                    sql(
                        f"SELECT date_trunc('day', time, '{ZONE}') AS time, {TITLE} AS book, sum({MINUTES}) AS "
                        "minutes\nFROM events "
                        f"WHERE {FINISHED}\nGROUP BY 1, 2 ORDER BY 1"
                    ),
                    description="Minutes of the sessions finished on each day of your time zone, by book.",
                    unit="m",
                    name="${__field.labels.book}",
                    stack=True,
                    bars=True,
                    width=16,
                ),
                bargauge(
                    "By hour of the day",
                    sql(
                        f"SELECT to_char(extract(hour FROM time AT TIME ZONE '{ZONE}'), 'FM00') || ' h' AS hour, sum({MINUTES}) AS "
                        f"minutes\nFROM events WHERE {FINISHED}\nGROUP BY 1 ORDER BY 1",
                        "table",
                    ),
                    description="Minutes by the hour, of your time zone, in which a session ended.",
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
                    widths={"Author": 150, "Sessions": 80, "Time": 95, "Pages": 70, "Finished": 145, "Last read": 110},
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
                    widths={"Application": 130, "Events": 80, "Delay": 80, "Last": 120},
                    width=12,
                ),
                table(
                    "Latest events",
                    sql(
                        f"""
SELECT time AS "Time", service_name AS "Application", name AS "Event", body::text AS "Body",
  attributes::text AS "Attributes", trace_id AS "Trace"
FROM events WHERE {EVENTS} AND name = ANY (ARRAY[$event]::text[])
ORDER BY time DESC LIMIT 200""",
                        "table",
                    ),
                    description="The newest 200 events, with their bodies. Click a trace to see it.",
                    widths={"Time": 170, "Application": 130, "Event": 190, "Attributes": 230, "Trace": 130},
                    overrides=(
                        override("Body", **WRAPPED),
                        override("Attributes", custom_inspect=True),
                        override("Trace", links=[OPEN_TRACE], noValue=" "),
                    ),
                    height=12,
                ),
            ),
        ),
    ),
    since="now-30d",
    refresh="15m",
)
