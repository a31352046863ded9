-- Rollups where the gateway computes them: native partitions, and TimescaleDB's Apache edition.

CREATE TABLE sample_1m (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    last double precision
) %(partitioned)s;
CREATE INDEX sample_1m_series_id_time ON sample_1m (series_id, time DESC);

CREATE TABLE sample_1h (
    time timestamptz NOT NULL,
    series_id bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    last double precision
) %(partitioned)s;
CREATE INDEX sample_1h_series_id_time ON sample_1h (series_id, time DESC);
