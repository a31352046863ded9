"""TimescaleDB's own jobs, which compress, roll up and drop where the store is laid out by it: whether they run.

They run in processes of the server, as the user that owns the store, with what is set for that user and the database.
The hub's sessions pin their settings; of these jobs nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.store.layout import Connection
from gateway.store.postgres.server import Concern

_SCHEDULED = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'TimescaleDB Background Worker Scheduler')
"""
_FAILED = """
SELECT format('%s of %s', j.proc_name, coalesce(c.view_name, j.hypertable_name))
FROM timescaledb_information.jobs j
JOIN timescaledb_information.job_stats s USING (job_id)
LEFT JOIN timescaledb_information.continuous_aggregates c
    ON c.materialization_hypertable_schema = j.hypertable_schema
    AND c.materialization_hypertable_name = j.hypertable_name
WHERE j.hypertable_name IS NOT NULL AND s.last_run_status = 'Failed'
ORDER BY 1
"""


def examine(connection: Connection) -> Iterator[Concern]:
    """Look at the jobs of a store with TimescaleDB's Community edition. Raises `psycopg.Error`."""
    if connection.execute(_SCHEDULED).fetchone() != (True,):
        yield Concern(
            True,
            "TimescaleDB's scheduler does not run in this database: nothing is compressed, rolled up or dropped",
            "look into the server's log for why; often default_transaction_read_only or a lock_timeout is set for the "
            "database or its owner, or timescaledb.max_background_workers is too small. Then run "
            "SELECT _timescaledb_functions.start_background_workers()",
        )
    failed = [row[0] for row in connection.execute(_FAILED)]
    if failed:
        yield Concern(
            False,
            f"jobs of TimescaleDB whose last run failed: {', '.join(failed)}",
            "they are tried again; if it lasts, the reason is in timescaledb_information.job_errors",
        )
