"""Operational tables: runs and webhook deliveries."""

from pathlib import Path

import psycopg
from alembic import op
from psycopg import sql

from exporters.timescale.schema import READER_ROLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_HERE = Path(__file__).parent


def upgrade() -> None:
    """Make the tables, and let the reader role read them."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_HERE / "0002_runs.sql").read_bytes())
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("GRANT SELECT ON run, webhook_delivery TO {}").format(sql.Identifier(READER_ROLE))
            )
    except psycopg.errors.UndefinedObject:
        pass  # the first migration was not allowed to make the role
