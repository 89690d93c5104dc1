import contextlib
import hashlib
import re
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.gateway.allowances import USUAL_SCOPES
from aistack.gateway.key_ring import KeyRing
from aistack.gateway.keys import KeyStore
from aistack.gateway.state.database import NEWEST, Database
from aistack.gateway.state.upgrade import scripts

# As the last aistack that knew only SQLite made it.
OLD_SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT,
    sha256 BLOB NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    revoked_at REAL
);
CREATE UNIQUE INDEX keys_live_name ON keys (name) WHERE revoked_at IS NULL;
PRAGMA user_version = 1;
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


def change(where: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(where)) as connection:
        connection.executescript(script)


def test_a_key_is_shown_once_and_only_its_hash_is_stored(where: Path) -> None:
    store = KeyStore(where)
    plain, key = store.create("laptop", "ada")
    assert re.fullmatch(r"ask_[0-9A-Za-z]{43}", plain)
    assert store.list() == (key,)
    store.close()
    content = b"".join(path.read_bytes() for path in where.parent.iterdir())
    assert plain.encode() not in content
    assert hashlib.sha256(plain.encode()).digest() in content


def test_the_database_is_private(where: Path) -> None:
    store = KeyStore(where)
    store.create("laptop")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in where.parent.iterdir()}
    store.close()
    assert modes == {0o600}


@pytest.mark.parametrize("name", ["", "  ", "a\nb"])
def test_a_key_needs_a_name_that_can_be_read(where: Path, name: str) -> None:
    store = KeyStore(where)
    with pytest.raises(UserError):
        store.create(name)
    store.close()


def test_a_key_is_revoked_by_id_or_by_name_and_only_once(where: Path) -> None:
    store = KeyStore(where)
    _, first = store.create("one")
    _, second = store.create("two")
    assert store.revoke(first.id).revoked_at is not None
    assert store.revoke("two").id == second.id
    with pytest.raises(UserError, match="no live key"):
        store.revoke("two")
    store.close()


def test_the_ring_goes_on_with_the_keys_it_knows_when_the_database_fails(where: Path) -> None:
    database = Database(where)
    store, ring = KeyStore(database), KeyRing(database, fresh_s=0)
    plain, _ = store.create("laptop")
    known = ring.find(plain)
    assert known
    ring.close()
    assert ring.find(plain) == known
    assert ring.failing
    store.close()


def test_the_keys_of_an_older_aistack_go_on(where: Path) -> None:
    where.parent.mkdir()
    digest = hashlib.sha256(b"ask_old").digest().hex()
    change(where, OLD_SCHEMA + f"INSERT INTO keys VALUES ('k1', 'laptop', 'ada', x'{digest}', 5.0, NULL);")
    database = Database(where)
    ring = KeyRing(database)
    principal = ring.find("ask_old")
    assert principal is not None
    assert (principal.label, principal.scopes, principal.models) == ("key:k1", USUAL_SCOPES, None)
    # That older aistack, which knows 1, must say that this is too new for it, not write into it.
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar() == 2
    ring.close()
    database.close()


def test_two_programs_may_open_a_new_database_at_once(where: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for database in threads.map(lambda _: Database(where), range(8)):
            database.close()


def test_the_newest_schema_is_the_last_migration() -> None:
    assert scripts().get_current_head() == NEWEST


def test_a_database_of_a_newer_version_is_left_alone(where: Path) -> None:
    KeyStore(where).close()
    change(where, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UserError, match="newer"):
        KeyStore(where)


def test_a_file_that_is_no_database_is_said_to_be_none(where: Path) -> None:
    where.parent.mkdir()
    where.write_bytes(b"x" * 4096)
    with pytest.raises(UserError, match=re.escape(str(where))):
        KeyStore(where)
