-- Dimensions: what facts refer to. Each key is the first 8 bytes (big-endian, signed) of a BLAKE2b hash of the row's
-- canonical form, so every writer computes the same key and nobody asks the database for one.

CREATE TABLE store_setting (
    key text PRIMARY KEY,
    value jsonb NOT NULL
);
COMMENT ON TABLE store_setting IS 'Facts about this store that the gateway decides once, such as its layout.';
COMMENT ON COLUMN store_setting.key IS 'Name of the fact.';
COMMENT ON COLUMN store_setting.value IS 'The fact itself.';

CREATE TABLE resource (
    id bigint PRIMARY KEY,
    attributes jsonb,
    dropped_attributes_count bigint NOT NULL DEFAULT 0,
    entity_refs jsonb,
    schema_url text NOT NULL DEFAULT '',
    epoch bigint NOT NULL,
    service_name text GENERATED ALWAYS AS (attributes ->> 'service.name') STORED,
    host_name text GENERATED ALWAYS AS (attributes ->> 'host.name') STORED
);
-- Hash indexes, because these strings have no length limit and entries of a B-tree do.
CREATE INDEX resource_service_name ON resource USING hash (service_name);
CREATE INDEX resource_host_name ON resource USING hash (host_name);
COMMENT ON TABLE resource IS 'OpenTelemetry resources: the hosts, services and processes that telemetry is about.';
COMMENT ON COLUMN resource.id IS 'Hash of the other columns.';
COMMENT ON COLUMN resource.attributes IS 'Resource attributes; NULL when the request carried no resource at all.';
COMMENT ON COLUMN resource.dropped_attributes_count IS 'How many attributes the sender dropped.';
COMMENT ON COLUMN resource.entity_refs IS 'Entities the resource consists of; NULL when there are none.';
COMMENT ON COLUMN resource.schema_url IS 'Schema URL that applies to the resource; empty when not given.';
COMMENT ON COLUMN resource.epoch IS 'Value of dimension_epoch when a writer last declared the row.';
COMMENT ON COLUMN resource.service_name IS 'Attribute service.name of the resource.';
COMMENT ON COLUMN resource.host_name IS 'Attribute host.name of the resource.';

CREATE TABLE scope (
    id bigint PRIMARY KEY,
    name text,
    version text NOT NULL DEFAULT '',
    attributes jsonb NOT NULL DEFAULT '{}',
    dropped_attributes_count bigint NOT NULL DEFAULT 0,
    schema_url text NOT NULL DEFAULT '',
    epoch bigint NOT NULL
);
COMMENT ON TABLE scope IS 'Instrumentation scopes: the libraries and modules that produced telemetry.';
COMMENT ON COLUMN scope.id IS 'Hash of the other columns.';
COMMENT ON COLUMN scope.name IS 'Name of the scope; NULL when the request carried no scope at all.';
COMMENT ON COLUMN scope.version IS 'Version of the scope; empty when not given.';
COMMENT ON COLUMN scope.attributes IS 'Scope attributes.';
COMMENT ON COLUMN scope.dropped_attributes_count IS 'How many attributes the sender dropped.';
COMMENT ON COLUMN scope.schema_url IS 'Schema URL that applies to the telemetry of this scope; empty when not given.';
COMMENT ON COLUMN scope.epoch IS 'Value of dimension_epoch when a writer last declared the row.';

CREATE TABLE metric (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    type text NOT NULL,
    unit text NOT NULL,
    description text NOT NULL,
    temporality integer NOT NULL,
    is_monotonic boolean NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    epoch bigint NOT NULL
);
CREATE INDEX metric_name ON metric USING hash (name);
COMMENT ON TABLE metric IS 'Metrics: what is measured, in which unit and how points relate to each other.';
COMMENT ON COLUMN metric.id IS 'Hash of the other columns.';
COMMENT ON COLUMN metric.name IS 'Metric name, such as system.cpu.utilization.';
COMMENT ON COLUMN metric.type IS 'gauge, sum, histogram, exponential_histogram or summary.';
COMMENT ON COLUMN metric.unit IS 'Unit in UCUM notation.';
COMMENT ON COLUMN metric.description IS 'Description for people.';
COMMENT ON COLUMN metric.temporality IS 'Aggregation temporality: 0 unspecified or not applicable, 1 delta, 2 cumulative.';
COMMENT ON COLUMN metric.is_monotonic IS 'Whether a sum only ever grows.';
COMMENT ON COLUMN metric.metadata IS 'Metadata attributes of the metric itself.';
COMMENT ON COLUMN metric.epoch IS 'Value of dimension_epoch when a writer last declared the row.';

CREATE TABLE series (
    id bigint PRIMARY KEY,
    metric_id bigint NOT NULL,
    resource_id bigint NOT NULL,
    scope_id bigint NOT NULL,
    attributes jsonb NOT NULL,
    epoch bigint NOT NULL
);
CREATE INDEX series_metric_id ON series (metric_id);
CREATE INDEX series_resource_id ON series (resource_id);
CREATE INDEX series_scope_id ON series (scope_id);
COMMENT ON TABLE series IS 'Time series: one metric of one resource and scope with one set of attributes.';
COMMENT ON COLUMN series.id IS 'Hash of the other columns.';
COMMENT ON COLUMN series.metric_id IS 'The metric.';
COMMENT ON COLUMN series.resource_id IS 'The resource.';
COMMENT ON COLUMN series.scope_id IS 'The instrumentation scope.';
COMMENT ON COLUMN series.attributes IS 'Attributes of the data points.';
COMMENT ON COLUMN series.epoch IS 'Value of dimension_epoch when a writer last declared the row.';

CREATE TABLE dimension_epoch (
    epoch bigint NOT NULL
);
INSERT INTO dimension_epoch VALUES (0);
COMMENT ON TABLE dimension_epoch IS
    'One row. Its number grows before unused dimensions are removed, which tells writers to declare theirs anew.';
COMMENT ON COLUMN dimension_epoch.epoch IS 'How often that was.';

CREATE TABLE receipt (
    digest uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX receipt_received_at ON receipt USING brin (received_at);
COMMENT ON TABLE receipt IS
    'Digests of the batches stored lately, written in the transaction of their rows: a batch sent again is recognized.';
COMMENT ON COLUMN receipt.digest IS '128-bit BLAKE2b digest of the serialized OTLP request.';
COMMENT ON COLUMN receipt.received_at IS 'When the batch was stored.';

CREATE TABLE rollup_pending (
    minute timestamptz NOT NULL
);
COMMENT ON TABLE rollup_pending IS
    'Minutes that got new data points since their rollups were last computed. Empty where TimescaleDB keeps the rollups.';
COMMENT ON COLUMN rollup_pending.minute IS 'Start of the minute.';
