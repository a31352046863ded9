-- Bounds and quantiles, which all points of a series repeat, become a dimension, and counts of buckets 4 bytes each where
-- they have room in them. What is there stays as it is: the new columns are NULL in it, as the earlier are in what comes.

CREATE TABLE bounds (
    id bigint PRIMARY KEY,
    epoch bigint NOT NULL,
    bounds double precision[] NOT NULL
);
COMMENT ON TABLE bounds IS 'Bounds of the buckets of histograms, and quantiles of summaries: lists that points share.';
COMMENT ON COLUMN bounds.id IS 'Hash of the list.';
COMMENT ON COLUMN bounds.epoch IS 'Value of dimension_epoch when a writer last declared the row.';
COMMENT ON COLUMN bounds.bounds IS 'The bounds, or quantiles.';

ALTER TABLE histogram_sample ALTER COLUMN explicit_bounds DROP NOT NULL;
ALTER TABLE histogram_sample ALTER COLUMN bucket_counts DROP NOT NULL;
ALTER TABLE histogram_sample ADD COLUMN bounds_id bigint;
ALTER TABLE histogram_sample ADD COLUMN small_bucket_counts integer[];
COMMENT ON COLUMN histogram_sample.explicit_bounds IS
    'Upper bounds of the buckets, inclusive; the last bucket has none. NULL where bounds_id is given.';
COMMENT ON COLUMN histogram_sample.bucket_counts IS
    'Measurements in each bucket: one more than there are bounds. NULL where small_bucket_counts has them.';
COMMENT ON COLUMN histogram_sample.bounds_id IS 'The list of bounds; NULL where it is in explicit_bounds.';
COMMENT ON COLUMN histogram_sample.small_bucket_counts IS 'Measurements in each bucket, where none has more than an integer holds.';

ALTER TABLE exp_histogram_sample ADD COLUMN small_positive_bucket_counts integer[];
ALTER TABLE exp_histogram_sample ADD COLUMN small_negative_bucket_counts integer[];
COMMENT ON COLUMN exp_histogram_sample.small_positive_bucket_counts IS
    'Measurements in each positive bucket, where none has more than an integer holds.';
COMMENT ON COLUMN exp_histogram_sample.small_negative_bucket_counts IS
    'Measurements in each negative bucket, where none has more than an integer holds.';

ALTER TABLE summary_sample ALTER COLUMN quantiles DROP NOT NULL;
ALTER TABLE summary_sample ADD COLUMN quantiles_id bigint;
COMMENT ON COLUMN summary_sample.quantiles IS 'Quantiles, each between 0 and 1. NULL where quantiles_id is given.';
COMMENT ON COLUMN summary_sample.quantiles_id IS 'The list of quantiles, which is in bounds; NULL where it is in quantiles.';

CREATE VIEW histogram_point AS
SELECT
    s.time, s.series_id, s.count, s.sum, s.min, s.max, s.start_time, s.flags, s.time_ns, s.start_time_ns,
    coalesce(s.explicit_bounds, b.bounds) AS explicit_bounds,
    coalesce(s.bucket_counts, s.small_bucket_counts::bigint[]) AS bucket_counts
FROM histogram_sample s
LEFT JOIN bounds b ON b.id = s.bounds_id;
COMMENT ON VIEW histogram_point IS 'Data points of histograms with explicit bounds, each with its bounds.';

CREATE VIEW exp_histogram_point AS
SELECT
    time, series_id, count, sum, min, max, start_time, flags, time_ns, start_time_ns, scale, zero_count, zero_threshold,
    positive_offset,
    coalesce(positive_bucket_counts, small_positive_bucket_counts::bigint[]) AS positive_bucket_counts,
    negative_offset,
    coalesce(negative_bucket_counts, small_negative_bucket_counts::bigint[]) AS negative_bucket_counts
FROM exp_histogram_sample;
COMMENT ON VIEW exp_histogram_point IS 'Data points of exponential histograms.';

CREATE VIEW summary_point AS
SELECT
    s.time, s.series_id, s.count, s.sum, s.start_time, s.flags, s.time_ns, s.start_time_ns,
    coalesce(s.quantiles, b.bounds) AS quantiles,
    s.quantile_values
FROM summary_sample s
LEFT JOIN bounds b ON b.id = s.quantiles_id;
COMMENT ON VIEW summary_point IS 'Data points of summaries, each with its quantiles.';

-- The bounds are joined to the union of both, not within it: PostgreSQL takes a condition on the series through a union of
-- plain tables only.
CREATE OR REPLACE VIEW histograms AS
SELECT
    s.time,
    m.name,
    s.count,
    s.sum,
    mean_of(s.sum, s.count) AS mean,
    s.min,
    s.max,
    m.unit,
    r.host_name,
    r.service_name,
    e.attributes,
    r.attributes AS resource,
    c.name AS scope_name,
    m.type,
    m.temporality,
    m.description,
    s.start_time,
    s.flags,
    s.series_id,
    s.time_ns,
    coalesce(s.explicit_bounds, b.bounds) AS explicit_bounds,
    coalesce(s.bucket_counts, s.small_bucket_counts::bigint[]) AS bucket_counts,
    s.scale,
    s.zero_count,
    s.zero_threshold,
    s.positive_offset,
    coalesce(s.positive_bucket_counts, s.small_positive_bucket_counts::bigint[]) AS positive_bucket_counts,
    s.negative_offset,
    coalesce(s.negative_bucket_counts, s.small_negative_bucket_counts::bigint[]) AS negative_bucket_counts,
    unix_nano(s.time, s.time_ns) AS time_unix_nano,
    unix_nano(s.start_time, s.start_time_ns) AS start_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM (
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, start_time_ns,
        explicit_bounds, bucket_counts, bounds_id, small_bucket_counts,
        NULL::integer AS scale, NULL::bigint AS zero_count, NULL::double precision AS zero_threshold,
        NULL::integer AS positive_offset, NULL::bigint[] AS positive_bucket_counts,
        NULL::integer[] AS small_positive_bucket_counts,
        NULL::integer AS negative_offset, NULL::bigint[] AS negative_bucket_counts,
        NULL::integer[] AS small_negative_bucket_counts
    FROM histogram_sample
    UNION ALL
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, start_time_ns, NULL, NULL, NULL, NULL,
        scale, zero_count, zero_threshold,
        positive_offset, positive_bucket_counts, small_positive_bucket_counts,
        negative_offset, negative_bucket_counts, small_negative_bucket_counts
    FROM exp_histogram_sample
) s
LEFT JOIN bounds b ON b.id = s.bounds_id
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

CREATE OR REPLACE VIEW summaries AS
SELECT
    s.time,
    m.name,
    s.count,
    s.sum,
    coalesce(s.quantiles, b.bounds) AS quantiles,
    s.quantile_values,
    m.unit,
    r.host_name,
    r.service_name,
    e.attributes,
    r.attributes AS resource,
    c.name AS scope_name,
    m.description,
    s.start_time,
    s.flags,
    s.series_id,
    s.time_ns,
    unix_nano(s.time, s.time_ns) AS time_unix_nano,
    unix_nano(s.start_time, s.start_time_ns) AS start_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM summary_sample s
LEFT JOIN bounds b ON b.id = s.quantiles_id
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
