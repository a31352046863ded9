-- The continuous aggregates of 0001, with the time of the latest value: a rate needs it (docs/decisions/0049).
-- Values above 1e290 are left out of the sum: PostgreSQL raises an error for one that has no double.

CREATE MATERIALIZED VIEW sample_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    time_bucket(INTERVAL '1 minute', time) AS time,
    series_id,
    count(value) FILTER (WHERE value <> 'NaN') AS count,
    sum(value) FILTER (WHERE abs(value) <= 1e290 OR abs(value) = 'Infinity') AS sum,
    min(value) FILTER (WHERE value <> 'NaN') AS min,
    max(value) FILTER (WHERE value <> 'NaN') AS max,
    last(value, time) FILTER (WHERE value <> 'NaN') AS last,
    max(time) FILTER (WHERE value <> 'NaN') AS last_time
FROM sample
GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW sample_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    time_bucket(INTERVAL '1 hour', time) AS time,
    series_id,
    sum(count)::bigint AS count,
    sum(sum) AS sum,
    min(min) AS min,
    max(max) AS max,
    last(last, time) FILTER (WHERE count > 0) AS last,
    max(last_time) AS last_time
FROM sample_1m
GROUP BY 1, 2
WITH NO DATA;

COMMENT ON VIEW sample_1m IS 'Number data points rolled up by minute.';
COMMENT ON VIEW sample_1h IS 'Number data points rolled up by hour.';
