-- Hypertables find a time range by their chunks; native partitions are larger, and the rollups need minutes of them.

CREATE INDEX sample_time ON sample USING brin (time) WITH (pages_per_range = 32);
CREATE INDEX sample_1m_time ON sample_1m USING brin (time) WITH (pages_per_range = 32);
