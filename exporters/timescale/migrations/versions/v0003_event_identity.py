"""Identities of events, by which one sent again is recognized."""

from pathlib import Path

import psycopg
from alembic import op
from psycopg import sql

from exporters.timescale.schema import READER_ROLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_HERE = Path(__file__).parent


def upgrade() -> None:
    """Make the table, and let the reader role read it."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_HERE / "0003_event_identity.sql").read_bytes())
    try:
        with connection.transaction():
            connection.execute(sql.SQL("GRANT SELECT ON event_identity TO {}").format(sql.Identifier(READER_ROLE)))
    except psycopg.errors.UndefinedObject:
        pass  # the first migration was not allowed to make the role
