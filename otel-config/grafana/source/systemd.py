"""Systemd Monitoring: services and the journal, from `obs-hub journal`, Alloy or the Collector."""

from __future__ import annotations

from model import Dashboard, Panel, Row, from_sql, logql, sql, textbox
from panels import (
    BLUE,
    GREEN,
    LEVEL,
    LEVEL_CURVES,
    ORANGE,
    RED,
    YELLOW,
    count_of_logs,
    link,
    log_table,
    logs,
    override,
    stat,
    steps,
    table,
    timeseries,
)
from queries import like, pattern_for_loki

HOSTS = from_sql(
    "host",
    "Host",
    "SELECT DISTINCT host_name FROM resources WHERE host_name IS NOT NULL ORDER BY 1",
    "Hosts, of any signal.",
)
VARIABLES = (
    HOSTS,
    textbox("unit", "Unit", "Part of a unit's name; * stands for anything. Empty for all."),
    textbox("search", "Search", "Part of a message; * stands for anything. Empty for all."),
    pattern_for_loki("unit"),
    pattern_for_loki("search"),
)

# What has no unit, such as the kernel, has an identifier: it is found by that, too.
UNIT = """coalesce(attributes ->> 'systemd.unit', attributes ->> 'systemd.user_unit', attributes ->> 'syslog.identifier',
    service_name, 'no unit')"""
ON_HOSTS = "$__timeFilter(time) AND host_name = ANY (ARRAY[$host]::text[])"
OF_JOURNAL = """event_name IS NULL
  AND attributes ?| ARRAY['systemd.unit', 'systemd.user_unit', 'syslog.identifier', 'journald.transport']"""
JOURNAL = f"""{ON_HOSTS} AND {OF_JOURNAL}
  AND {UNIT} ILIKE {like("unit")} AND coalesce(body, '') ILIKE {like("search")}"""

# What systemd itself says of a unit: its messages begin with the unit's name.
ABOUT = "substring(body FROM '^([^ :]+[.](?:service|socket|timer|mount|scope|target)):')"
OF_SYSTEMD = f"attributes ->> 'syslog.identifier' = 'systemd' AND coalesce(body, '') ILIKE {like('unit')}"
SYSTEMD = f"{ON_HOSTS} AND {OF_SYSTEMD}"
FAILED, RESTARTED = "body LIKE '%: Failed with result %'", "body LIKE '%: Scheduled restart job%'"

# The host is no part of the selector, because it is a label only where Loki was told so (see otel-config/loki).
LOKI_JOURNAL = (
    '{service_name=~".+"} | host_name=~"$host" | systemd_unit=~"${unit_pattern:raw}" |~ "${search_pattern:raw}"'
)
LOKI_ERRORS = LOKI_JOURNAL + ' | detected_level=~"error|critical|fatal"'
LOKI_SYSTEMD = '{service_name="systemd"} | host_name=~"$host" |~ "${unit_pattern:raw}"'


def _counts(what: str, description: str, condition: str, color: str) -> Panel:
    """Return a number of messages: none where the journal is not heard of at all."""
    return count_of_logs(what, condition, description, color, of=JOURNAL, name="messages", width=4)


def _of_systemd(what: str, description: str, condition: str, color: str) -> Panel:
    of = f"{ON_HOSTS} AND {OF_JOURNAL}"
    return count_of_logs(what, f"{OF_SYSTEMD} AND {condition}", description, color, of=of, name="messages", width=4)


ONLY_UNIT = link(
    "Only ${__value.text}",
    "/d/obs-hub-systemd/systemd-monitoring?var-host=${__data.fields.Host:percentencode}"
    "&var-unit=${__value.text:percentencode}&${__url_time_range}",
)


def _about_units(said: str) -> str:
    """Return the LogQL of how often systemd said something of each unit."""
    return f'sum by (unit) (count_over_time({LOKI_SYSTEMD} |= "{said}" | regexp "^(?P<unit>[^ :]+):" [$__auto]))'


STORE_ROW = Row(
    "Journal, in the store",
    (
        _counts("Messages", "Log records of the journal in the time range.", "true", BLUE),
        _counts("Warnings", "Records with the priority warning.", "severity_number BETWEEN 13 AND 16", YELLOW),
        _counts("Errors", "Records with the priority error or worse.", "severity_number >= 17", RED),
        _of_systemd("Failures", "How often a unit ended in a failure, as systemd reports it.", FAILED, RED),
        _of_systemd("Restarts", "How often systemd started a unit again by itself.", RESTARTED, ORANGE),
        stat(
            "Units that log",
            sql(
                f"SELECT count(DISTINCT {UNIT}) AS units FROM logs WHERE {JOURNAL}\nHAVING count(*) > 0",
                "table",
            ),
            description="Units with at least one message in the time range.",
            width=4,
        ),
        timeseries(
            "Messages by severity",
            sql(
                f"SELECT $__timeGroup(time, $__interval) AS time, {LEVEL} AS level, count(*) AS messages\nFROM "
                f"logs WHERE {JOURNAL}\nGROUP BY 1, 2 ORDER BY 1"
            ),
            description="Log records in each interval.",
            name="${__field.labels.level}",
            stack=True,
            bars=True,
            overrides=LEVEL_CURVES,
        ),
        timeseries(
            "Messages by unit",
            sql(f"""
WITH busiest AS (
  SELECT {UNIT} AS unit FROM logs WHERE {JOURNAL} GROUP BY 1 ORDER BY count(*) DESC LIMIT 10
)
SELECT $__timeGroup(time, $__interval) AS time, {UNIT} AS unit, count(*) AS messages
FROM logs WHERE {JOURNAL} AND {UNIT} IN (SELECT unit FROM busiest)
GROUP BY 1, 2 ORDER BY 1"""),
            description="Log records in each interval, of the ten units that log most.",
            name="${__field.labels.unit}",
            stack=True,
            bars=True,
        ),
        timeseries(
            "Failures and restarts",
            sql(f"""
SELECT $__timeGroup(time, $__interval) AS time, coalesce({ABOUT}, 'other') AS unit,
  CASE WHEN {FAILED} THEN 'failed' ELSE 'restarted' END AS what, count(*) AS times
FROM logs WHERE {SYSTEMD} AND ({FAILED} OR {RESTARTED})
GROUP BY 1, 2, 3 ORDER BY 1"""),
            description="Units that failed, and units that systemd started again by itself.",
            name="${__field.labels.unit} ${__field.labels.what}",
            bars=True,
            stack=True,
            width=8,
        ),
        table(
            "Units",
            sql(
                f"""
WITH own AS (
  SELECT host_name, {UNIT} AS unit, count(*) AS messages,
    count(*) FILTER (WHERE severity_number BETWEEN 13 AND 16) AS warnings,
    count(*) FILTER (WHERE severity_number >= 17) AS errors, max(time) AS last_message
  FROM logs WHERE {JOURNAL} GROUP BY 1, 2
), reported AS (
  SELECT host_name, {ABOUT} AS unit, count(*) FILTER (WHERE {FAILED}) AS failures,
    count(*) FILTER (WHERE {RESTARTED}) AS restarts
  FROM logs WHERE {SYSTEMD} AND ({FAILED} OR {RESTARTED}) GROUP BY 1, 2
)
SELECT host_name AS "Host", unit AS "Unit", messages AS "Messages", warnings AS "Warnings", errors AS "Errors",
  failures AS "Failures", restarts AS "Restarts", last_message AS "Last message"
FROM own FULL JOIN reported USING (host_name, unit)
ORDER BY failures DESC NULLS LAST, errors DESC NULLS LAST, messages DESC NULLS LAST
LIMIT 100""",
                "table",
            ),
            description="Units with messages in the time range, the failing ones first. Click one to see only its log.",
            overrides=(
                override("Unit", links=[ONLY_UNIT]),
                override(
                    "Errors", thresholds=steps((None, GREEN), (1, RED)), custom_cellOptions={"type": "color-text"}
                ),
                override(
                    "Failures", thresholds=steps((None, GREEN), (1, RED)), custom_cellOptions={"type": "color-text"}
                ),
                override("Last message", unit="dateTimeFromNow"),
            ),
            widths={
                "Host": 110,
                "Messages": 90,
                "Warnings": 85,
                "Errors": 70,
                "Failures": 80,
                "Restarts": 80,
                "Last message": 120,
            },
            width=16,
        ),
        log_table(
            "Log",
            sql(
                f"""
SELECT time AS "Time", {LEVEL} AS "Level", host_name AS "Host", {UNIT} AS "Unit", body AS "Message", trace_id AS "Trace"
FROM logs WHERE {JOURNAL}
ORDER BY time DESC LIMIT 500""",
                "table",
            ),
            description="The newest 500 messages of the units chosen. Click a unit to see only its log, and a trace to "
            "see it.",
            of="Unit",
            links=(ONLY_UNIT,),
        ),
    ),
)

LOKI_ROW = Row(
    "Journal, in Loki",
    (
        timeseries(
            "Messages by severity (Loki)",
            logql(f"sum by (detected_level) (count_over_time({LOKI_JOURNAL} [$__auto]))", legend="{{detected_level}}"),
            description="Log records in each interval.",
            stack=True,
            bars=True,
            overrides=LEVEL_CURVES,
        ),
        timeseries(
            "Messages by unit (Loki)",
            logql(
                f"topk(10, sum by (systemd_unit) (count_over_time({LOKI_JOURNAL} [$__auto])))",
                legend="{{systemd_unit}}",
            ),
            description="Log records in each interval, of the ten units that log most.",
            stack=True,
            bars=True,
        ),
        timeseries(
            "Failures and restarts (Loki)",
            logql(
                _about_units(": Failed with result "),
                ref="A",
                legend="{{unit}} failed",
            ),
            logql(
                _about_units(": Scheduled restart job"),
                ref="B",
                legend="{{unit}} restarted",
            ),
            description="Units that failed, and units that systemd started again by itself.",
            stack=True,
            bars=True,
        ),
        timeseries(
            "Errors by host (Loki)",
            logql(
                f"sum by (host_name) (count_over_time({LOKI_ERRORS} [$__auto]))",
                legend="{{host_name}}",
            ),
            description="Records with the priority error or worse.",
            stack=True,
            bars=True,
        ),
        logs(
            "Log (Loki)",
            logql(LOKI_JOURNAL + " | line_format `{{.host_name}} {{.systemd_unit}}: {{__line__}}`"),
            description="The newest messages of the units chosen. A message with a trace links to it.",
        ),
    ),
    collapsed=True,
)

DASHBOARD = Dashboard(
    uid="obs-hub-systemd",
    title="Systemd Monitoring",
    description="Services and their logs. The journal is in the store, or in Loki where the gateway sends logs there.",
    variables=VARIABLES,
    rows=(STORE_ROW, LOKI_ROW),
    since="now-3h",
)
