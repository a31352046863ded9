"""What is said of the key of a metric, as it is."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Set the comment right: description and metadata have not identified a metric for some versions."""
    op.execute(
        "COMMENT ON COLUMN metric.id IS"
        " 'Hash of name, type, unit, temporality and is_monotonic: what else there is describes the metric.'"
    )
