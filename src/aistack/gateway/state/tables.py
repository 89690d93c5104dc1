"""The tables of the gateway's database. How an older database gets there: migrations/."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

METADATA = MetaData()

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("expires_at", Double),
    # Both lists are words with spaces between; no models: all of them.
    Column("scopes", Text, nullable=False, server_default="chat embed documents"),
    Column("models", Text),
    # No number: the site's own; 0: without limit.
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger),
    Column("tokens_per_month", BigInteger),
    Column("weight", Double, nullable=False, server_default="1"),
    # The hash that a rotation took away, and until when it still counts.
    Column("previous_sha256", LargeBinary),
    Column("previous_until", Double),
    Index(
        "keys_live_name",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

# One row: how often keys or drained nodes have changed. What else changes in the database is no reason to read them.
CHANGES = Table("key_changes", METADATA, Column("number", BigInteger, nullable=False))

# One of everybody who writes usage, with the number of the last batch that is in the table below.
WRITERS = Table(
    "usage_writers",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("written_at", Double, nullable=False),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("hour", Integer, primary_key=True, autoincrement=False),  # whole hours since the epoch
    Column("principal", Text, primary_key=True),  # `key:k1a2b3c4`
    Column("model", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# What people were last called, for reports: the usage itself goes by what never changes.
PEOPLE = Table(
    "usage_people",
    METADATA,
    Column("principal", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text),
)

# Nodes that are sent no more requests. One that the settings no longer name stays, should it come back.
DRAINED = Table(
    "drained_nodes",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("drained_at", Double, nullable=False),
)
