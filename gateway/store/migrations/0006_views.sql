-- What was missing in the views: exact times, scopes and schema URLs; and what there is, without its data points.
-- Columns are added at the end, so that views of other people that read these stay as they are.

CREATE OR REPLACE VIEW metrics AS
SELECT
    s.time,
    m.name,
    s.value,
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
    s.int_value,
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
FROM sample s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

CREATE OR REPLACE VIEW metrics_1m AS
SELECT
    s.time,
    m.name,
    mean_of(s.sum, s.count) AS value,
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
    s.count,
    s.sum,
    s.min,
    s.max,
    s.last,
    s.series_id,
    s.last_time,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM rollup_1m s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

CREATE OR REPLACE VIEW metrics_1h AS
SELECT
    s.time,
    m.name,
    mean_of(s.sum, s.count) AS value,
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
    s.count,
    s.sum,
    s.min,
    s.max,
    s.last,
    s.series_id,
    s.last_time,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM rollup_1h s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

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
    s.explicit_bounds,
    s.bucket_counts,
    s.scale,
    s.zero_count,
    s.zero_threshold,
    s.positive_offset,
    s.positive_bucket_counts,
    s.negative_offset,
    s.negative_bucket_counts,
    unix_nano(s.time, s.time_ns) AS time_unix_nano,
    unix_nano(s.start_time, s.start_time_ns) AS start_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM (
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, start_time_ns, explicit_bounds, bucket_counts,
        NULL::integer AS scale, NULL::bigint AS zero_count, NULL::double precision AS zero_threshold,
        NULL::integer AS positive_offset, NULL::bigint[] AS positive_bucket_counts,
        NULL::integer AS negative_offset, NULL::bigint[] AS negative_bucket_counts
    FROM histogram_sample
    UNION ALL
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, start_time_ns, NULL, NULL,
        scale, zero_count, zero_threshold,
        positive_offset, positive_bucket_counts, negative_offset, negative_bucket_counts
    FROM exp_histogram_sample
) s
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
    s.quantiles,
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
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

CREATE OR REPLACE VIEW exemplars AS
SELECT
    s.time,
    m.name,
    s.value,
    s.trace_id,
    s.span_id,
    s.exemplar_time,
    s.filtered_attributes,
    m.unit,
    r.host_name,
    r.service_name,
    e.attributes,
    r.attributes AS resource,
    s.int_value,
    s.series_id,
    unix_nano(s.time, s.time_ns) AS time_unix_nano,
    unix_nano(s.exemplar_time, s.exemplar_time_ns) AS exemplar_time_unix_nano,
    c.name AS scope_name,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM exemplar s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;

CREATE OR REPLACE VIEW logs AS
SELECT
    l.time,
    coalesce(l.severity_text, CASE
        WHEN l.severity_number BETWEEN 1 AND 4 THEN 'TRACE'
        WHEN l.severity_number BETWEEN 5 AND 8 THEN 'DEBUG'
        WHEN l.severity_number BETWEEN 9 AND 12 THEN 'INFO'
        WHEN l.severity_number BETWEEN 13 AND 16 THEN 'WARN'
        WHEN l.severity_number BETWEEN 17 AND 20 THEN 'ERROR'
        WHEN l.severity_number BETWEEN 21 AND 24 THEN 'FATAL'
    END) AS severity,
    coalesce(l.body, l.body_json::text) AS body,
    r.service_name,
    r.host_name,
    l.attributes,
    r.attributes AS resource,
    c.name AS scope_name,
    l.severity_number,
    l.severity_text,
    l.event_name,
    l.trace_id,
    l.span_id,
    l.body_json,
    l.observed_time,
    l.flags,
    l.dropped_attributes_count,
    unix_nano(l.time, l.time_ns) AS time_unix_nano,
    unix_nano(l.observed_time, l.observed_time_ns) AS observed_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM log l
JOIN resource r ON r.id = l.resource_id
JOIN scope c ON c.id = l.scope_id;

CREATE OR REPLACE VIEW events AS
SELECT
    l.time,
    l.event_name AS name,
    coalesce(l.body_json, to_jsonb(l.body)) AS body,
    r.service_name,
    r.host_name,
    l.attributes,
    r.attributes AS resource,
    c.name AS scope_name,
    l.severity_number,
    l.severity_text,
    l.trace_id,
    l.span_id,
    l.observed_time,
    l.flags,
    l.dropped_attributes_count,
    unix_nano(l.time, l.time_ns) AS time_unix_nano,
    unix_nano(l.observed_time, l.observed_time_ns) AS observed_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM log l
JOIN resource r ON r.id = l.resource_id
JOIN scope c ON c.id = l.scope_id
WHERE l.event_name IS NOT NULL;

CREATE OR REPLACE VIEW spans AS
SELECT
    s.time,
    s.name,
    r.service_name,
    (extract(epoch FROM s.end_time - s.time) * 1000
        + (coalesce(s.end_time_ns, 0) - s.time_ns) / 1000000.0)::double precision AS duration_ms,
    CASE s.kind
        WHEN 0 THEN 'unspecified' WHEN 1 THEN 'internal' WHEN 2 THEN 'server' WHEN 3 THEN 'client'
        WHEN 4 THEN 'producer' WHEN 5 THEN 'consumer' ELSE s.kind::text
    END AS kind,
    CASE coalesce(s.status_code, 0)
        WHEN 0 THEN 'unset' WHEN 1 THEN 'ok' WHEN 2 THEN 'error' ELSE s.status_code::text
    END AS status,
    s.status_message,
    s.trace_id,
    s.span_id,
    s.parent_span_id,
    r.host_name,
    s.attributes,
    s.events,
    s.links,
    r.attributes AS resource,
    c.name AS scope_name,
    s.end_time,
    s.trace_state,
    s.flags,
    s.dropped_attributes_count,
    s.dropped_events_count,
    s.dropped_links_count,
    unix_nano(s.time, s.time_ns) AS start_time_unix_nano,
    unix_nano(s.end_time, s.end_time_ns) AS end_time_unix_nano,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM span s
JOIN resource r ON r.id = s.resource_id
JOIN scope c ON c.id = s.scope_id;

COMMENT ON VIEW rollup_1m IS 'sample_1m, and what an earlier version rolled up of points that are gone.';
COMMENT ON VIEW rollup_1h IS 'sample_1h, and what an earlier version rolled up of points that are gone.';

CREATE VIEW resources AS
SELECT service_name, host_name, attributes, schema_url, entity_refs, dropped_attributes_count
FROM resource;
COMMENT ON VIEW resources IS 'What telemetry is about: hosts, services and processes, with their attributes.';

CREATE VIEW metric_series AS
SELECT
    m.name,
    m.unit,
    m.type,
    r.host_name,
    r.service_name,
    e.attributes,
    r.attributes AS resource,
    m.temporality,
    m.is_monotonic,
    m.description,
    m.metadata,
    e.id AS series_id,
    c.name AS scope_name,
    c.version AS scope_version,
    c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url
FROM series e
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW metric_series IS 'Which metrics there are, and their series, without the data points.';

DO $$
DECLARE
    said CONSTANT jsonb := '{
        "time_unix_nano": "time, exact, in nanoseconds since the Unix epoch.",
        "start_time_unix_nano": "start_time, exact, in nanoseconds since the Unix epoch; NULL when not given.",
        "exemplar_time_unix_nano": "exemplar_time, exact, in nanoseconds since the Unix epoch; NULL when not given.",
        "observed_time_unix_nano": "observed_time, exact, in nanoseconds since the Unix epoch; NULL when not given.",
        "last_time": "When the latest value was observed; NULL where that was rolled up by a version that did not keep it.",
        "scope_name": "Name of the instrumentation scope.",
        "scope_version": "Version of the instrumentation scope; empty when not given.",
        "scope_attributes": "Attributes of the instrumentation scope.",
        "scope_schema_url": "Schema URL that applies to the telemetry of the scope; empty when not given.",
        "resource_schema_url": "Schema URL that applies to the resource; empty when not given.",
        "resource": "Attributes of the resource.",
        "series_id": "The series, by which points of one are told from those of another.",
        "count": "Number of values in the interval, NaN left out.",
        "sum": "Sum of the values.",
        "min": "Smallest value.",
        "max": "Largest value.",
        "last": "Latest value.",
        "time": "Start of the interval."
    }';
    views CONSTANT text[] := ARRAY['metrics', 'metrics_1m', 'metrics_1h', 'histograms', 'summaries', 'exemplars', 'logs',
                                   'events', 'spans', 'resources', 'metric_series', 'sample_1m', 'sample_1h',
                                   'rollup_1m', 'rollup_1h'];
    target record;
BEGIN
    FOR target IN
        SELECT c.relname, a.attname
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relname = ANY (views) AND c.relnamespace = quote_ident(current_schema())::regnamespace
          AND col_description(c.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', target.relname, target.attname, coalesce(
            said ->> target.attname,
            (SELECT col_description(a.attrelid, a.attnum)
             FROM unnest(ARRAY['metric', 'resource', 'series']) WITH ORDINALITY AS source (relation, rank)
             JOIN pg_attribute a ON a.attrelid = source.relation::regclass AND a.attname = target.attname
             ORDER BY rank LIMIT 1)));
    END LOOP;
END $$;
