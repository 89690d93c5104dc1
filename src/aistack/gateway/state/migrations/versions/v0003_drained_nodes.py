"""Which nodes are sent no more requests."""

from alembic import op
from sqlalchemy import Column, Double, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """No node is drained yet."""
    op.create_table(
        "drained_nodes",
        Column("name", Text, primary_key=True),
        Column("drained_at", Double, nullable=False),
    )
