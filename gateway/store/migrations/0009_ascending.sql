-- Indexes that run with time, of tables that hold nothing yet: half the size, as pages that are full are left behind.

-- PostgreSQL fills a page where entries come at the end of it, or of the series that it is about, and halves it where they
-- come at its beginning, which is where the newest is in an index by descending time. It reads both in either direction.
-- To build an index anew keeps writers waiting, so where there are records already it stays as it is.
DO $$
DECLARE
    each record;
    is_used boolean;
BEGIN
    FOR each IN
        SELECT t.relname AS of_table, c.relname AS name, pg_get_indexdef(c.oid) AS definition
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_class t ON t.oid = i.indrelid
        WHERE t.relnamespace = quote_ident(current_schema())::regnamespace
            AND t.relname IN ('sample', 'frame', 'histogram_sample', 'exp_histogram_sample', 'summary_sample', 'exemplar',
                              'log', 'span', 'sample_1m', 'sample_1h', 'frame_1m', 'frame_1h')
            AND pg_get_indexdef(c.oid) LIKE '% DESC%'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', each.of_table) INTO is_used;
        IF NOT is_used THEN
            EXECUTE format('DROP INDEX %I', each.name);
            EXECUTE replace(replace(each.definition, ' ON ONLY ', ' ON '), ' DESC', '');
        END IF;
    END LOOP;
END $$;
