"""What a key may do, until when and how much; and who used what."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, String, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keys that are there may do what they could before."""
    for column in (
        Column("expires_at", Double),
        Column("scopes", Text, nullable=False, server_default="chat embed documents"),
        Column("models", Text),
        Column("requests_per_minute", BigInteger),
        Column("tokens_per_minute", BigInteger),
        Column("tokens_per_day", BigInteger),
        Column("tokens_per_month", BigInteger),
        Column("weight", Double, nullable=False, server_default="1"),
        Column("previous_sha256", LargeBinary),
        Column("previous_until", Double),
    ):
        op.add_column("keys", column)
    changes = op.create_table("key_changes", Column("number", BigInteger, nullable=False))
    op.bulk_insert(changes, [{"number": 0}])
    op.create_table(
        "usage_writers",
        Column("id", String(32), primary_key=True),
        Column("batch", BigInteger, nullable=False),
        Column("written_at", Double, nullable=False),
    )
    op.create_table(
        "usage",
        Column("hour", Integer, primary_key=True, autoincrement=False),
        Column("principal", Text, primary_key=True),
        Column("model", Text, primary_key=True),
        Column("route", Text, primary_key=True),
        Column("outcome", Text, primary_key=True),
        Column("requests", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
    )
    op.create_table(
        "usage_people",
        Column("principal", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("owner", Text),
    )
