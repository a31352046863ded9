-- Facts. %(partitioned)s is empty for hypertables and PARTITION BY RANGE (time) for native partitions.
-- No index holds a string of unbounded length: PostgreSQL refuses an index entry above 2704 bytes.
-- Columns stand in the order that wastes least to alignment; a null bitmap of up to 8 columns costs nothing.

CREATE TABLE sample (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    value double precision,
    start_time timestamptz,
    int_value bigint,
    flags bigint,
    time_ns smallint NOT NULL,
    start_time_ns smallint
) %(partitioned)s;
CREATE INDEX sample_series_id_time ON sample (series_id, time DESC);
COMMENT ON TABLE sample IS 'Number data points: gauges and sums.';
COMMENT ON COLUMN sample.time IS 'When the value was observed.';
COMMENT ON COLUMN sample.series_id IS 'The series the point belongs to.';
COMMENT ON COLUMN sample.value IS 'The value; NULL when none was recorded (see flags).';
COMMENT ON COLUMN sample.start_time IS 'Start of the interval that a sum covers; NULL when not given.';
COMMENT ON COLUMN sample.int_value IS 'The exact value when it was sent as an integer, else NULL.';
COMMENT ON COLUMN sample.flags IS 'Data point flags, bit 1: no recorded value; NULL stands for 0.';
COMMENT ON COLUMN sample.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN sample.start_time_ns IS 'Nanoseconds (0-999) to add to start_time.';

CREATE TABLE histogram_sample (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    start_time timestamptz,
    flags bigint,
    time_ns smallint NOT NULL,
    start_time_ns smallint,
    explicit_bounds double precision[] NOT NULL,
    bucket_counts bigint[] NOT NULL
) %(partitioned)s;
CREATE INDEX histogram_sample_series_id_time ON histogram_sample (series_id, time DESC);
COMMENT ON TABLE histogram_sample IS 'Data points of histograms with explicit bounds.';
COMMENT ON COLUMN histogram_sample.time IS 'End of the interval that the point covers.';
COMMENT ON COLUMN histogram_sample.series_id IS 'The series the point belongs to.';
COMMENT ON COLUMN histogram_sample.count IS 'Number of measurements.';
COMMENT ON COLUMN histogram_sample.sum IS 'Sum of the measurements; NULL when not given.';
COMMENT ON COLUMN histogram_sample.min IS 'Smallest measurement; NULL when not given.';
COMMENT ON COLUMN histogram_sample.max IS 'Largest measurement; NULL when not given.';
COMMENT ON COLUMN histogram_sample.start_time IS 'Start of the interval that the point covers; NULL when not given.';
COMMENT ON COLUMN histogram_sample.flags IS 'Data point flags, bit 1: no recorded value; NULL stands for 0.';
COMMENT ON COLUMN histogram_sample.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN histogram_sample.start_time_ns IS 'Nanoseconds (0-999) to add to start_time.';
COMMENT ON COLUMN histogram_sample.explicit_bounds IS 'Upper bounds of the buckets, inclusive; the last bucket has none.';
COMMENT ON COLUMN histogram_sample.bucket_counts IS 'Measurements in each bucket: one more than there are bounds.';

CREATE TABLE exp_histogram_sample (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    zero_count bigint NOT NULL,
    zero_threshold double precision NOT NULL,
    start_time timestamptz,
    flags bigint,
    scale integer NOT NULL,
    positive_offset integer,
    negative_offset integer,
    time_ns smallint NOT NULL,
    start_time_ns smallint,
    positive_bucket_counts bigint[],
    negative_bucket_counts bigint[]
) %(partitioned)s;
CREATE INDEX exp_histogram_sample_series_id_time ON exp_histogram_sample (series_id, time DESC);
COMMENT ON TABLE exp_histogram_sample IS 'Data points of exponential histograms.';
COMMENT ON COLUMN exp_histogram_sample.time IS 'End of the interval that the point covers.';
COMMENT ON COLUMN exp_histogram_sample.series_id IS 'The series the point belongs to.';
COMMENT ON COLUMN exp_histogram_sample.count IS 'Number of measurements.';
COMMENT ON COLUMN exp_histogram_sample.sum IS 'Sum of the measurements; NULL when not given.';
COMMENT ON COLUMN exp_histogram_sample.min IS 'Smallest measurement; NULL when not given.';
COMMENT ON COLUMN exp_histogram_sample.max IS 'Largest measurement; NULL when not given.';
COMMENT ON COLUMN exp_histogram_sample.zero_count IS 'Measurements within zero_threshold of zero.';
COMMENT ON COLUMN exp_histogram_sample.zero_threshold IS 'Half the width of the bucket around zero.';
COMMENT ON COLUMN exp_histogram_sample.start_time IS 'Start of the interval that the point covers; NULL when not given.';
COMMENT ON COLUMN exp_histogram_sample.flags IS 'Data point flags, bit 1: no recorded value; NULL stands for 0.';
COMMENT ON COLUMN exp_histogram_sample.scale IS 'Resolution: bucket bounds are powers of 2 ^ (2 ^ -scale).';
COMMENT ON COLUMN exp_histogram_sample.positive_offset IS 'Index of the first positive bucket; NULL when there are none.';
COMMENT ON COLUMN exp_histogram_sample.negative_offset IS 'Index of the first negative bucket; NULL when there are none.';
COMMENT ON COLUMN exp_histogram_sample.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN exp_histogram_sample.start_time_ns IS 'Nanoseconds (0-999) to add to start_time.';
COMMENT ON COLUMN exp_histogram_sample.positive_bucket_counts IS 'Measurements in each positive bucket.';
COMMENT ON COLUMN exp_histogram_sample.negative_bucket_counts IS 'Measurements in each negative bucket.';

CREATE TABLE summary_sample (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    start_time timestamptz,
    flags bigint,
    time_ns smallint NOT NULL,
    start_time_ns smallint,
    quantiles double precision[] NOT NULL,
    quantile_values double precision[] NOT NULL
) %(partitioned)s;
CREATE INDEX summary_sample_series_id_time ON summary_sample (series_id, time DESC);
COMMENT ON TABLE summary_sample IS 'Data points of summaries: quantiles computed by the sender.';
COMMENT ON COLUMN summary_sample.time IS 'End of the interval that the point covers.';
COMMENT ON COLUMN summary_sample.series_id IS 'The series the point belongs to.';
COMMENT ON COLUMN summary_sample.count IS 'Number of measurements.';
COMMENT ON COLUMN summary_sample.sum IS 'Sum of the measurements.';
COMMENT ON COLUMN summary_sample.start_time IS 'Start of the interval that the point covers; NULL when not given.';
COMMENT ON COLUMN summary_sample.flags IS 'Data point flags, bit 1: no recorded value; NULL stands for 0.';
COMMENT ON COLUMN summary_sample.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN summary_sample.start_time_ns IS 'Nanoseconds (0-999) to add to start_time.';
COMMENT ON COLUMN summary_sample.quantiles IS 'Quantiles, each between 0 and 1.';
COMMENT ON COLUMN summary_sample.quantile_values IS 'The value at each quantile.';

CREATE TABLE exemplar (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    exemplar_time timestamptz,
    value double precision,
    int_value bigint,
    time_ns smallint NOT NULL,
    exemplar_time_ns smallint,
    trace_id text,
    span_id text,
    filtered_attributes jsonb NOT NULL
) %(partitioned)s;
CREATE INDEX exemplar_series_id_time ON exemplar (series_id, time DESC);
COMMENT ON TABLE exemplar IS 'Exemplars: single measurements behind a data point, with the span in which they were made.';
COMMENT ON COLUMN exemplar.time IS 'Time of the data point that the exemplar belongs to.';
COMMENT ON COLUMN exemplar.series_id IS 'Series of the data point that the exemplar belongs to.';
COMMENT ON COLUMN exemplar.exemplar_time IS 'When the measurement was made; NULL when not given.';
COMMENT ON COLUMN exemplar.value IS 'The measured value.';
COMMENT ON COLUMN exemplar.int_value IS 'The exact value when it was sent as an integer, else NULL.';
COMMENT ON COLUMN exemplar.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN exemplar.exemplar_time_ns IS 'Nanoseconds (0-999) to add to exemplar_time.';
COMMENT ON COLUMN exemplar.trace_id IS 'Trace in which the measurement was made, in hexadecimal; NULL when there is none.';
COMMENT ON COLUMN exemplar.span_id IS 'Span in which the measurement was made, in hexadecimal; NULL when there is none.';
COMMENT ON COLUMN exemplar.filtered_attributes IS 'Attributes of the measurement that the series does not carry.';

CREATE TABLE log (
    time timestamptz NOT NULL,
    resource_id bigint NOT NULL,
    scope_id bigint NOT NULL,
    observed_time timestamptz,
    dropped_attributes_count bigint,
    flags bigint,
    severity_number integer NOT NULL,
    time_ns smallint,
    observed_time_ns smallint,
    severity_text text,
    event_name text,
    trace_id text,
    span_id text,
    body text,
    body_json jsonb,
    attributes jsonb NOT NULL
) %(partitioned)s;
CREATE INDEX log_time ON log (time DESC);
CREATE INDEX log_resource_id_time ON log (resource_id, time DESC);
CREATE INDEX log_event_time ON log (time DESC) WHERE event_name IS NOT NULL;
CREATE INDEX log_trace_id ON log (trace_id) WHERE trace_id IS NOT NULL;
COMMENT ON TABLE log IS 'Log records and events (log records with an event name).';
COMMENT ON COLUMN log.time IS 'When it happened; the time of observation or of arrival where the record carries no time.';
COMMENT ON COLUMN log.resource_id IS 'The resource that logged.';
COMMENT ON COLUMN log.scope_id IS 'The instrumentation scope that logged.';
COMMENT ON COLUMN log.observed_time IS 'When the record was seen by the collecting system; NULL when not given.';
COMMENT ON COLUMN log.dropped_attributes_count IS 'How many attributes the sender dropped; NULL stands for 0.';
COMMENT ON COLUMN log.flags IS 'Log record flags, the low 8 bits being the W3C trace flags; NULL stands for 0.';
COMMENT ON COLUMN log.severity_number IS 'Severity from 1 (trace) to 24 (fatal); 0 when not given.';
COMMENT ON COLUMN log.time_ns IS 'Nanoseconds (0-999) to add to time; NULL when the record carries no time of its own.';
COMMENT ON COLUMN log.observed_time_ns IS 'Nanoseconds (0-999) to add to observed_time.';
COMMENT ON COLUMN log.severity_text IS 'Severity as the source names it; NULL when not given.';
COMMENT ON COLUMN log.event_name IS 'Name of the event; NULL for a plain log record.';
COMMENT ON COLUMN log.trace_id IS 'Trace in which it happened, in hexadecimal; NULL when there is none.';
COMMENT ON COLUMN log.span_id IS 'Span in which it happened, in hexadecimal; NULL when there is none.';
COMMENT ON COLUMN log.body IS 'The body when it is a string.';
COMMENT ON COLUMN log.body_json IS 'The body when it is anything but a string.';
COMMENT ON COLUMN log.attributes IS 'Attributes of the record.';

CREATE TABLE span (
    time timestamptz NOT NULL,
    resource_id bigint NOT NULL,
    scope_id bigint NOT NULL,
    end_time timestamptz,
    flags bigint,
    dropped_attributes_count bigint,
    dropped_events_count bigint,
    dropped_links_count bigint,
    kind integer NOT NULL,
    status_code integer,
    time_ns smallint NOT NULL,
    end_time_ns smallint,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    parent_span_id text,
    trace_state text,
    name text NOT NULL,
    status_message text,
    attributes jsonb NOT NULL,
    events jsonb,
    links jsonb
) %(partitioned)s;
CREATE INDEX span_time ON span (time DESC);
CREATE INDEX span_resource_id_time ON span (resource_id, time DESC);
CREATE INDEX span_trace_id ON span (trace_id);
COMMENT ON TABLE span IS 'Spans.';
COMMENT ON COLUMN span.time IS 'When the span started.';
COMMENT ON COLUMN span.resource_id IS 'The resource that the span was made by.';
COMMENT ON COLUMN span.scope_id IS 'The instrumentation scope that made the span.';
COMMENT ON COLUMN span.end_time IS 'When the span ended; NULL when not given.';
COMMENT ON COLUMN span.flags IS 'Span flags, the low 8 bits being the W3C trace flags; NULL stands for 0.';
COMMENT ON COLUMN span.dropped_attributes_count IS 'How many attributes the sender dropped; NULL stands for 0.';
COMMENT ON COLUMN span.dropped_events_count IS 'How many events the sender dropped; NULL stands for 0.';
COMMENT ON COLUMN span.dropped_links_count IS 'How many links the sender dropped; NULL stands for 0.';
COMMENT ON COLUMN span.kind IS '0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.';
COMMENT ON COLUMN span.status_code IS '0 unset, 1 ok, 2 error; NULL when the span carries no status.';
COMMENT ON COLUMN span.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN span.end_time_ns IS 'Nanoseconds (0-999) to add to end_time.';
COMMENT ON COLUMN span.trace_id IS 'Trace id in hexadecimal.';
COMMENT ON COLUMN span.span_id IS 'Span id in hexadecimal.';
COMMENT ON COLUMN span.parent_span_id IS 'Span id of the parent in hexadecimal; NULL for a root span.';
COMMENT ON COLUMN span.trace_state IS 'W3C tracestate; NULL when empty.';
COMMENT ON COLUMN span.name IS 'Name of the operation.';
COMMENT ON COLUMN span.status_message IS 'Status message; NULL when empty.';
COMMENT ON COLUMN span.attributes IS 'Attributes of the span.';
COMMENT ON COLUMN span.events IS
    'Events in the span: objects with time_unix_nano, name, attributes, dropped_attributes_count. NULL when none.';
COMMENT ON COLUMN span.links IS
    'Links to other spans: objects with trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags. NULL when none.';
