import hashlib
import re
import sqlite3
import stat
from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.gateway.keys import KeyRing, KeyStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


def test_a_key_is_shown_once_and_only_its_hash_is_stored(database: Path) -> None:
    store = KeyStore(database)
    plain, key = store.create("laptop", "ada")
    assert re.fullmatch(r"ask_[0-9A-Za-z]{43}", plain)
    assert store.list() == (key,)
    store.close()
    content = b"".join(path.read_bytes() for path in database.parent.iterdir())
    assert plain.encode() not in content
    assert hashlib.sha256(plain.encode()).digest() in content


def test_the_database_is_private(database: Path) -> None:
    store = KeyStore(database)
    store.create("laptop")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in database.parent.iterdir()}
    store.close()
    assert modes == {0o600}


def test_two_keys_differ_and_two_live_ones_cannot_share_a_name(database: Path) -> None:
    store = KeyStore(database)
    first, key = store.create("laptop")
    with pytest.raises(UserError, match="laptop"):
        store.create("laptop")
    store.revoke("laptop")
    second, _ = store.create("laptop")
    assert first != second
    assert [known.revoked_at is None for known in store.list()] == [False, True]
    assert store.list()[0].id == key.id
    store.close()


@pytest.mark.parametrize("name", ["", "  ", "a\nb"])
def test_a_key_needs_a_name_that_can_be_read(database: Path, name: str) -> None:
    store = KeyStore(database)
    with pytest.raises(UserError):
        store.create(name)
    store.close()


def test_a_key_is_revoked_by_id_or_by_name_and_only_once(database: Path) -> None:
    store = KeyStore(database)
    _, first = store.create("one")
    _, second = store.create("two")
    assert store.revoke(first.id).revoked_at is not None
    assert store.revoke("two").id == second.id
    with pytest.raises(UserError, match="no live key"):
        store.revoke("two")
    store.close()


def test_an_id_wins_over_a_key_that_is_named_like_it(database: Path) -> None:
    store = KeyStore(database)
    _, first = store.create("one")
    _, impostor = store.create(first.id)
    assert store.revoke(first.id).name == "one"
    assert [key.id for key in store.list() if key.revoked_at is None] == [impostor.id]
    store.close()


def test_the_ring_sees_at_once_what_another_connection_did(database: Path) -> None:
    store, ring = KeyStore(database), KeyRing(database, fresh_s=0)
    plain, key = store.create("laptop")
    assert ring.find(plain) == key
    assert ring.find(plain + "x") is None
    store.revoke(key.id)
    assert ring.find(plain) is None
    ring.close()
    store.close()


def test_the_ring_goes_on_with_the_keys_it_knows_when_the_database_fails(database: Path) -> None:
    store, ring = KeyStore(database), KeyRing(database, fresh_s=0)
    plain, key = store.create("laptop")
    assert ring.find(plain) == key
    ring.close()
    assert ring.find(plain) == key
    store.close()


def test_a_database_of_a_newer_version_is_left_alone(database: Path) -> None:
    KeyStore(database).close()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="newer"):
        KeyStore(database)


def test_a_file_that_is_no_database_is_said_to_be_none(database: Path) -> None:
    database.parent.mkdir()
    database.write_bytes(b"x" * 4096)
    with pytest.raises(UserError, match=re.escape(str(database))):
        KeyStore(database)
