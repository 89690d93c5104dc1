"""Keeps what the gateway has of its database in memory as it is there, whoever changes it (state/changes.py)."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import Connection, select

from aistack.errors import UserError
from aistack.gateway.state.changes import CHANNEL
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import CHANGES

# SQLite: one look serves all who ask within this time. A command that changed something takes longer to end.
FRESH_S = 0.001
# How often that is looked at when nobody asks.
_LOOK_S = 0.2
# PostgreSQL tells of changes; should word of one get lost, this is how long it takes to be seen.
_REREAD_S = 30.0
_RETRY_S = 1.0

Read = Callable[[Connection], None]

_log = logging.getLogger("aistack.gateway.keys")


class Follower:
    """Has `read` called at once, and again whenever something has changed. While the database is away, what was read
    last goes on.

    In SQLite `PRAGMA data_version` (2 µs, no disk) tells whether somebody has committed since the last look. In
    PostgreSQL a thread waits for notifications, and it is that which reads.
    """

    def __init__(self, database: Database, read: Read, fresh_s: float = FRESH_S) -> None:
        self.failing = False
        self._database = database
        self._read = read
        self._fresh_s = fresh_s
        self._version = -1
        self._number = -1
        self._looked_at = -float("inf")
        self._watch: _Watch | None = None
        self._connection: Connection | None = None
        if database.is_postgres:
            self._watch = _Watch(database, read, self.note)
            self._watch.start()
        else:
            with database.explained():
                self._connection = database.reader()
                self._cursor = _cursor(self._connection)
                self._look(self._connection)

    def look(self) -> None:
        """See to it that what was committed before is read, where that is not a thread's work."""
        if self._connection is None or time.monotonic() - self._looked_at < self._fresh_s:
            return
        self._looked_at = time.monotonic()
        try:
            self._look(self._connection)
        except UserError as error:
            self.note(error.message)
        else:
            self.note(None)

    async def catch_up(self) -> None:
        """Return when what was committed before is read. Raises UserError when the database cannot be read."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.read)
        elif self._connection is not None:
            self._look(self._connection)

    async def keep_looking(self) -> None:
        """Look although nobody asks, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def close(self) -> None:
        """Stop following; the database stays open."""
        if self._watch is not None:
            self._watch.stop()
        if self._connection is not None:
            self._cursor.close()
            self._connection.close()

    def note(self, failure: str | None) -> None:
        """The database could not be read, or could."""
        if failure and not self.failing:
            _log.error("cannot read the keys, going on with those known: %s", failure)
        elif self.failing and not failure:
            _log.warning("the keys can be read again")
        self.failing = failure is not None

    def _look(self, connection: Connection) -> None:
        try:
            # Through SQLAlchemy this would take twenty times as long.
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise UserError(f"cannot use the gateway's database {self._database.name}: {error}") from error
        if version == self._version:
            return
        with self._database.explained():
            # Usage is written twice a second, which is nothing to read all keys for.
            number = connection.execute(select(CHANGES.c.number)).scalar_one()
            if number != self._number:
                self._read(connection)
                self._number = number
        self._version = version


class _Watch(threading.Thread):
    """Reads when PostgreSQL says that something has changed, when it is back, and now and then."""

    def __init__(self, database: Database, read: Read, note: Callable[[str | None], None]) -> None:
        super().__init__(name="changes", daemon=True)
        self._database = database
        self._read = read
        self._note = note
        self._ending = threading.Event()
        # Of two who read at the same time, the one who began earlier must not have the last word.
        self._turn = threading.Lock()
        self.read()

    def read(self) -> None:
        """Read now, on a connection of its own. Raises UserError."""
        with self._database.read() as connection, self._turn:
            self._read(connection)

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                with self._database.read() as connection:
                    self._follow(connection)
            except (UserError, psycopg.Error) as error:
                self._note(str(error))
                self._ending.wait(_RETRY_S)

    def stop(self) -> None:
        self._ending.set()
        self.join()

    def _follow(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            while not self._ending.is_set():
                with self._turn:
                    self._read(connection)
                self._note(None)
                due = time.monotonic() + _REREAD_S
                while not self._ending.is_set() and time.monotonic() < due:
                    if list(driver.notifies(timeout=0.2, stop_after=1)):
                        break
        finally:
            # A connection that listens must not serve others.
            connection.invalidate()


def _cursor(connection: Connection) -> sqlite3.Cursor:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver.cursor()
