-- When the latest value of an interval was observed: a rate needs it (docs/decisions/0049). Rows from before have none.
ALTER TABLE sample_1m ADD COLUMN last_time timestamptz;
ALTER TABLE sample_1h ADD COLUMN last_time timestamptz;
