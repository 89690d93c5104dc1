"""The nodes that are sent no more requests, by whichever gateway: drained by `aistack nodes` or the admin API."""

import time

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from aistack.gateway.state.changes import announce
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import DRAINED


def drain(database: Database, name: str) -> bool:
    """Have the node `name` sent no more; returns whether that is new. Raises UserError."""
    with database.write() as connection:
        dialect = postgresql if database.is_postgres else sqlite
        row = {"name": name, "drained_at": time.time()}
        statement = dialect.insert(DRAINED).values(row).on_conflict_do_nothing().returning(DRAINED.c.name)
        if connection.execute(statement).first() is None:
            return False
        announce(connection)
    return True


def resume(database: Database, name: str) -> bool:
    """Have the node `name` sent requests again; returns whether that is new. Raises UserError."""
    with database.write() as connection:
        statement = delete(DRAINED).where(DRAINED.c.name == name).returning(DRAINED.c.name)
        if connection.execute(statement).first() is None:
            return False
        announce(connection)
    return True


def read(connection: Connection) -> frozenset[str]:
    """The names of those that are drained."""
    return frozenset(connection.execute(select(DRAINED.c.name)).scalars())
