-- What is said of the columns of the views of 0008: the same as of those that they are made of.

DO $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT c.oid, c.relname, a.attname, source.name AS source
        FROM (VALUES ('metrics_latest', 'metrics'), ('metric_catalogue', 'metric'), ('histogram_point', 'histogram_sample'),
                     ('exp_histogram_point', 'exp_histogram_sample'), ('summary_point', 'summary_sample'))
            AS source (target, name)
        JOIN pg_class c ON c.oid = source.target::regclass
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE col_description(c.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', target.relname, target.attname,
            (SELECT col_description(a.attrelid, a.attnum) FROM pg_attribute a
             WHERE a.attrelid = target.source::regclass AND a.attname = target.attname));
    END LOOP;
END $$;
COMMENT ON COLUMN histogram_point.explicit_bounds IS 'Upper bounds of the buckets, inclusive; the last bucket has none.';
COMMENT ON COLUMN histogram_point.bucket_counts IS 'Measurements in each bucket: one more than there are bounds.';
COMMENT ON COLUMN summary_point.quantiles IS 'Quantiles, each between 0 and 1.';
