"""Cluster Health: Kubernetes, PostgreSQL, Loki, Alloy and the gateway itself."""

from __future__ import annotations

from gateway_row import BAD_ABOVE_ZERO, GATEWAY
from model import Dashboard, Row, from_sql, sql
from panels import GREEN, RED, YELLOW, override, override_matching, stat, steps, table, timeseries
from queries import VARIABLES, attribute, gauge, increase, now, rate, resource, summed_gauge

CLUSTERS = from_sql(
    "namespace",
    "Namespace",
    """
SELECT DISTINCT attributes ->> 'k8s.namespace.name' FROM resources
WHERE attributes ? 'k8s.namespace.name' ORDER BY 1""",
    "Kubernetes namespaces, for the panels about pods.",
)
NODE, POD, NAMESPACE = resource("k8s.node.name"), resource("k8s.pod.name"), resource("k8s.namespace.name")
OF_NAMESPACE = f"{NAMESPACE} = ANY (ARRAY[$namespace]::text[])"

# The names of the semantic conventions, and those that the Collector's receivers have had for longer.
RESTARTS = ("k8s.container.restart.count", "k8s.container.restarts")
DESIRED, AVAILABLE = (
    ("k8s.deployment.pod.desired", "k8s.deployment.desired"),
    ("k8s.deployment.pod.available", "k8s.deployment.available"),
)
PHASE = f"""CASE name WHEN 'k8s.pod.status.phase' THEN {attribute("k8s.pod.status.phase")}
  ELSE (ARRAY['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'])[value::integer] END"""
READY = f"""(name = 'k8s.node.condition_ready' OR {attribute("k8s.node.condition.type")} = 'Ready'
    AND lower({attribute("k8s.node.condition.status")}) = 'true')"""


KUBERNETES = Row(
    "Kubernetes",
    (
        stat(
            "Nodes not ready",
            sql(
                now(("k8s.node.condition.status", "k8s.node.condition_ready"), "attributes, resource", READY)
                + "SELECT count(*) FILTER (WHERE value <> 1) AS nodes FROM latest HAVING count(*) > 0",
                "table",
            ),
            description="Nodes whose condition Ready is not true.",
            thresholds=BAD_ABOVE_ZERO,
            width=6,
        ),
        stat(
            "Pods by phase",
            sql(
                now(("k8s.pod.status.phase", "k8s.pod.phase"), "attributes, resource", OF_NAMESPACE)
                + f"SELECT {PHASE} AS phase, count(*) AS pods FROM latest WHERE value > 0 GROUP BY 1 ORDER BY 1",
                "table",
            ),
            description="Pods of the namespaces chosen. Pending ones wait for a node, an image or a volume.",
            rows=True,
            width=12,
        ),
        stat(
            "Restarts",
            sql(increase(RESTARTS, {}, OF_NAMESPACE), "table"),
            description="How often containers were started again in the time range.",
            thresholds=steps((None, GREEN), (1, YELLOW), (10, RED)),
            width=6,
        ),
        table(
            "Deployments",
            sql(
                now(
                    (*DESIRED, *AVAILABLE),
                    f"{NAMESPACE} AS namespace, {resource('k8s.deployment.name')} AS deployment",
                    OF_NAMESPACE,
                )
                + """
SELECT namespace AS "Namespace", deployment AS "Deployment",
  max(value) FILTER (WHERE name LIKE '%desired') AS "Desired",
  max(value) FILTER (WHERE name LIKE '%available') AS "Available",
  max(value) FILTER (WHERE name LIKE '%desired') - max(value) FILTER (WHERE name LIKE '%available') AS "Missing"
FROM latest GROUP BY 1, 2 ORDER BY 5 DESC NULLS LAST, 1, 2""",
                "table",
            ),
            description="Deployments and how many of their pods are available, those with missing pods first.",
            overrides=(override("Missing", thresholds=BAD_ABOVE_ZERO, custom_cellOptions={"type": "color-text"}),),
            widths={"Namespace": 120, "Desired": 80, "Available": 90, "Missing": 80},
            width=12,
        ),
        timeseries(
            "Node CPU",
            sql(rate("k8s.node.cpu.time", {"node": NODE})),
            description="Processors in use on each node.",
            unit="short",
            name="${__field.labels.node}",
        ),
        timeseries(
            "Node memory",
            sql(gauge("k8s.node.memory.working_set", {"node": NODE})),
            description="Memory in use on each node that cannot be given up.",
            unit="bytes",
            name="${__field.labels.node}",
        ),
        timeseries(
            "Restarts by pod",
            sql(rate(RESTARTS, {"pod": POD}, OF_NAMESPACE, "3600 * sum(rate)")),
            description="Restarts an hour. A pod that restarts at regular intervals is in a crash loop.",
            name="${__field.labels.pod}",
            width=12,
        ),
        timeseries(
            "Pod CPU",
            sql(rate("k8s.pod.cpu.time", {"namespace": NAMESPACE, "pod": POD}, OF_NAMESPACE)),
            description="Processors in use by each pod.",
            name="${__field.labels.namespace}/${__field.labels.pod}",
        ),
        timeseries(
            "Pod memory",
            sql(gauge("k8s.pod.memory.working_set", {"namespace": NAMESPACE, "pod": POD}, OF_NAMESPACE)),
            description="Memory in use by each pod; at its limit the pod is killed.",
            unit="bytes",
            name="${__field.labels.namespace}/${__field.labels.pod}",
        ),
    ),
)

DATABASE = f"coalesce({resource('postgresql.database.name')}, {attribute('datname')}, 'all')"

POSTGRESQL = Row(
    "PostgreSQL",
    (
        stat(
            "Size of the store",
            sql("SELECT pg_database_size(current_database()) AS size", "table"),
            description="The database of the store, on disk, now.",
            unit="bytes",
            width=6,
        ),
        stat(
            "Connections",
            sql(
                "SELECT sum(numbackends) AS used, current_setting('max_connections')::integer AS allowed FROM "
                "pg_stat_database",
                "table",
            ),
            description="Connections in use and allowed, of the server that the store is on, now.",
            width=6,
        ),
        stat(
            "Read from memory",
            sql(
                "SELECT blks_hit::float8 / nullif(blks_hit + blks_read, 0) AS ratio FROM pg_stat_database WHERE "
                "datname = current_database()",
                "table",
            ),
            description="Share of the store's pages that were found in PostgreSQL's memory, since its "
            "statistics began.",
            unit="percentunit",
            thresholds=steps((None, RED), (0.8, YELLOW), (0.95, GREEN)),
            width=6,
        ),
        stat(
            "Deadlocks",
            sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", "table"),
            description="Deadlocks in the store since its statistics began. The gateway makes none.",
            thresholds=BAD_ABOVE_ZERO,
            width=6,
        ),
        timeseries(
            "Transactions",
            sql(
                rate(
                    (
                        "postgresql.commits",
                        "postgresql.rollbacks",
                        "pg_stat_database_xact_commit",
                        "pg_stat_database_xact_rollback",
                    ),
                    {
                        "database": DATABASE,
                        "what": "CASE WHEN name LIKE '%commit%' THEN 'committed' ELSE 'rolled back' END",
                    },
                )
            ),
            description="Transactions a second of each database, from the Collector's receiver `postgresql` or Alloy's "
            "`prometheus.exporter.postgres`.",
            unit="ops",
            name="${__field.labels.database} ${__field.labels.what}",
            width=8,
        ),
        timeseries(
            "Backends",
            sql(summed_gauge(("postgresql.backends", "pg_stat_database_numbackends"), {"database": DATABASE})),
            description="Connections to each database.",
            name="${__field.labels.database}",
            width=8,
        ),
        timeseries(
            "Databases",
            sql(gauge(("postgresql.db_size", "pg_database_size_bytes"), {"database": DATABASE})),
            description="Size of each database on disk.",
            unit="bytes",
            name="${__field.labels.database}",
            width=8,
        ),
    ),
)

LOKI_ROW = Row(
    "Loki",
    (
        timeseries(
            "Lines received",
            sql(rate("loki_distributor_lines_received_total", {"tenant": "coalesce(attributes ->> 'tenant', 'all')"})),
            description="Log lines that Loki took, a second.",
            unit="cps",
            name="${__field.labels.tenant}",
            width=6,
        ),
        timeseries(
            "Bytes received",
            sql(rate("loki_distributor_bytes_received_total", {"tenant": "coalesce(attributes ->> 'tenant', 'all')"})),
            description="Log lines that Loki took, in bytes a second.",
            unit="Bps",
            name="${__field.labels.tenant}",
            width=6,
        ),
        timeseries(
            "Lines discarded",
            sql(rate("loki_discarded_samples_total", {"reason": attribute("reason")})),
            description="Lines that Loki refused, a second, by reason. They are in the gateway's dead letters.",
            unit="cps",
            name="${__field.labels.reason}",
            width=6,
        ),
        timeseries(
            "Streams in memory",
            sql(
                summed_gauge(
                    "loki_ingester_memory_streams", {"instance": "coalesce(resource ->> 'service.instance.id', 'loki')"}
                )
            ),
            description="Sets of labels with recent lines. Thousands on a small installation mean a label "
            "with too many "
            "values.",
            name="${__field.labels.instance}",
            width=6,
        ),
    ),
)

WHERE_ALLOY_RUNS = "coalesce(host_name, resource ->> 'service.instance.id', 'alloy')"
SENT = "'^otelcol_exporter_(sent|send_failed)_(metric_points|log_records|spans)(_total)?$'"

ALLOY = Row(
    "Alloy and the Collector",
    (
        stat(
            "Components not healthy",
            sql(
                now("alloy_component_controller_running_components", "attributes")
                + f"SELECT coalesce(sum(value) FILTER (WHERE {attribute('health_type')} <> 'healthy'), 0) AS components\n"
                "FROM latest HAVING count(*) > 0",
                "table",
            ),
            description="Components of Alloy that are not healthy: see its page on port 12345.",
            thresholds=BAD_ABOVE_ZERO,
            width=6,
            height=8,
        ),
        timeseries(
            "Sent and failed",
            sql(
                rate(
                    tuple(
                        f"otelcol_exporter_{what}_{items}{total}"
                        for what in ("sent", "send_failed")
                        for items in ("metric_points", "log_records", "spans")
                        for total in ("", "_total")
                    ),
                    {"host": WHERE_ALLOY_RUNS, "what": f"regexp_replace(name, {SENT}, '\\2 \\1')"},
                )
            ),
            description="Records that were sent to the gateway or elsewhere, and that could not be sent, a second.",
            unit="cps",
            name="${__field.labels.host} ${__field.labels.what}",
            overrides=(override_matching("failed", color={"mode": "fixed", "fixedColor": RED}),),
            width=6,
        ),
        timeseries(
            "Queues",
            sql(
                summed_gauge(
                    "otelcol_exporter_queue_size",
                    {
                        "host": WHERE_ALLOY_RUNS,
                        "exporter": "coalesce(attributes ->> 'exporter', attributes ->> 'component_id', 'queue')",
                    },
                )
            ),
            description="Requests that wait to be sent. A queue that is full makes senders wait.",
            name="${__field.labels.host} ${__field.labels.exporter}",
            width=6,
        ),
        timeseries(
            "Memory",
            sql(
                gauge(
                    (
                        "alloy_resources_process_resident_memory_bytes",
                        "otelcol_process_memory_rss",
                        "otelcol_process_memory_rss_bytes",
                    ),
                    {"host": WHERE_ALLOY_RUNS, "service": "coalesce(service_name, 'alloy')"},
                )
            ),
            description="Memory that Alloy or the Collector has.",
            unit="bytes",
            name="${__field.labels.host} ${__field.labels.service}",
            width=6,
        ),
    ),
)

DASHBOARD = Dashboard(
    uid="obs-hub-cluster",
    title="Cluster Health",
    description="The gateway itself, Kubernetes, PostgreSQL, Loki, Alloy.",
    variables=(CLUSTERS, *VARIABLES),
    rows=(GATEWAY, KUBERNETES, POSTGRESQL, LOKI_ROW, ALLOY),
    since="now-3h",
)
