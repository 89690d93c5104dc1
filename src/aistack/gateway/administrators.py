"""Whether a credential belongs to an administrator of the chat: Open WebUI is asked, briefly remembered."""

import asyncio
import hashlib
import time
from urllib.parse import urlsplit

import orjson

from aistack.gateway.http_client import FAILURES
from aistack.gateway.keys import PREFIX
from aistack.gateway.refusals import Refusal
from aistack.gateway.upstream import open_client

# A page of Grafana asks a hundred times in a second; a role that is taken away counts after this.
REMEMBERED_S = 5.0
_TIMEOUT_S = 10.0
_MOST_REMEMBERED = 1000


class Administrators:
    """Asks Open WebUI at `chat_url` who a session token belongs to."""

    def __init__(self, chat_url: str) -> None:
        self._remembered: dict[bytes, float] = {}
        self._client = open_client(chat_url)
        self._host = urlsplit(chat_url).netloc

    def ask_at(self, chat_url: str) -> None:
        """From now on Open WebUI is at `chat_url`."""
        self.close()
        self._client = open_client(chat_url)
        self._host = urlsplit(chat_url).netloc

    def close(self) -> None:
        """Close the connections that nobody uses, and the others as soon as nobody does."""
        self._client.close()

    async def authorize(self, headers: dict[bytes, bytes]) -> None:
        """Return when the request is an administrator's.

        Raises Refusal 401 without a session that Open WebUI accepts, 403 for one of somebody else,
        503 when Open WebUI does not answer.
        """
        token = _session_token(headers)
        digest = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        if self._remembered.get(digest, 0.0) > now:
            return
        if await self._role(token) != "admin":
            raise Refusal(403, "only an administrator of the chat may see this")
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = now + REMEMBERED_S

    async def _role(self, token: str) -> str:
        head = f"GET /api/v1/auths/ HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n".encode(
            "latin-1"
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._client.send(head, None)
                try:
                    body = await answer.read()
                finally:
                    answer.close()
            user = orjson.loads(body) if answer.status == 200 else None
        except (*FAILURES, orjson.JSONDecodeError) as error:
            raise _unavailable() from error
        if answer.status in (401, 403):
            raise Refusal(401, "sign in to the chat first")
        if answer.status != 200:
            raise _unavailable()
        return str(user.get("role")) if isinstance(user, dict) else ""


def _unavailable() -> Refusal:
    return Refusal(503, "the chat, which knows its administrators, does not answer")


def _session_token(headers: dict[bytes, bytes]) -> str:
    """The one session token in the Authorization header or the cookie. Raises Refusal 401."""
    tokens = set(_cookies(headers.get(b"cookie", b"")))
    scheme, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer":
        tokens.add(value.strip().decode("latin-1"))
    tokens.discard("")
    if len(tokens) != 1:
        raise Refusal(401, "sign in to the chat first" if not tokens else "two different sessions were sent")
    (token,) = tokens
    if token.startswith(PREFIX) or not token.isascii() or not token.isprintable():
        raise Refusal(401, "this wants the session of a person, not an API key")
    return token


def _cookies(header: bytes) -> list[str]:
    """The values of all cookies called `token`."""
    pairs = (part.strip().partition(b"=") for part in header.split(b";"))
    return [value.strip().strip(b'"').decode("latin-1") for name, _, value in pairs if name == b"token"]
