"""The table of keys, as aistack had it in SQLite before it knew other databases; such a one is taken over."""

from alembic import op
from sqlalchemy import Column, Double, LargeBinary, Text, inspect, text

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table, unless it is there."""
    if inspect(op.get_bind()).has_table("keys"):
        return
    op.create_table(
        "keys",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("owner", Text),
        Column("sha256", LargeBinary, nullable=False, unique=True),
        Column("created_at", Double, nullable=False),
        Column("revoked_at", Double),
    )
    live = text("revoked_at IS NULL")
    op.create_index("keys_live_name", "keys", ["name"], unique=True, sqlite_where=live, postgresql_where=live)
