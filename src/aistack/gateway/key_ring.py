"""The live keys in the gateway's memory, read again whenever they have changed."""

import logging
import threading
import time
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, or_, select

from aistack.errors import UserError
from aistack.gateway.allowances import UNLIMITED, Limits
from aistack.gateway.keys import CHANNEL, Key, hashed, key_of
from aistack.gateway.principals import Principal
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import KEY_CHANGES, KEYS

# PostgreSQL tells of changes; should word of one get lost, this is how long it takes to be seen.
_REREAD_S = 30.0
_RETRY_S = 1.0

_log = logging.getLogger("aistack.gateway.keys")


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    until: float
    key: Key


class KeyRing:
    """Finds whose key it is. While the database is away, the last known keys go on.

    In SQLite `PRAGMA data_version` (some microseconds, no disk) tells whether somebody has committed since; one look
    serves all who ask within `fresh_s` seconds. In PostgreSQL a thread waits for notifications.
    """

    def __init__(self, database: Database, site: Limits = UNLIMITED, fresh_s: float = 0.02) -> None:
        self._database = database
        self._site = site
        self._fresh_s = fresh_s
        self._entries: dict[bytes, _Entry] = {}
        self._version = -1
        self._number = -1
        self._looked_at = -float("inf")
        self.failing = False
        self._watch: _Watch | None = None
        self._connection: Connection | None = None
        if database.is_postgres:
            self._watch = _Watch(self)
            self._watch.start()
        else:
            with database.explained():
                self._connection = database.reader()
                self._look(self._connection)

    def find(self, plain: str) -> Principal | None:
        """Whoever has the live key `plain`, or None."""
        if self._connection is not None and time.monotonic() - self._looked_at >= self._fresh_s:
            self._looked_at = time.monotonic()
            self._try_to_look(self._connection)
        entry = self._entries.get(hashed(plain))
        if entry is None or entry.until < time.time():
            return None
        return entry.principal

    def allow(self, site: Limits) -> None:
        """From now on the limits of keys that have none of their own are these."""
        self._site = site
        self._entries = {
            digest: _Entry(_principal(entry.key, site), entry.until, entry.key)
            for digest, entry in self._entries.items()
        }

    def close(self) -> None:
        """Stop looking; the database stays open."""
        if self._watch is not None:
            self._watch.stop()
        if self._connection is not None:
            self._connection.close()

    def _try_to_look(self, connection: Connection) -> None:
        try:
            with self._database.explained():
                self._look(connection)
        except UserError as error:
            self.note(error.message)
        else:
            self.note(None)

    def note(self, failure: str | None) -> None:
        """The keys could not be read, or could."""
        if failure and not self.failing:
            _log.error("cannot read the keys, going on with those known: %s", failure)
        elif self.failing and not failure:
            _log.warning("the keys can be read again")
        self.failing = failure is not None

    def _look(self, connection: Connection) -> None:
        version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        if version == self._version:
            return
        # Usage is written twice a second, which is nothing to read all keys for.
        number = connection.execute(select(KEY_CHANGES.c.number)).scalar_one()
        if number != self._number:
            self.read(connection)
            self._number = number
        self._version = version

    def read(self, connection: Connection) -> None:
        """Read all live keys."""
        entries = {}
        now = time.time()
        live = KEYS.c.revoked_at.is_(None) & or_(KEYS.c.expires_at.is_(None), KEYS.c.expires_at > now)
        for row in connection.execute(select(KEYS).where(live)).mappings():
            key = key_of(row)
            principal = _principal(key, self._site)
            ends = key.expires_at or float("inf")
            entries[row["sha256"]] = _Entry(principal, ends, key)
            if row["previous_sha256"] is not None and key.previous_until is not None:
                entries[row["previous_sha256"]] = _Entry(principal, min(ends, key.previous_until), key)
        self._entries = entries


class _Watch(threading.Thread):
    """Has the keys read when PostgreSQL says that they have changed, when it is back, and now and then."""

    def __init__(self, ring: KeyRing) -> None:
        super().__init__(name="keys", daemon=True)
        self._ring = ring
        self._database = ring._database
        self._ending = threading.Event()
        with self._database.read() as connection:
            ring.read(connection)

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                with self._database.read() as connection:
                    self._follow(connection)
            except (UserError, psycopg.Error) as error:
                self._ring.note(str(error))
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
                self._ring.read(connection)
                self._ring.note(None)
                due = time.monotonic() + _REREAD_S
                while not self._ending.is_set() and time.monotonic() < due:
                    if list(driver.notifies(timeout=0.2, stop_after=1)):
                        break
        finally:
            # A connection that listens must not serve others.
            connection.invalidate()


def _principal(key: Key, site: Limits) -> Principal:
    return Principal("key", key.id, key.name, None, key.owner, key.weight, key.scopes, key.models, site.but(key.limits))
