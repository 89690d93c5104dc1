import base64
from collections.abc import Iterator
from pathlib import Path

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
