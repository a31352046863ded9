-- What there is and what came last, without reading the points; and conversions that PostgreSQL takes into its plans.

-- A function of SQL is taken into a plan only if all that it calls is immutable, which neither the epoch of a timestamptz
-- nor the sum of one and an interval is. Called row by row, each took more time than all else that a point costs to read.
CREATE OR REPLACE FUNCTION unix_nano(at timestamptz, ns integer) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM at - timestamptz '1970-01-01 00:00:00+00') * 1000000000)::numeric(20, 0) + coalesce(ns, 0);

CREATE OR REPLACE FUNCTION instant(unix_nano bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (timestamp '1970-01-01 00:00:00' + (unix_nano / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC';

-- Half of each page is left for the next versions of its rows, which then need no new entry in the index.
CREATE TABLE metric_seen (
    metric_id bigint PRIMARY KEY,
    first_seen timestamptz,
    last_seen timestamptz,
    is_whole boolean NOT NULL DEFAULT true
) WITH (fillfactor = 50);
COMMENT ON TABLE metric_seen IS 'When metrics were first and last observed, to within a minute.';
COMMENT ON COLUMN metric_seen.metric_id IS 'The metric.';
COMMENT ON COLUMN metric_seen.first_seen IS 'Time of a data point of the earliest minute that had any, be they still there or not.';
COMMENT ON COLUMN metric_seen.last_seen IS 'Time of a data point of the latest minute that had any.';
COMMENT ON COLUMN metric_seen.is_whole IS
    'False for a metric of an earlier version, until a gateway has looked for its points in the background.';
INSERT INTO metric_seen (metric_id, is_whole) SELECT id, false FROM metric;

CREATE VIEW metric_catalogue AS
SELECT
    m.name,
    m.unit,
    m.type,
    (SELECT count(*) FROM series e WHERE e.metric_id = m.id) AS series,
    s.first_seen,
    s.last_seen,
    m.temporality,
    m.is_monotonic,
    m.description,
    m.metadata,
    m.id AS metric_id
FROM metric m
LEFT JOIN metric_seen s ON s.metric_id = m.id;
COMMENT ON VIEW metric_catalogue IS 'Which metrics there are, of how many series each, and when they were first and last observed.';
COMMENT ON COLUMN metric_catalogue.series IS 'Number of series.';
COMMENT ON COLUMN metric_catalogue.first_seen IS
    'When it was first observed, to within a minute, be the data points still there or not.';
COMMENT ON COLUMN metric_catalogue.last_seen IS 'When it was last observed, to within a minute: not later than its last data point.';
COMMENT ON COLUMN metric_catalogue.metric_id IS 'Hash by which the metric is known.';

-- The newest frame of a series' sets, or the row that is newer than that: rows are looked for only where one could be.
-- Were a plain 1 the limit, frames might be searched from the newest on, all of them for a set that has come to an end.
CREATE VIEW metrics_latest AS
SELECT
    coalesce(s.time, f.time) AS time,
    m.name,
    CASE WHEN s.time IS NULL THEN f.vals[f.ord] ELSE s.value END AS value,
    m.unit,
    r.host_name,
    r.service_name,
    e.attributes,
    r.attributes AS resource,
    c.name AS scope_name,
    m.type,
    m.temporality,
    m.is_monotonic,
    m.description,
    CASE WHEN s.time IS NULL THEN f.int_value ELSE s.int_value END AS int_value,
    CASE WHEN s.time IS NULL THEN f.its_start ELSE s.start_time END AS start_time,
    s.flags,
    e.id AS series_id,
    coalesce(s.time_ns, f.time_ns) AS time_ns,
    unix_nano(coalesce(s.time, f.time), coalesce(s.time_ns, f.time_ns)) AS time_unix_nano,
    CASE
        WHEN s.time IS NULL THEN unix_nano(f.its_start, f.its_start_ns) ELSE unix_nano(s.start_time, s.start_time_ns)
    END AS start_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM series e
JOIN metric m ON m.id = e.metric_id AND m.type IN ('gauge', 'sum')
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id
LEFT JOIN LATERAL (
    SELECT
        n.time, n.time_ns, n.vals, b.ord,
        CASE WHEN b.is_int THEN coalesce(n.ints[b.ord], n.vals[b.ord]::bigint) END AS int_value,
        CASE WHEN b.has_start THEN coalesce(instant(n.starts[b.ord]), n.start_time) END AS its_start,
        coalesce((n.starts[b.ord] % 1000)::smallint, n.start_time_ns) AS its_start_ns
    FROM member b
    CROSS JOIN LATERAL (
        SELECT * FROM frame WHERE set_id = b.set_id ORDER BY time DESC, time_ns DESC LIMIT (SELECT 1)
    ) n
    WHERE b.series_id = e.id
    ORDER BY n.time DESC, n.time_ns DESC
    LIMIT 1
) f ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM sample
    WHERE series_id = e.id AND time >= coalesce(f.time, '-infinity')
        AND (f.time IS NULL OR (time, time_ns) > (f.time, f.time_ns))
    ORDER BY time DESC, time_ns DESC
    LIMIT 1
) s ON true
WHERE f.time IS NOT NULL OR s.time IS NOT NULL;
COMMENT ON VIEW metrics_latest IS 'The latest number data point of each series.';

CREATE FUNCTION newest_points(metric text, host text DEFAULT NULL, most integer DEFAULT 100) RETURNS SETOF metrics
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH wanted AS MATERIALIZED (
        SELECT e.id
        FROM metric m
        JOIN series e ON e.metric_id = m.id
        JOIN resource r ON r.id = e.resource_id
        WHERE m.name = newest_points.metric AND (newest_points.host IS NULL OR r.host_name = newest_points.host)
    ), held AS MATERIALIZED (
        SELECT b.set_id, count(*) AS points FROM wanted w JOIN member b ON b.series_id = w.id GROUP BY 1
    ), observed AS (
        SELECT f.time, h.points
        FROM held h
        CROSS JOIN LATERAL (
            SELECT time FROM frame WHERE set_id = h.set_id ORDER BY time DESC
            LIMIT (newest_points.most - 1) / h.points + 1
        ) f
        UNION ALL
        SELECT s.time, 1
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT time FROM sample WHERE series_id = w.id ORDER BY time DESC LIMIT newest_points.most
        ) s
    )
    SELECT p.*
    FROM metrics p
    WHERE p.series_id = ANY (ARRAY(SELECT id FROM wanted))
        AND p.time >= coalesce(
            (
                SELECT o.time
                FROM (SELECT time, sum(points) OVER (ORDER BY time DESC) AS so_far FROM observed) o
                WHERE o.so_far >= newest_points.most
                ORDER BY o.time DESC
                LIMIT 1
            ),
            '-infinity'
        )
    ORDER BY p.time DESC, p.time_ns DESC
    LIMIT newest_points.most;
END;
COMMENT ON FUNCTION newest_points IS
    'The newest data points of a metric, of one host or of all: as many as asked for, however many there are before.';
