-- What is said of the relations of 0007 and their columns, where nothing is said of them yet.

COMMENT ON TABLE sample_1m IS 'Number data points rolled up by minute, of series that are not in frame_1m.';
COMMENT ON TABLE sample_1h IS 'Number data points rolled up by hour, of series that are not in frame_1h.';
COMMENT ON TABLE frame_1m IS 'Number data points of a part of a set, rolled up by minute.';
COMMENT ON TABLE frame_1h IS 'Number data points of a part of a set, rolled up by hour.';
COMMENT ON VIEW rollup_1m IS 'Number data points rolled up by minute, from rows and from frames.';
COMMENT ON VIEW rollup_1h IS 'Number data points rolled up by hour, from rows and from frames.';

DO $$
DECLARE
    said CONSTANT jsonb := '{
        "last_time": "When the latest value was observed; NULL where that was rolled up by a version that did not keep it.",
        "set_id": "The set whose members the values are of.",
        "part": "Which of its members: those from 56 * part + 1 on, 56 at most.",
        "maxs": "Largest value of each member; NULL for one that has its rollup elsewhere.",
        "mins": "Smallest value of each member; NULL when they are equal to maxs.",
        "sums": "Sum of the values of each member; NULL when they are count * maxs.",
        "lasts": "Latest value of each member; NULL when they are equal to maxs.",
        "series_id": "The series, by which points of one are told from those of another.",
        "count": "Number of values in the interval, NaN left out.",
        "sum": "Sum of the values.",
        "min": "Smallest value.",
        "max": "Largest value.",
        "last": "Latest value.",
        "time": "Start of the interval."
    }';
    target record;
BEGIN
    FOR target IN
        SELECT c.relname, a.attname
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relname IN ('number_point', 'sample_1m', 'sample_1h', 'frame_1m', 'frame_1h', 'rollup_1m', 'rollup_1h')
            AND c.relnamespace = quote_ident(current_schema())::regnamespace
            AND col_description(c.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', target.relname, target.attname, coalesce(
            CASE WHEN target.relname = 'number_point' THEN
                (SELECT col_description(a.attrelid, a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = 'sample'::regclass AND a.attname = target.attname)
            END,
            said ->> target.attname));
    END LOOP;
END $$;
