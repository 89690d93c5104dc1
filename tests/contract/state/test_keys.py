"""Keys in every database: shown once, found at once, gone at once."""

import re
import time
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from aistack.errors import UserError
from aistack.gateway.allowances import Limits
from aistack.gateway.key_ring import KeyRing
from aistack.gateway.keys import KeyStore
from aistack.gateway.state.tables import METADATA

from .conftest import OpenDatabase


def comes_true(condition: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_the_migrations_lead_to_the_tables_that_the_code_knows(open_database: OpenDatabase) -> None:
    with open_database().read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_key_is_what_was_asked_for(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    expiry = time.time() + 3600
    terms = {
        "expires_at": expiry, "scopes": ["embed", "chat"], "models": ["demo:latest"], "requests_per_minute": 5,
        "tokens_per_day": 0, "weight": 3,
    }  # fmt: skip
    plain, key = store.create("laptop", "ada", terms)
    assert re.fullmatch(r"ask_[0-9A-Za-z]{43}", plain)
    assert store.list() == (key,) == (store.find("laptop"),)
    assert (key.owner, key.expires_at, key.weight) == ("ada", expiry, 3.0)
    assert (key.scopes, key.models) == ({"chat", "embed"}, {"demo"})
    assert key.limits == {"requests_per_minute": 5, "tokens_per_day": 0}


def test_two_live_keys_cannot_share_a_name_and_a_revoked_one_frees_it(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    store.create("laptop")
    with pytest.raises(UserError, match="already"):
        store.create("laptop")
    store.revoke("laptop")
    store.create("laptop")
    assert [key.revoked_at is None for key in store.list()] == [False, True]


def test_a_change_touches_only_what_it_names(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    _, key = store.create("laptop", "ada", {"tokens_per_day": 9, "weight": 2})
    changed = store.update(key.id, {"tokens_per_day": None, "name": "desk"})
    assert (changed.id, changed.name, changed.owner, changed.weight) == (key.id, "desk", "ada", 2)
    assert changed.limits == {}
    with pytest.raises(UserError, match="no live key"):
        store.update("laptop", {"weight": 1})


def test_an_id_wins_over_a_key_that_is_named_like_it(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    _, first = store.create("one")
    store.create(first.id)
    assert store.revoke(first.id).name == "one"
    # Now that the id is no live key's, it stays the name of nobody else: revoking twice must not hit another.
    with pytest.raises(UserError, match="no live key"):
        store.revoke(first.id)


def test_a_ring_sees_soon_what_somebody_else_did(open_database: OpenDatabase) -> None:
    store, ring = KeyStore(open_database()), KeyRing(open_database(), Limits(tokens_per_day=100))
    plain, key = store.create("laptop", "ada", {"requests_per_minute": 7, "models": ["demo"]})
    assert comes_true(lambda: ring.find(plain))
    principal = ring.find(plain)
    assert principal is not None
    assert (principal.label, principal.owner, principal.models) == (f"key:{key.id}", "ada", {"demo"})
    assert principal.limits == Limits(requests_per_minute=7, tokens_per_day=100)
    assert ring.find(plain + "x") is None
    ring.allow(Limits(tokens_per_day=50))
    changed = ring.find(plain)
    assert changed is not None
    assert changed.limits == Limits(requests_per_minute=7, tokens_per_day=50)
    store.revoke("laptop")
    assert comes_true(lambda: ring.find(plain) is None, 1)
    ring.close()


def test_an_expired_key_is_no_key(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    plain, _ = store.create("laptop", None, {"expires_at": time.time() + 0.5})
    ring = KeyRing(open_database())
    assert ring.find(plain)
    assert comes_true(lambda: ring.find(plain) is None)
    ring.close()


def test_a_rotated_key_works_on_only_as_long_as_it_was_said(open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    first, key = store.create("laptop")
    second, rotated = store.rotate("laptop", overlap_s=1)
    assert rotated.id == key.id
    ring = KeyRing(open_database())
    assert ring.find(first) == ring.find(second) is not None
    assert comes_true(lambda: ring.find(first) is None)
    assert ring.find(second)
    third, _ = store.rotate("laptop")
    assert comes_true(lambda: ring.find(third))
    assert ring.find(second) is None
    ring.close()


@pytest.mark.parametrize(
    ("terms", "said"),
    [({"scopes": ["root"]}, "root"), ({"scopes": []}, "scopes"), ({"models": ["a b"]}, "a b"),
     ({"weight": 0}, "weight"), ({"tokens_per_day": -1}, "tokens_per_day"),
     ({"tokens_per_day": True}, "tokens_per_day"),
     ({"expires_at": 5}, "future"), ({"expires_at": "2999-01-01T00:00:00"}, "time zone"),
     ({"expires_at": float("nan")}, "future"), ({"colour": 1}, "colour"), ({"name": " "}, "name")],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused(terms: dict[str, Any], said: str, open_database: OpenDatabase) -> None:
    store = KeyStore(open_database())
    with pytest.raises(UserError, match=said):
        store.create("laptop", None, terms)
    assert store.list() == ()
