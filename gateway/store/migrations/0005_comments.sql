-- What is said of the key of a metric, as it is.

-- Description and metadata have not identified a metric for some versions.
COMMENT ON COLUMN metric.id IS
    'Hash of name, type, unit, temporality and is_monotonic: what else there is describes the metric.';
