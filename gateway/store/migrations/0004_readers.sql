-- A view of the runs for readers, and an index by which an event is found by its identity.
-- What readers may read is set after every migration (docs/decisions/0027).

CREATE VIEW runs AS
SELECT id, kind, name, state, requested_at, started_at, finished_at, attempt, holder, counts, superseded_by, trace_id
FROM run;
COMMENT ON VIEW runs IS 'Runs of what the gateways do, without what their steps wrote: that may tell what nobody should know.';
COMMENT ON COLUMN runs.id IS 'Identity of the run, by which it is asked for.';
COMMENT ON COLUMN runs.kind IS 'What is run: gitops or pipeline.';
COMMENT ON COLUMN runs.name IS 'Which repository or pipeline, as the configuration names it.';
COMMENT ON COLUMN runs.state IS 'queued, running, succeeded, failed, interrupted (its gateway ended) or superseded (by a later request).';
COMMENT ON COLUMN runs.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN runs.started_at IS 'When it was first started; NULL while it waits.';
COMMENT ON COLUMN runs.finished_at IS 'When it ended; NULL before.';
COMMENT ON COLUMN runs.attempt IS 'How often it was started; more than 1 after its gateway ended under way.';
COMMENT ON COLUMN runs.holder IS 'The gateway that runs it, or ran it last.';
COMMENT ON COLUMN runs.counts IS 'How much was done, by what it is called.';
COMMENT ON COLUMN runs.superseded_by IS 'The later run that does the work of this one; NULL unless superseded.';
COMMENT ON COLUMN runs.trace_id IS 'The trace that its spans belong to, in hexadecimal.';

-- A hash index, because the identity has no length limit and entries of a B-tree do.
CREATE INDEX log_record_uid ON log USING hash ((attributes ->> 'log.record.uid'))
    WHERE attributes ->> 'log.record.uid' IS NOT NULL;
