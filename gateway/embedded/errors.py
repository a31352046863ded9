"""Why the embedded PostgreSQL does not run."""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run. The message says why and what to do, with the end of the server's log."""
