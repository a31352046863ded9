-- Frames: points that were observed together as one row. %(partitioned)s is as in 0001_facts.sql.

CREATE TABLE series_set (
    id bigint PRIMARY KEY,
    epoch bigint NOT NULL
);
COMMENT ON TABLE series_set IS 'Sets of series whose points come together: a frame holds a value for each member of one.';
COMMENT ON COLUMN series_set.id IS 'Hash of the members.';
COMMENT ON COLUMN series_set.epoch IS 'Value of dimension_epoch when a writer last declared the row.';

CREATE TABLE member (
    set_id bigint NOT NULL,
    series_id bigint NOT NULL,
    ord smallint NOT NULL,
    is_int boolean NOT NULL,
    has_start boolean NOT NULL
);
CREATE UNIQUE INDEX member_series_id_set_id ON member (series_id, set_id);
CREATE INDEX member_set_id_ord ON member (set_id, ord);
COMMENT ON TABLE member IS 'Members of sets: at which place of a frame the value of a series stands.';
COMMENT ON COLUMN member.set_id IS 'The set.';
COMMENT ON COLUMN member.series_id IS 'The series.';
COMMENT ON COLUMN member.ord IS 'Its place in the arrays of a frame of the set, from 1.';
COMMENT ON COLUMN member.is_int IS 'Whether its values are integers.';
COMMENT ON COLUMN member.has_start IS 'Whether its points have a start time.';

CREATE TABLE frame (
    time timestamptz NOT NULL,
    set_id bigint NOT NULL,
    start_time timestamptz,
    time_ns smallint NOT NULL,
    start_time_ns smallint,
    vals double precision[] NOT NULL,
    ints bigint[],
    starts bigint[]
) %(partitioned)s;
CREATE INDEX frame_set_id_time ON frame (set_id, time DESC);
CREATE INDEX frame_time ON frame (time DESC);
COMMENT ON TABLE frame IS 'Number data points that were observed together, one for each member of a set.';
COMMENT ON COLUMN frame.time IS 'When the values were observed.';
COMMENT ON COLUMN frame.set_id IS 'The set whose members the values are of.';
COMMENT ON COLUMN frame.start_time IS 'Start of the interval that sums cover; NULL when not given, or in starts.';
COMMENT ON COLUMN frame.time_ns IS 'Nanoseconds (0-999) to add to time.';
COMMENT ON COLUMN frame.start_time_ns IS 'Nanoseconds (0-999) to add to start_time.';
COMMENT ON COLUMN frame.vals IS 'The value of each member.';
COMMENT ON COLUMN frame.ints IS 'Values that are integers, exactly; NULL when all of them are doubles as well.';
COMMENT ON COLUMN frame.starts IS 'Start time of each member, in nanoseconds since the Unix epoch; NULL when start_time is of all.';

-- Of a set of more members than the arrays of one row have room for below 2 kB, each 56 are a part.
CREATE TABLE frame_1m (
    time timestamptz NOT NULL,
    set_id bigint NOT NULL,
    last_time timestamptz NOT NULL,
    count integer NOT NULL,
    part smallint NOT NULL,
    maxs double precision[] NOT NULL,
    mins double precision[],
    sums double precision[],
    lasts double precision[]
) %(partitioned)s;
CREATE INDEX frame_1m_set_id_time ON frame_1m (set_id, time DESC);
CREATE INDEX frame_1m_time ON frame_1m (time DESC);

CREATE TABLE frame_1h (
    time timestamptz NOT NULL,
    set_id bigint NOT NULL,
    last_time timestamptz NOT NULL,
    count integer NOT NULL,
    part smallint NOT NULL,
    maxs double precision[] NOT NULL,
    mins double precision[],
    sums double precision[],
    lasts double precision[]
) %(partitioned)s;
CREATE INDEX frame_1h_set_id_time ON frame_1h (set_id, time DESC);
CREATE INDEX frame_1h_time ON frame_1h (time DESC);

CREATE TABLE rollup_pending_1h (
    hour timestamptz NOT NULL
);
COMMENT ON TABLE rollup_pending_1h IS 'Hours of which a minute was rolled up since they were.';
COMMENT ON COLUMN rollup_pending_1h.hour IS 'Start of the hour.';

CREATE FUNCTION instant(unix_nano bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN timestamptz '1970-01-01 00:00:00+00' + (unix_nano / 1000) * interval '1 microsecond';
COMMENT ON FUNCTION instant IS 'Timestamp of nanoseconds since the Unix epoch, without those that it has no room for.';

CREATE VIEW number_point AS
SELECT time, series_id, value, start_time, int_value, flags, time_ns, start_time_ns
FROM sample
UNION ALL
SELECT
    f.time,
    m.series_id,
    f.vals[m.ord],
    CASE WHEN m.has_start THEN coalesce(instant(f.starts[m.ord]), f.start_time) END,
    CASE WHEN m.is_int THEN coalesce(f.ints[m.ord], f.vals[m.ord]::bigint) END,
    NULL::bigint,
    f.time_ns,
    CASE WHEN m.has_start THEN coalesce((f.starts[m.ord] % 1000)::smallint, f.start_time_ns) END
FROM frame f
JOIN member m ON m.set_id = f.set_id;
COMMENT ON VIEW number_point IS 'Number data points, from rows and from frames.';
