"""API keys: made, changed and revoked by `aistack keys` and the admin API, looked up by the gateway (key_ring.py).

Only the SHA-256 of a key is stored. A key has 256 random bits, so a plain hash cannot be searched,
and looking a hash up in a dictionary tells a caller nothing by its timing.
"""

import hashlib
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from aistack.errors import UserError
from aistack.gateway.allowances import LIMIT_NAMES, USUAL_SCOPES
from aistack.gateway.key_terms import checked
from aistack.gateway.state.changes import announce
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import KEYS

PREFIX = "ask_"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43  # base62 characters: 256 bits


class NoSuchKey(UserError):
    """There is no live key of that name or id."""


class NameTaken(UserError):
    """There is a live key of that name already."""


@dataclass(frozen=True)
class Key:
    """What is known of a key; the key itself is not. Times are epoch seconds.

    `models` are canonical names, None: all. `limits` holds those that are not the site's own; 0: none. What a
    rotation took the place of works until `previous_until`.
    """

    id: str
    name: str
    owner: str | None
    created_at: float
    revoked_at: float | None = None
    expires_at: float | None = None
    scopes: frozenset[str] = USUAL_SCOPES
    models: frozenset[str] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    weight: float = 1.0
    previous_until: float | None = None


def hashed(key: str) -> bytes:
    """The SHA-256 under which `key` is stored (32 bytes)."""
    return hashlib.sha256(key.encode()).digest()


class KeyStore:
    """The table of keys. Raises UserError when the database cannot be opened or used."""

    def __init__(self, database: Database | Path) -> None:
        self._database = database if isinstance(database, Database) else Database(database)

    def create(self, name: str, owner: str | None = None, terms: Mapping[str, Any] | None = None) -> tuple[str, Key]:
        """Make a key called `name`; returns the key, which is shown once and never again, and its record.

        `terms` are what it may do, as key_terms.py takes them. Raises NameTaken, TermError.
        """
        plain = _made()
        row = {
            "id": f"k{secrets.token_hex(4)}", "sha256": hashed(plain), "created_at": time.time(),
            **checked({"name": name, "owner": owner, **(terms or {})}),
        }  # fmt: skip
        return plain, self._change(insert(KEYS).values(row).returning(KEYS), name)

    def list(self) -> tuple[Key, ...]:
        """All keys, revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).mappings().all()
        return tuple(key_of(row) for row in rows)

    def find(self, name_or_id: str) -> Key:
        """The live key of that name or id. Raises NoSuchKey."""
        with self._database.read() as connection:
            row = connection.execute(select(KEYS).where(_called(name_or_id))).mappings().one_or_none()
        if row is None:
            raise _unknown(name_or_id)
        return key_of(row)

    def update(self, name_or_id: str, terms: Mapping[str, Any]) -> Key:
        """Change what `terms` say of a live key, and nothing else. Raises UserError."""
        values = checked(terms)
        if not values:
            return self.find(name_or_id)
        return self._change(update(KEYS).where(_called(name_or_id)).values(values).returning(KEYS), name_or_id)

    def rotate(self, name_or_id: str, overlap_s: float = 0) -> tuple[str, Key]:
        """Give a live key a new secret; the old one works for `overlap_s` seconds more. Raises UserError.

        What an earlier rotation left working ends.
        """
        plain = _made()
        values = {
            "sha256": hashed(plain),
            "previous_sha256": KEYS.c.sha256 if overlap_s else None,
            "previous_until": time.time() + overlap_s if overlap_s else None,
        }
        return plain, self._change(update(KEYS).where(_called(name_or_id)).values(values).returning(KEYS), name_or_id)

    def revoke(self, name_or_id: str) -> Key:
        """Revoke the live key of that name or id, at once. Raises UserError when there is none."""
        ended = {"revoked_at": time.time(), "previous_sha256": None, "previous_until": None}
        return self._change(update(KEYS).where(_called(name_or_id)).values(ended).returning(KEYS), name_or_id)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _change(self, statement: Any, name: str) -> Key:
        try:
            with self._database.write() as connection:
                row = connection.execute(statement).mappings().one_or_none()
                if row is None:
                    raise _unknown(name)
                announce(connection)
        except IntegrityError as error:
            raise NameTaken(
                "there is a key with that name already",
                "choose another name, or revoke the other first: aistack keys ls",
            ) from error
        return key_of(row)


def key_of(row: RowMapping) -> Key:
    """The record that a row of the table holds."""
    return Key(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        expires_at=row["expires_at"],
        scopes=frozenset(row["scopes"].split()),
        models=None if row["models"] is None else frozenset(row["models"].split()),
        limits={name: row[name] for name in LIMIT_NAMES if row[name] is not None},
        weight=row["weight"],
        previous_until=row["previous_until"],
    )


def told(key: Key) -> dict[str, Any]:
    """All that is known of a key, for JSON; times are text in UTC."""
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "created": _time(key.created_at),
        "expires": _time(key.expires_at),
        "revoked": _time(key.revoked_at),
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "weight": key.weight,
        "old_secret_until": _time(key.previous_until),
        "limits": dict(key.limits),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _made() -> str:
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def _called(name_or_id: str) -> Any:
    """The live key of that name or id; an id wins over a key that somebody gave that id as its name."""
    other = KEYS.alias()
    named = (KEYS.c.name == name_or_id) & ~exists().where(other.c.id == name_or_id)
    return KEYS.c.revoked_at.is_(None) & ((KEYS.c.id == name_or_id) | named)


def _unknown(name: str) -> NoSuchKey:
    return NoSuchKey(f"there is no live key called {name!r}", "see: aistack keys ls")
