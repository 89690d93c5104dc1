"""The live keys in the gateway's memory, read again whenever they have changed."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from aistack.gateway.allowances import UNLIMITED, Limits
from aistack.gateway.following import FRESH_S, Follower, Read
from aistack.gateway.keys import Key, hashed, key_of
from aistack.gateway.principals import Principal
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import KEYS


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    until: float
    key: Key


class KeyRing:
    """Finds whose key it is. `also` is called whenever the keys are read, with the connection, for what else is told of
    in the same way."""

    def __init__(
        self,
        database: Database,
        site: Limits = UNLIMITED,
        fresh_s: float = FRESH_S,
        also: Read = lambda _: None,
    ) -> None:
        self._site = site
        self._also = also
        self._entries: dict[bytes, _Entry] = {}
        self._follower = Follower(database, self._read, fresh_s)

    @property
    def failing(self) -> bool:
        """Whether the database cannot be read; the last known keys go on."""
        return self._follower.failing

    def find(self, plain: str) -> Principal | None:
        """Whoever has the live key `plain`, or None."""
        self._follower.look()
        entry = self._entries.get(hashed(plain))
        if entry is None or entry.until < time.time():
            return None
        return entry.principal

    def catch_up(self) -> Awaitable[None]:
        """Return when what was committed before counts here. Raises UserError when the database cannot be read."""
        return self._follower.catch_up()

    def keep_looking(self) -> Awaitable[None]:
        """Let what others commit count here soon, although nobody asks; until cancelled."""
        return self._follower.keep_looking()

    def allow(self, site: Limits) -> None:
        """From now on the limits of keys that have none of their own are these."""
        self._site = site
        self._entries = {
            digest: _Entry(_principal(entry.key, site), entry.until, entry.key)
            for digest, entry in self._entries.items()
        }

    def close(self) -> None:
        """Stop looking; the database stays open."""
        self._follower.close()

    def _read(self, connection: Connection) -> None:
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
        self._also(connection)


def _principal(key: Key, site: Limits) -> Principal:
    return Principal("key", key.id, key.name, None, key.owner, key.weight, key.scopes, key.models, site.but(key.limits))
