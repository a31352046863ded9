"""Identities of events, by which one sent again is recognized."""

from pathlib import Path

from alembic import op

from exporters.timescale.reader import let_read_tables

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
    let_read_tables(connection, "event_identity")
