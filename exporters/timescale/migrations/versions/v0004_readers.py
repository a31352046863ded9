"""A view of the runs for readers, and an index by which an event is found by its identity."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_HERE = Path(__file__).parent


def upgrade() -> None:
    """Make the view and the index. What readers may read is set after every migration."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_HERE / "0004_readers.sql").read_bytes())
