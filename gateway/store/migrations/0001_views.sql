-- Views for people. A Grafana panel is one short SELECT on one of these.

CREATE FUNCTION unix_nano(at timestamptz, ns integer) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM at) * 1000000000)::numeric(20, 0) + coalesce(ns, 0);
COMMENT ON FUNCTION unix_nano IS 'Exact nanoseconds since the Unix epoch, from a timestamp and its nanosecond remainder.';

CREATE FUNCTION mean_of(sum double precision, count bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN count = 0 THEN NULL WHEN abs(sum) < 1e-300 THEN 0 ELSE sum / count END;
COMMENT ON FUNCTION mean_of IS
    'Sum divided by count. PostgreSQL raises an error where the quotient of a tiny sum has no double; here it is 0.';

CREATE VIEW metrics AS
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
    s.time_ns
FROM sample s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW metrics IS 'Number data points of gauges and sums, with everything known about them.';

CREATE VIEW metrics_1m AS
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
    s.series_id
FROM sample_1m s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW metrics_1m IS 'Number data points rolled up by minute: the columns of metrics, value being the mean.';

CREATE VIEW metrics_1h AS
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
    s.series_id
FROM sample_1h s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW metrics_1h IS 'Number data points rolled up by hour: the columns of metrics, value being the mean.';

CREATE VIEW histograms AS
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
    s.negative_bucket_counts
FROM (
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, explicit_bounds, bucket_counts,
        NULL::integer AS scale, NULL::bigint AS zero_count, NULL::double precision AS zero_threshold,
        NULL::integer AS positive_offset, NULL::bigint[] AS positive_bucket_counts,
        NULL::integer AS negative_offset, NULL::bigint[] AS negative_bucket_counts
    FROM histogram_sample
    UNION ALL
    SELECT
        time, series_id, count, sum, min, max, start_time, flags, time_ns, NULL, NULL,
        scale, zero_count, zero_threshold,
        positive_offset, positive_bucket_counts, negative_offset, negative_bucket_counts
    FROM exp_histogram_sample
) s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW histograms IS 'Data points of histograms, with explicit bounds and exponential ones alike.';
COMMENT ON COLUMN histograms.mean IS 'Mean of the measurements.';

CREATE VIEW summaries AS
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
    s.time_ns
FROM summary_sample s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id;
COMMENT ON VIEW summaries IS 'Data points of summaries.';

CREATE VIEW exemplars AS
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
    s.series_id
FROM exemplar s
JOIN series e ON e.id = s.series_id
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id;
COMMENT ON VIEW exemplars IS 'Exemplars, with the metric and the attributes of the data point they belong to.';

CREATE VIEW logs AS
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
    unix_nano(l.time, l.time_ns) AS time_unix_nano
FROM log l
JOIN resource r ON r.id = l.resource_id
JOIN scope c ON c.id = l.scope_id;
COMMENT ON VIEW logs IS 'Log records, events among them.';
COMMENT ON COLUMN logs.severity IS 'Severity as the source names it, or the name of its number.';
COMMENT ON COLUMN logs.body IS 'The body as text, whatever its type.';
COMMENT ON COLUMN logs.time_unix_nano IS 'time, exact, in nanoseconds since the Unix epoch.';

CREATE VIEW events AS
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
    unix_nano(l.time, l.time_ns) AS time_unix_nano
FROM log l
JOIN resource r ON r.id = l.resource_id
JOIN scope c ON c.id = l.scope_id
WHERE l.event_name IS NOT NULL;
COMMENT ON VIEW events IS 'Events: log records with an event name.';
COMMENT ON COLUMN events.name IS 'Name of the event.';
COMMENT ON COLUMN events.body IS 'The body as JSON, whatever its type.';
COMMENT ON COLUMN events.time_unix_nano IS 'time, exact, in nanoseconds since the Unix epoch.';

CREATE VIEW spans AS
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
    unix_nano(s.end_time, s.end_time_ns) AS end_time_unix_nano
FROM span s
JOIN resource r ON r.id = s.resource_id
JOIN scope c ON c.id = s.scope_id;
COMMENT ON VIEW spans IS 'Spans, with the service and host that made them.';
COMMENT ON COLUMN spans.duration_ms IS 'Duration in milliseconds; NULL when the end is not known.';
COMMENT ON COLUMN spans.kind IS 'unspecified, internal, server, client, producer or consumer.';
COMMENT ON COLUMN spans.status IS 'unset, ok or error.';
COMMENT ON COLUMN spans.start_time_unix_nano IS 'Start, exact, in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN spans.end_time_unix_nano IS 'End, exact, in nanoseconds since the Unix epoch.';

-- sample_1m and sample_1h are tables in one layout and views in the other, so their comments stand here.
DO $$
DECLARE
    rollup text;
    kind text;
BEGIN
    FOREACH rollup IN ARRAY ARRAY['sample_1m', 'sample_1h'] LOOP
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END INTO kind FROM pg_class WHERE oid = rollup::regclass;
        EXECUTE format('COMMENT ON %s %I IS %L', kind, rollup,
            'Number data points rolled up by ' || CASE rollup WHEN 'sample_1m' THEN 'minute.' ELSE 'hour.' END);
        EXECUTE format('COMMENT ON COLUMN %I.time IS %L', rollup, 'Start of the interval.');
        EXECUTE format('COMMENT ON COLUMN %I.series_id IS %L', rollup, 'The series rolled up.');
        EXECUTE format('COMMENT ON COLUMN %I.count IS %L', rollup, 'Number of values in the interval, NaN left out.');
        EXECUTE format('COMMENT ON COLUMN %I.sum IS %L', rollup, 'Sum of the values.');
        EXECUTE format('COMMENT ON COLUMN %I.min IS %L', rollup, 'Smallest value.');
        EXECUTE format('COMMENT ON COLUMN %I.max IS %L', rollup, 'Largest value.');
        EXECUTE format('COMMENT ON COLUMN %I.last IS %L', rollup, 'Latest value.');
    END LOOP;
END $$;

-- A view's column that says the same as the column it comes from carries the same comment.
DO $$
DECLARE
    target record;
    sources text[];
BEGIN
    FOR target IN
        SELECT c.relname, a.attname, a.attnum, c.oid
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relname IN ('metrics', 'metrics_1m', 'metrics_1h', 'histograms', 'summaries', 'exemplars',
                            'logs', 'events', 'spans')
          AND c.relnamespace = quote_ident(current_schema())::regnamespace
          AND col_description(c.oid, a.attnum) IS NULL
    LOOP
        sources := CASE target.relname
            WHEN 'metrics' THEN ARRAY['sample', 'metric', 'resource', 'series']
            WHEN 'metrics_1m' THEN ARRAY['sample_1m', 'metric', 'sample', 'resource', 'series']
            WHEN 'metrics_1h' THEN ARRAY['sample_1h', 'metric', 'sample', 'resource', 'series']
            WHEN 'histograms' THEN ARRAY['histogram_sample', 'exp_histogram_sample', 'metric', 'resource', 'series']
            WHEN 'summaries' THEN ARRAY['summary_sample', 'metric', 'resource', 'series']
            WHEN 'exemplars' THEN ARRAY['exemplar', 'metric', 'resource', 'series']
            WHEN 'spans' THEN ARRAY['span', 'resource']
            ELSE ARRAY['log', 'resource']
        END;
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', target.relname, target.attname, coalesce(
            CASE target.attname
                WHEN 'resource' THEN 'Attributes of the resource.'
                WHEN 'scope_name' THEN 'Name of the instrumentation scope.'
                WHEN 'value' THEN CASE WHEN target.relname LIKE 'metrics\_1%' THEN 'Mean of the values in the interval.' END
            END,
            (SELECT col_description(a.attrelid, a.attnum)
             FROM unnest(sources) WITH ORDINALITY AS source (relation, rank)
             JOIN pg_attribute a ON a.attrelid = source.relation::regclass AND a.attname = target.attname
             ORDER BY rank LIMIT 1)));
    END LOOP;
END $$;
