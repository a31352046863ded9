"""The row about the gateway itself."""

from __future__ import annotations

from model import Json, Row, sql
from panels import GREEN, ORANGE, RED, YELLOW, heatmap, stat, steps, timeseries
from queries import attribute, increase, now, rate, summed_gauge

EXPORTER, SIGNAL = attribute("exporter"), attribute("signal")
BAD_ABOVE_ZERO = steps((None, GREEN), (1, RED))


SIGN_OF_LIFE = "obs_hub.in_flight.size"
"""What every gateway says all the time. Other metrics it only has once there was something to say."""


def latest_sum(name: str, column: str) -> Json:
    """Return a query of the sum of a gauge's latest values: 0 where a gateway lives and has none, else no row."""
    both = (name, SIGN_OF_LIFE)
    if name == SIGN_OF_LIFE:
        return sql(now(name, "attributes") + f"SELECT sum(value) AS {column} FROM latest HAVING count(*) > 0", "table")
    return sql(
        now(both, "attributes")
        + f"SELECT coalesce(sum(value) FILTER (WHERE name = '{name}'), 0) AS {column} FROM latest HAVING count(*) > 0",
        "table",
    )


BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Of the gateway's histogram of commits (see gateway/pipeline/instruments.py), in seconds."""

COMMIT_POINTS = """
WITH points AS (
  SELECT time, explicit_bounds, bucket_counts,
    CASE WHEN count >= lag(count) OVER earlier THEN lag(bucket_counts) OVER earlier END AS before,
    row_number() OVER earlier AS number
  FROM histograms
  WHERE name = 'obs_hub.commit.duration' AND $__timeFilter(time)
  WINDOW earlier AS (PARTITION BY series_id ORDER BY time)
), buckets AS (
  SELECT $__timeGroup(time, $__interval) AS time, coalesce(bound, 'Infinity') AS bound,
    sum(n - coalesce(n_before, 0)) AS commits
  FROM points, unnest(bucket_counts, before, explicit_bounds) AS bucket (n, n_before, bound)
  WHERE number > 1
  GROUP BY 1, 2
)
"""
HEATMAP_COLUMNS = ",\n  ".join(
    f'coalesce(sum(commits) FILTER (WHERE bound = {bound}), 0) AS "{bound:g}"' for bound in BOUNDS
)
HEATMAP_ROWS = f"""SELECT time,
  {HEATMAP_COLUMNS},
  coalesce(sum(commits) FILTER (WHERE bound > {BOUNDS[-1]}), 0) AS "Inf"
FROM buckets GROUP BY time ORDER BY time"""
PERCENTILES = """, cumulated AS (
  SELECT time, bound, sum(commits) OVER (PARTITION BY time ORDER BY bound) AS until,
    sum(commits) OVER (PARTITION BY time) AS total
  FROM buckets
)
SELECT time, min(bound) FILTER (WHERE until >= 0.5 * total) AS "half of them",
  min(bound) FILTER (WHERE until >= 0.95 * total AND bound < 'Infinity') AS "95 % of them"
FROM cumulated WHERE total > 0
GROUP BY time ORDER BY time"""

GATEWAY = Row(
    "Gateway",
    (
        stat(
            "Refused",
            sql(increase("obs_hub.records.refused", {}, sign_of_life=SIGN_OF_LIFE), "table"),
            description="Records refused in the time range. Their senders keep them and try again, unless they were "
            "malformed.",
            thresholds=BAD_ABOVE_ZERO,
            decimals=0,
            width=6,
            height=3,
        ),
        stat(
            "Dead letters",
            sql(increase("obs_hub.records.dead_lettered", {}, sign_of_life=SIGN_OF_LIFE), "table"),
            description="Records that a destination refused for good, in the time range: see `obs-hub "
            "dead-letter list`.",
            thresholds=BAD_ABOVE_ZERO,
            decimals=0,
            width=6,
            height=3,
        ),
        stat(
            "In the spool",
            latest_sum("obs_hub.spool.size", "size"),
            description="What waits on disk for a destination that is down or slow.",
            unit="bytes",
            thresholds=steps((None, GREEN), (1, YELLOW), (1 << 30, RED)),
            width=6,
            height=3,
        ),
        stat(
            "Open circuits",
            latest_sum("obs_hub.circuit.open", "circuits"),
            description="Destinations that are left alone for a while, because they failed.",
            thresholds=BAD_ABOVE_ZERO,
            width=6,
            height=3,
        ),
        stat(
            "Damage in the spool",
            latest_sum("obs_hub.spool.damaged", "places"),
            description="Places in the spool that could not be read. The records there are lost; look at the disk.",
            thresholds=BAD_ABOVE_ZERO,
            width=6,
            height=3,
        ),
        stat(
            "Dropped by full spools",
            latest_sum("obs_hub.spool.dropped.records", "records"),
            description="Records that destinations with `spool.when_full: drop_oldest` will never get, since ever: see "
            "`obs-hub spool status`. The store has them.",
            thresholds=BAD_ABOVE_ZERO,
            decimals=0,
            width=3,
        ),
        stat(
            "Segments not removed",
            latest_sum("obs_hub.spool.unremoved", "segments"),
            description="Segments of spools that were delivered and cannot be removed. They are not delivered again; "
            "look at the disk and its rights.",
            thresholds=steps((None, GREEN), (1, ORANGE)),
            width=3,
        ),
        stat(
            "Series",
            sql(
                now("obs_hub.series.count", "attributes")
                + "SELECT max(value) AS series FROM latest HAVING count(*) > 0",
                "table",
            ),
            description="Time series in the store, as the gateway counts them.",
            width=6,
            height=3,
        ),
        stat(
            "Series turned away",
            latest_sum("obs_hub.series.turned_away", "points"),
            description="Data points of series beyond `series_limit`, kept in one series of their metric. "
            "The gateway's "
            "log names the metrics.",
            thresholds=steps((None, GREEN), (1, ORANGE)),
            width=6,
            height=3,
        ),
        stat(
            "In flight",
            latest_sum("obs_hub.in_flight.size", "size"),
            description="Payload admitted and not yet answered for.",
            unit="bytes",
            width=6,
            height=3,
        ),
        timeseries(
            "Accepted",
            sql(rate("obs_hub.records.accepted", {"signal": SIGNAL})),
            description="Records acknowledged a second: stored, or safe in a spool.",
            unit="cps",
            name="${__field.labels.signal}",
            width=8,
        ),
        timeseries(
            "Stored and duplicate",
            sql(
                rate(
                    ("obs_hub.records.stored", "obs_hub.records.duplicate", "obs_hub.records.spooled"),
                    {"exporter": EXPORTER, "what": "replace(name, 'obs_hub.records.', '')"},
                )
            ),
            description="Records that each destination newly has, those it had already because a sender repeated them, "
            "and those that went to the spool.",
            unit="cps",
            name="${__field.labels.exporter} ${__field.labels.what}",
            width=8,
        ),
        timeseries(
            "Refused by reason",
            sql(rate("obs_hub.requests.refused", {"signal": SIGNAL, "reason": attribute("reason")})),
            description="Requests refused as a whole, a second.",
            unit="reqps",
            name="${__field.labels.signal}: ${__field.labels.reason}",
            width=8,
        ),
        heatmap(
            "Commits by duration",
            sql(COMMIT_POINTS + HEATMAP_ROWS),
            description="How many commits took how long. A client waits for one commit, or for two when one "
            "is under way.",
            unit="s",
            width=8,
        ),
        timeseries(
            "Commits took at most",
            sql(COMMIT_POINTS.rstrip() + PERCENTILES),
            description="The upper bound of the bucket that half, and 95 %, of the commits fall into.",
            unit="s",
            width=8,
        ),
        timeseries(
            "Spool",
            sql(summed_gauge("obs_hub.spool.size", {"exporter": EXPORTER})),
            description="What waits on disk for each destination. It grows while one is down, and shrinks when it is "
            "back.",
            unit="bytes",
            name="${__field.labels.exporter}",
            width=8,
        ),
    ),
)
