"""How those who keep a part of the database in memory learn that it has changed."""

from sqlalchemy import Connection, text, update

from aistack.gateway.state.tables import CHANGES

# What PostgreSQL tells all who listen.
CHANNEL = "aistack_keys"


def announce(connection: Connection) -> None:
    """Have all gateways read keys and drained nodes again when the transaction of `connection` is committed."""
    connection.execute(update(CHANGES).values(number=CHANGES.c.number + 1))
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"NOTIFY {CHANNEL}"))
