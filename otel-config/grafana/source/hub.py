"""Hub: what the hub says of itself: what it takes, where that goes, its jobs and its log."""

from __future__ import annotations

from gateway_row import BAD_ABOVE_ZERO, EXPORTER, GATEWAY, SIGN_OF_LIFE, SIGNAL, latest_sum
from model import Dashboard, Row, sql
from panels import (
    OPEN_TRACE,
    GREEN,
    LEVEL,
    ORANGE,
    RED,
    YELLOW,
    log_table,
    override,
    override_matching,
    stat,
    steps,
    table,
    timeseries,
)
from queries import VARIABLES, attribute, gauge, increase, now, rate, summed_gauge

INSTANCE = "coalesce(resource ->> 'service.instance.id', host_name, 'hub')"

ARRIVAL = Row(
    "What arrives",
    (
        timeseries(
            "In flight by instance",
            sql(summed_gauge("obs_hub.in_flight.size", {"instance": INSTANCE})),
            description="Payload admitted and not yet answered for. At its limit, senders are told to come back.",
            unit="bytes",
            name="${__field.labels.instance}",
            width=8,
        ),
        timeseries(
            "Connections refused",
            sql(
                rate("obs_hub.connections.refused", {"listener": attribute("listener"), "reason": attribute("reason")})
            ),
            description="Connections closed as soon as they came, a second.",
            unit="cps",
            name="${__field.labels.listener}: ${__field.labels.reason}",
            width=8,
        ),
        timeseries(
            "Records refused",
            sql(
                rate(
                    "obs_hub.records.refused",
                    {"signal": SIGNAL, "reason": attribute("reason")},
                )
            ),
            description="Records refused, a second. Their senders keep them and try again, unless they were malformed.",
            unit="cps",
            name="${__field.labels.signal}: ${__field.labels.reason}",
            width=8,
        ),
    ),
)

DESTINATIONS = Row(
    "Where it goes",
    (
        stat(
            "Dead letters kept",
            latest_sum("obs_hub.dead_letters.count", "letters"),
            description="What destinations refused for good, and is kept: see `obs-hub dead-letter list`.",
            thresholds=steps((None, GREEN), (1, YELLOW)),
            width=6,
        ),
        stat(
            "Their size",
            latest_sum("obs_hub.dead_letters.size", "size"),
            description="What dead letters take on disk.",
            unit="bytes",
            width=6,
        ),
        stat(
            "Dropped from a spool",
            sql(increase("obs_hub.spool.dropped.records", {}, sign_of_life=SIGN_OF_LIFE), "table"),
            description="Records that a full spool gave up, in the time range. They are lost.",
            thresholds=BAD_ABOVE_ZERO,
            decimals=0,
            width=6,
        ),
        stat(
            "Left out by others",
            sql(increase("obs_hub.records.rejected_by_destination", {}, sign_of_life=SIGN_OF_LIFE), "table"),
            description="Records that a destination took no part of, in the time range, while it took the others.",
            thresholds=steps((None, GREEN), (1, ORANGE)),
            decimals=0,
            width=6,
        ),
        timeseries(
            "Records stored",
            sql(rate("obs_hub.records.stored", {"exporter": EXPORTER, "signal": SIGNAL})),
            description="Records that each destination newly has, a second.",
            unit="cps",
            name="${__field.labels.exporter} ${__field.labels.signal}",
        ),
        timeseries(
            "Circuits",
            sql(gauge("obs_hub.circuit.open", {"exporter": EXPORTER}, value="max(value)")),
            description="1 while a destination is left alone because it failed.",
            name="${__field.labels.exporter}",
            high=1,
        ),
    ),
)

STORE = Row(
    "What is in the store",
    (
        timeseries(
            "Series in the store",
            sql(gauge("obs_hub.series.count", {"instance": INSTANCE}, value="max(value)")),
            description="Time series in the store. A curve that only rises is a label with unbounded values.",
            name="${__field.labels.instance}",
            width=8,
        ),
        table(
            "Metrics with most series",
            sql(
                """
SELECT name AS "Metric", count(*) AS "Series", count(DISTINCT host_name) AS "Hosts",
  count(DISTINCT service_name) AS "Services"
FROM metric_series GROUP BY 1 ORDER BY 2 DESC LIMIT 50""",
                "table",
            ),
            description="Which metrics the series are of, of all that the store has.",
            widths={"Series": 80, "Hosts": 70, "Services": 85},
            width=8,
        ),
        stat(
            "Size of the store",
            sql("SELECT pg_database_size(current_database()) AS size", "table"),
            description="The database of the store, on disk, now.",
            unit="bytes",
            width=8,
            height=8,
        ),
    ),
)

JOBS = Row(
    "Jobs",
    (
        timeseries(
            "Runs that ended",
            sql(
                rate(
                    "obs_hub.run.finished",
                    {
                        "what": f"concat_ws(' ', {attribute('kind')}, {attribute('name')})",
                        "state": attribute("state"),
                    },
                    value="3600 * sum(rate)",
                )
            ),
            description="Runs of GitOps and pipelines that ended, an hour, by how they did.",
            name="${__field.labels.what} ${__field.labels.state}",
            overrides=(override_matching(" failed$", color={"mode": "fixed", "fixedColor": RED}),),
            width=8,
        ),
        timeseries(
            "Documents of pipelines",
            sql(rate("obs_hub.pipeline.documents", {"pipeline": attribute("name"), "became": attribute("state")})),
            description="Documents that pipelines read, a second, by what became of them.",
            unit="cps",
            name="${__field.labels.pipeline} ${__field.labels.became}",
            width=8,
        ),
        stat(
            "Clones that differ",
            sql(
                now("obs_hub.gitops.drift", "attributes")
                + "SELECT count(*) FILTER (WHERE value > 0) AS differences FROM latest HAVING count(*) > 0",
                "table",
            ),
            description="In how many ways clones that GitOps keeps differ from their remotes, now.",
            thresholds=steps((None, GREEN), (1, ORANGE)),
            width=8,
            height=8,
        ),
        table(
            "Latest runs",
            sql(
                """
SELECT requested_at AS "Asked for", kind AS "Kind", name AS "Name", state AS "State",
  extract(epoch FROM finished_at - started_at)::float8 AS "Took", attempt AS "Attempt", counts::text AS "Done",
  trace_id AS "Trace"
FROM runs WHERE $__timeFilter(requested_at)
ORDER BY requested_at DESC LIMIT 100""",
                "table",
            ),
            description="Runs of GitOps and pipelines that were asked for in the time range.",
            widths={"Asked for": 180, "Kind": 90, "Name": 180, "State": 110, "Took": 90, "Attempt": 80, "Trace": 130},
            overrides=(
                override("Took", unit="s"),
                override("Trace", links=[OPEN_TRACE], noValue=" "),
                override(
                    "State",
                    custom_cellOptions={"type": "color-text"},
                    mappings=[
                        {
                            "type": "value",
                            "options": {
                                "succeeded": {"color": GREEN, "index": 0},
                                "failed": {"color": RED, "index": 1},
                                "interrupted": {"color": ORANGE, "index": 2},
                            },
                        }
                    ],
                ),
            ),
        ),
    ),
)

LOG = Row(
    "Its log",
    (
        log_table(
            "Log of the hub",
            sql(
                f"""
SELECT time AS "Time", {LEVEL} AS "Level", host_name AS "Host", coalesce(scope_name, '') AS "Part",
  concat_ws(' ', event_name, body) AS "Message", trace_id AS "Trace"
FROM logs WHERE service_name = 'obs-hub' AND $__timeFilter(time)
ORDER BY time DESC LIMIT 300""",
                "table",
            ),
            description="The newest 300 records that the hub wrote of itself and its jobs.",
            of="Part",
        ),
    ),
)

DASHBOARD = Dashboard(
    uid="obs-hub-hub",
    title="Hub",
    description="What the hub says of itself: what arrives, where it goes, what is in the store, its jobs and its log.",
    variables=VARIABLES,
    rows=(GATEWAY, ARRIVAL, DESTINATIONS, STORE, JOBS, LOG),
    since="now-3h",
)
