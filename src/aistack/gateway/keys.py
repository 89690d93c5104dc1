"""API keys: made and revoked by `aistack keys`, looked up by the gateway on every request.

Only the SHA-256 of a key is stored. A key has 256 random bits, so a plain hash cannot be searched,
and looking a hash up in a dictionary tells a caller nothing by its timing.
"""

import hashlib
import logging
import os
import secrets
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aistack.errors import UserError

PREFIX = "ask_"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43  # base62 characters: 256 bits

# One entry a schema version; PRAGMA user_version counts how many are in force.
_MIGRATIONS = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        owner TEXT,
        sha256 BLOB NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        revoked_at REAL
    );
    CREATE UNIQUE INDEX keys_live_name ON keys (name) WHERE revoked_at IS NULL;
    """,
)

_log = logging.getLogger("aistack.gateway.keys")


@dataclass(frozen=True)
class Key:
    """What is known of a key; the key itself is not. Times are epoch seconds."""

    id: str
    name: str
    owner: str | None
    created_at: float
    revoked_at: float | None


def hashed(key: str) -> bytes:
    """The SHA-256 under which `key` is stored (32 bytes)."""
    return hashlib.sha256(key.encode()).digest()


class KeyStore:
    """The table of keys in gateway.db. Raises UserError when the file cannot be opened or used."""

    def __init__(self, database: Path) -> None:
        self._database = database
        with _explained(database):
            self._connection = _open(database)

    def create(self, name: str, owner: str | None = None) -> tuple[str, Key]:
        """Make a key called `name`; returns the key, which is shown once and never again, and its record."""
        if not name.strip() or not name.isprintable():
            raise UserError("a key needs a name", "for instance: aistack keys create laptop")
        plain = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        key = Key(f"k{secrets.token_hex(4)}", name, owner, time.time(), None)
        try:
            with _explained(self._database):
                self._connection.execute(
                    "INSERT INTO keys (id, name, owner, sha256, created_at) VALUES (?, ?, ?, ?, ?)",
                    (key.id, key.name, key.owner, hashed(plain), key.created_at),
                )
        except sqlite3.IntegrityError as error:
            raise UserError(
                f"there is a key called {name!r} already",
                f"choose another name, or first: aistack keys revoke {name}",
            ) from error
        return plain, key

    def list(self) -> tuple[Key, ...]:
        """All keys, revoked ones too, oldest first."""
        with _explained(self._database):
            rows = self._connection.execute(
                "SELECT id, name, owner, created_at, revoked_at FROM keys ORDER BY created_at, id"
            ).fetchall()
        return tuple(Key(*row) for row in rows)

    def revoke(self, name_or_id: str) -> Key:
        """Revoke the live key of that name or id, at once. Raises UserError when there is none."""
        with _explained(self._database):
            row = self._connection.execute(
                "UPDATE keys SET revoked_at = :now WHERE revoked_at IS NULL AND"
                # An id wins over a key that somebody gave that id as its name.
                " (id = :it OR (name = :it AND NOT EXISTS (SELECT 1 FROM keys WHERE id = :it)))"
                " RETURNING id, name, owner, created_at, revoked_at",
                {"now": time.time(), "it": name_or_id},
            ).fetchone()
        if row is None:
            raise UserError(f"there is no live key called {name_or_id!r}", "see: aistack keys ls")
        return Key(*row)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


class KeyRing:
    """The live keys in memory, read again when another process has changed the database.

    One look, whether it has, serves all who ask within `fresh_s` seconds.
    """

    def __init__(self, database: Path, fresh_s: float = 0.02) -> None:
        self._fresh_s = fresh_s
        with _explained(database):
            self._connection = _open(database)
            self._version = -1
            self._keys: dict[bytes, Key] = {}
            self._refresh()
        self._failing = False
        self._looked_at = -float("inf")

    def find(self, plain: str) -> Key | None:
        """The live key `plain`, or None.

        `PRAGMA data_version` (some microseconds, no disk) tells whether somebody has committed since;
        that is what makes a revocation count at once, which is to say within 20 ms. While the database
        cannot be read, the last known keys go on.
        """
        now = time.monotonic()
        if now - self._looked_at < self._fresh_s:
            return self._keys.get(hashed(plain))
        self._looked_at = now
        try:
            self._refresh()
            self._failing = False
        except sqlite3.Error as error:
            if not self._failing:
                _log.error("cannot read the keys, going on with those known: %s", error)
            self._failing = True
        return self._keys.get(hashed(plain))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _refresh(self) -> None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        rows = self._connection.execute(
            "SELECT sha256, id, name, owner, created_at, revoked_at FROM keys WHERE revoked_at IS NULL"
        ).fetchall()
        self._keys = {row[0]: Key(*row[1:]) for row in rows}
        self._version = version


def _open(database: Path) -> sqlite3.Connection:
    database.parent.mkdir(parents=True, exist_ok=True)
    # SQLite gives its side files the mode of the database, so it is made private before SQLite sees it.
    os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(database, timeout=5, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    _migrate(connection, database)
    return connection


def _migrate(connection: sqlite3.Connection, database: Path) -> None:
    if _version(connection) == len(_MIGRATIONS):
        return
    # The write lock is taken before looking again: two programs may open a new database at once.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(_MIGRATIONS):
            raise UserError(
                f"{database} was written by a newer aistack (schema {version})",
                "use that version, or restore a backup",
            )
        for migration in _MIGRATIONS[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextmanager
def _explained(database: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise UserError(
            f"cannot use the gateway's database {database}: {error}", "check its folder and the disk"
        ) from error
