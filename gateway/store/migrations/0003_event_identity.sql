-- Identities of events, by which one sent again is recognized.
-- Who carries one is stored once, however often it is sent (docs/decisions/0020).

CREATE TABLE event_identity (
    uid uuid PRIMARY KEY,
    time timestamptz NOT NULL
);
CREATE INDEX event_identity_time ON event_identity USING brin (time);
COMMENT ON TABLE event_identity IS
    'Identities of the events stored, written in the transaction of their rows: an event sent again is recognized.';
COMMENT ON COLUMN event_identity.uid IS '128-bit BLAKE2b hash of the event''s attribute log.record.uid.';
COMMENT ON COLUMN event_identity.time IS
    'Time of the event. Its identity is kept as long as an event of that time would be accepted.';
