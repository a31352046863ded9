"""What PostgreSQL's client says when something went wrong, in one line that says what to do next."""

from __future__ import annotations

import re

import psycopg

from gateway.terminal import safe

_AWAY = re.compile(
    r"Is the server running|timed? ?out|could not translate host name|failed to resolve host|shutting down|starting up|"
    r"closed the connection|the connection is (lost|closed)|terminating connection"
)
_ADVICE = "see that the server runs and takes connections, and that the connection string leads to it"
_ADVICE_OF_SOCKETS = (
    "a hub that has stopped has taken its PostgreSQL with it, and one that has just started needs a moment: start it "
    "with `obs-hub up`, or give --dsn"
)


def error_text(error: psycopg.Error) -> str:
    """Return what went wrong, without what libpq asks over further lines, and what to do where it is known."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines() or [type(error).__name__]
    asked = ("Is the server running", "This probably means", "before or while processing")
    said = "; ".join(safe(line.strip()) for line in lines if not line.strip().startswith(asked))
    of_connections = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
    if not of_connections or not _AWAY.search(str(error)):
        return said
    return f"{said}; {_ADVICE_OF_SOCKETS if 'on socket' in said else _ADVICE}"
