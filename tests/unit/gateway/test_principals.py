import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from aistack.gateway.key_ring import KeyRing
from aistack.gateway.keys import KeyStore
from aistack.gateway.principals import Gatekeeper, Principal
from aistack.gateway.refusals import Refusal
from aistack.gateway.state.database import Database

INTERNAL = "internal-secret"
IDENTITY = {
    b"x-openwebui-user-id": b"u1",
    b"x-openwebui-user-name": b"Zo%C3%AB%20B",
    b"x-openwebui-user-role": b"admin",
}


@pytest.fixture
def plain(tmp_path: Path) -> str:
    store = KeyStore(tmp_path / "gateway.db")
    plain, _ = store.create("laptop")
    store.close()
    return plain


@pytest.fixture
def gatekeeper(tmp_path: Path, plain: str) -> Iterator[Gatekeeper]:
    database = Database(tmp_path / "gateway.db")
    ring = KeyRing(database)
    yield Gatekeeper(ring, INTERNAL)
    ring.close()
    database.close()


def bearer(secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + secret.encode()}


def basic(user: str, secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Basic " + base64.b64encode(f"{user}:{secret}".encode())}


def test_a_key_is_taken_as_bearer_basic_or_x_api_key(gatekeeper: Gatekeeper, plain: str) -> None:
    forms = (bearer(plain), basic("", plain), basic("any body", plain), {b"x-api-key": plain.encode()})
    for headers in forms:
        principal = gatekeeper.admit(headers)
        assert (principal.kind, principal.name) == ("key", "laptop")


def test_the_same_key_twice_is_no_contradiction(gatekeeper: Gatekeeper, plain: str) -> None:
    assert gatekeeper.admit({**bearer(plain), b"x-api-key": plain.encode()}).kind == "key"


def test_the_scheme_may_be_written_in_any_case(gatekeeper: Gatekeeper, plain: str) -> None:
    assert gatekeeper.admit({b"authorization": b"bEARER  " + plain.encode()}).kind == "key"


def test_with_the_internal_key_the_forwarded_user_is_believed(gatekeeper: Gatekeeper) -> None:
    principal = gatekeeper.admit({**bearer(INTERNAL), **IDENTITY})
    assert principal == Principal("user", "u1", "Zoë B", "admin")
    assert principal.administrates
    assert principal.label == "user:u1"


def test_the_internal_key_alone_is_the_chat_itself_and_no_administrator(gatekeeper: Gatekeeper) -> None:
    principal = gatekeeper.admit({**bearer(INTERNAL), b"x-openwebui-user-role": b"admin"})
    assert principal.kind == "service"
    assert not principal.administrates


def test_with_an_api_key_identity_headers_say_nothing(gatekeeper: Gatekeeper, plain: str) -> None:
    principal = gatekeeper.admit({**bearer(plain), **IDENTITY})
    assert (principal.kind, principal.role) == ("key", None)


@pytest.mark.parametrize("value", [b"1", b"0", b""])
def test_from_outside_the_internal_key_is_no_key(gatekeeper: Gatekeeper, value: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        gatekeeper.admit({**bearer(INTERNAL), b"x-aistack-edge": value})
    assert refused.value.status == 401


def test_the_internal_key_is_taken_only_as_bearer(gatekeeper: Gatekeeper) -> None:
    for headers in (basic("x", INTERNAL), {b"x-api-key": INTERNAL.encode()}):
        with pytest.raises(Refusal):
            gatekeeper.admit(headers)


def way_of(gatekeeper: Gatekeeper, secret: str) -> tuple[list[tuple[str, int]], tuple[Any, ...]]:
    """The lines of ours that a refused key goes through, in their order, and the refusal."""
    lines: list[tuple[str, int]] = []

    def note(frame: FrameType, event: str, _: object) -> Any:
        if "/aistack/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines.append((frame.f_code.co_filename, frame.f_lineno))
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        gatekeeper.admit(bearer(secret))
    except Refusal as refusal:
        return lines, (refusal.status, refusal.message, refusal.code, refusal.headers)
    finally:
        sys.settrace(before)
    raise AssertionError(f"{secret} was let in")


def test_whatever_is_wrong_with_a_key_it_goes_the_same_way_to_the_same_refusal(tmp_path: Path) -> None:
    database = Database(tmp_path / "gateway.db")
    store = KeyStore(database)
    live, _ = store.create("live")
    revoked, _ = store.create("revoked")
    store.revoke("revoked")
    old, _ = store.create("rotated")
    store.rotate("rotated")
    expired_before, _ = store.create("expired before", None, {"expires_at": time.time() + 0.01})
    time.sleep(0.02)
    expires_at = time.time() + 1
    expired_since, _ = store.create("expired since", None, {"expires_at": expires_at})
    ring = KeyRing(database, fresh_s=1e9)
    gatekeeper = Gatekeeper(ring, INTERNAL)
    for secret in (live, expired_since):
        assert gatekeeper.admit(bearer(secret))
    while time.time() <= expires_at:
        time.sleep(0.02)
    other = "b" if live[-1] == "a" else "a"
    way = way_of(gatekeeper, "ask_" + "0" * 43)
    assert len(way[0]) > 10
    for secret in (live[:-1] + other, "ask_" + other + live[5:], revoked, old, expired_before, expired_since):
        assert way_of(gatekeeper, secret) == way
    ring.close()
    database.close()
