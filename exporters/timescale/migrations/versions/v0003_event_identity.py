"""Identities of events, by which one sent again is recognized."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_HERE = Path(__file__).parent


def upgrade() -> None:
    """Make the table."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_HERE / "0003_event_identity.sql").read_bytes())
