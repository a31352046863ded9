-- Operational tables: runs and webhook deliveries.
-- Work that gateways do, beside the telemetry (docs/decisions/0015).

CREATE TABLE run (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    state text NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'interrupted', 'superseded')),
    trigger jsonb NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    heartbeat_at timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    holder text,
    counts jsonb NOT NULL DEFAULT '{}',
    result jsonb NOT NULL DEFAULT '{}',
    output text NOT NULL DEFAULT '',
    error text,
    superseded_by uuid,
    trace_id text,
    parent_span_id text
);
-- What the queue promises is held by the database, whatever gateways do.
CREATE UNIQUE INDEX run_one_queued ON run (kind, name) WHERE state = 'queued';
CREATE UNIQUE INDEX run_one_running ON run (kind, name) WHERE state = 'running';
CREATE INDEX run_kind_name_requested_at ON run (kind, name, requested_at DESC);
CREATE INDEX run_requested_at ON run (requested_at DESC);
COMMENT ON TABLE run IS 'Runs of what the gateways do: reconciling a repository, reading a pipeline''s source.';
COMMENT ON COLUMN run.id IS 'Identity of the run, by which it is asked for.';
COMMENT ON COLUMN run.kind IS 'What is run: gitops or pipeline.';
COMMENT ON COLUMN run.name IS 'Which repository or pipeline, as the configuration names it.';
COMMENT ON COLUMN run.state IS 'queued, running, succeeded, failed, interrupted (its gateway ended) or superseded (by a later request).';
COMMENT ON COLUMN run.trigger IS 'Who or what asked for the run.';
COMMENT ON COLUMN run.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN run.started_at IS 'When it was first started; NULL while it waits.';
COMMENT ON COLUMN run.finished_at IS 'When it ended; NULL before.';
COMMENT ON COLUMN run.heartbeat_at IS 'When the gateway that runs it last said that it does.';
COMMENT ON COLUMN run.attempt IS 'How often it was started; more than 1 after its gateway ended under way.';
COMMENT ON COLUMN run.holder IS 'The gateway that runs it, or ran it last.';
COMMENT ON COLUMN run.counts IS 'How much was done, by what it is called.';
COMMENT ON COLUMN run.result IS 'What came of it, such as the revisions before and after.';
COMMENT ON COLUMN run.output IS 'What its steps wrote, at most a bounded part of it.';
COMMENT ON COLUMN run.error IS 'Why it failed; NULL when it did not.';
COMMENT ON COLUMN run.superseded_by IS 'The later run that does the work of this one; NULL unless superseded.';
COMMENT ON COLUMN run.trace_id IS 'The trace that its spans belong to, in hexadecimal.';
COMMENT ON COLUMN run.parent_span_id IS 'The span that asked for the run, in hexadecimal; NULL when none did.';

CREATE TABLE webhook_delivery (
    id text PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    run_ids uuid[] NOT NULL
);
CREATE INDEX webhook_delivery_received_at ON webhook_delivery (received_at);
COMMENT ON TABLE webhook_delivery IS 'Webhook deliveries that asked for runs, so that the same one does not twice. Pruned after a while.';
COMMENT ON COLUMN webhook_delivery.id IS 'Identity of the delivery, given by its sender.';
COMMENT ON COLUMN webhook_delivery.received_at IS 'When it came.';
COMMENT ON COLUMN webhook_delivery.run_ids IS 'The runs it asked for.';
