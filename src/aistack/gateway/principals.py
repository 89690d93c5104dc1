"""Who is asking: found from the credential headers of a request, or refused."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from aistack.gateway.allowances import NO_LIMITS, UNLIMITED, Allowances, Limits
from aistack.gateway.keys import PREFIX, hashed
from aistack.gateway.refusals import Refusal

if TYPE_CHECKING:
    from aistack.gateway.key_ring import KeyRing

# The headers that say who asks or whence; a request that carries one of them twice is refused.
IDENTITY_HEADERS = frozenset(
    {
        b"authorization", b"cookie", b"x-api-key", b"x-aistack-edge", b"content-length",
        b"x-openwebui-user-id", b"x-openwebui-user-name", b"x-openwebui-user-email", b"x-openwebui-user-role",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Principal:
    """Somebody whose requests are counted together: an API key, a user of the chat, or the chat itself.

    `role` is Open WebUI's (`admin`, `user`, `pending`) for a user, else None. `scopes` is what it may do, `models`
    which models it may use, by canonical name; None: whatever there is.
    """

    kind: Literal["key", "user", "service"]
    id: str
    name: str
    role: str | None = None
    owner: str | None = None
    weight: float = 1.0
    scopes: frozenset[str] | None = None
    models: frozenset[str] | None = None
    limits: Limits = UNLIMITED

    @property
    def label(self) -> str:
        """How the principal is named in logs: `key:k1a2b3c4`."""
        return f"{self.kind}:{self.id}"

    def may(self, scope: str) -> bool:
        """Whether the principal may do what `scope` stands for. Nobody but a key administrates the gateway: what
        people of the chat send may come from a page that they only look at."""
        return scope in self.scopes if self.scopes is not None else scope != "admin"

    def may_use(self, model: str) -> bool:
        """Whether the principal may use the model with this canonical name."""
        return self.models is None or model in self.models

    @property
    def administrates(self) -> bool:
        """Whether this is an administrator of the chat, who may manage models."""
        return self.kind == "user" and self.role == "admin"


class Gatekeeper:
    """Turns credential headers into a Principal, or raises Refusal (401).

    `allowances` are what people may use; those of keys are the key ring's.
    """

    def __init__(self, keys: "KeyRing", internal_key: str, allowances: Allowances = NO_LIMITS) -> None:
        self._keys = keys
        self._internal = hashed(internal_key)
        self.allowances = allowances

    def allow(self, allowances: Allowances) -> None:
        """From now on the site's own limits are these."""
        self.allowances = allowances
        self._keys.allow(allowances.keys)

    def admit(self, headers: dict[bytes, bytes]) -> Principal:
        """The principal of a request with these headers (names in lower case, none twice).

        The internal key counts only as a Bearer token and never on a request that came through the
        proxy; only with it are Open WebUI's identity headers believed.
        """
        secret, bearer = _secret(headers)
        if bearer and not secret.startswith(PREFIX):
            if b"x-aistack-edge" not in headers and hmac.compare_digest(hashed(secret), self._internal):
                return _forwarded(headers, self.allowances)
            raise unauthorized("the credential is not valid here")
        principal = self._keys.find(secret)
        if principal is None:
            raise unauthorized("the API key is not valid, has expired, or was revoked")
        return principal


def unauthorized(message: str) -> Refusal:
    """401; the surface adds how to authenticate."""
    return Refusal(401, message, "invalid_api_key")


def _secret(headers: dict[bytes, bytes]) -> tuple[str, bool]:
    """The one secret that the headers carry and whether it came as a Bearer token."""
    authorization = headers.get(b"authorization")
    api_key = headers.get(b"x-api-key")
    if authorization is None:
        if api_key is None:
            raise unauthorized("an API key is needed: Authorization: Bearer ask_...")
        return _text(api_key.strip()), False
    scheme, _, value = authorization.strip().partition(b" ")
    match scheme.lower():
        case b"bearer":
            secret, bearer = _text(value.strip()), True
        case b"basic":
            secret, bearer = _password(value.strip()), False
        case _:
            raise unauthorized("the Authorization header must be Bearer or Basic")
    if api_key is not None and _text(api_key.strip()) != secret:
        raise unauthorized("Authorization and x-api-key carry different credentials")
    return secret, bearer


def _password(value: bytes) -> str:
    try:
        pair = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise unauthorized("the Basic credential is not base64") from error
    return _text(pair.partition(b":")[2])


def _text(value: bytes) -> str:
    # Latin-1 is what HTTP headers are, and cannot fail; a real credential is ASCII.
    return value.decode("latin-1")


def _forwarded(headers: dict[bytes, bytes], allowances: Allowances) -> Principal:
    identity = headers.get(b"x-openwebui-user-id", b"").decode("latin-1")
    if not identity:
        return Principal("service", "chat", "Open WebUI")
    name = unquote(headers.get(b"x-openwebui-user-name", b"").decode("latin-1"))
    role = headers.get(b"x-openwebui-user-role", b"").decode("latin-1")
    return Principal("user", identity, name, role or None, limits=allowances.of_role(role))
