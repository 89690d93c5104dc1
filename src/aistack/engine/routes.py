"""Where a request goes: to the model that its body names, or to one of the engine's own answers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

import orjson

from aistack.engine import keep_alive
from aistack.engine.answers import TEXT, Answer, ApiError, json_answer
from aistack.engine.catalogue import Catalogue
from aistack.engine.connection import Connection
from aistack.engine.metrics import Meters, merged
from aistack.engine.relay import fetch, relay
from aistack.engine.request import Request
from aistack.engine.resident import Resident
from aistack.engine.residents import Residents
from aistack.errors import ModelError
from aistack.models.names import canonical

# What each path needs of a model: llama.cpp's own refusals name its command line, which is not ours.
_RELAYED = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/input_tokens": "chat",
    "/v1/completions": "chat",
    "/apply-template": "chat",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
    "/tokenize": "",
}
_SCRAPE_LIMIT_S = 3.0
_LONGEST_NAME = 300
_MODEL = "/engine/models/"


@dataclass(frozen=True)
class _Wish:
    """What the engine reads of a body: everything else is llama.cpp's business."""

    name: str
    keep_alive_s: float | None


class Routes:
    """The engine's HTTP API."""

    def __init__(self, residents: Residents, catalogue: Catalogue, meters: Meters) -> None:
        self._residents = residents
        self._catalogue = catalogue
        self._meters = meters
        self._own: dict[tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/v1/models"): self._models,
            ("GET", "/engine/loaded"): self._loaded,
            ("POST", "/engine/unload"): self._unload,
            ("GET", "/metrics"): self._metrics,
        }

    async def __call__(self, request: Request, client: Connection) -> Answer | None:
        """Serve `request`. Raises ApiError."""
        path = request.path
        try:
            if path not in _RELAYED:
                return await self._own_answer(request, path)
            if request.method != "POST":
                raise ApiError(405, f"{path} takes POST")
            if request.version != "1.1":
                raise ApiError(505, "HTTP/1.1 is needed")
            with self._meters.in_flight.track_inprogress():
                await self._relayed(request, path, client)
        except ModelError as error:
            raise ApiError(404, error.message, "not_found_error") from error
        return None

    async def _own_answer(self, request: Request, path: str) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        if answer := self._own.get((method, path)):
            return await answer(request)
        if path.startswith(_MODEL) and method == "GET":
            return json_answer(self._catalogue.item(_checked_name(unquote(path.removeprefix(_MODEL)))))
        if path.startswith(_MODEL) or any(path == known for _, known in self._own):
            raise ApiError(405, f"{path} does not take {request.method[:20]}")
        raise ApiError(404, f"there is no {path[:200]} here", "not_found_error")

    async def _relayed(self, request: Request, path: str, client: Connection) -> None:
        wish = _wish(request.body)
        status = 499  # nginx's number for a client that went away first
        try:
            self._check_kind(wish.name, path)
            status = await self._relay(wish, request, path, client)
        except ApiError as error:
            status = error.status
            raise
        except ModelError:
            status = 404
            raise
        except OSError:
            status = 502
            client.transport.close()  # bytes are out: that the response is cut short is all we can tell
        finally:
            known = wish.name if status != 404 else ""
            self._meters.requests.labels(path=path, model=known, status=str(status)).inc()

    async def _relay(self, wish: _Wish, request: Request, path: str, client: Connection) -> int:
        for last_try in (False, True):
            async with self._residents.lease(wish.name, wish.keep_alive_s) as resident:
                address = _address(resident)
                try:
                    return await relay(address, path, request.body, client, keep_alive=request.keep_alive)
                except (ConnectionRefusedError, FileNotFoundError):
                    # It died between two requests: nothing was sent, so it can be loaded again.
                    resident.retire()
                    if last_try:
                        raise ApiError(502, "the model's process ended", "server_error") from None
                except OSError as error:
                    await resident.settled()
                    if client.response_begun:
                        raise
                    message = "the model's process ended while it worked on this request"
                    raise ApiError(502, message, "server_error") from error
        raise AssertionError("the second try returns or raises")

    def _check_kind(self, name: str, path: str) -> None:
        """Raise ApiError when the model is not made for what is asked of it."""
        needed = _RELAYED[path]
        if not needed:
            return
        kind = self._catalogue.purpose(name)
        if kind != needed:
            raise ApiError(400, f"{name} is a model for {kind}; {path} needs one for {needed}")

    async def _health(self, _: Request) -> Answer:
        return json_answer({"status": "ok"})

    async def _models(self, _: Request) -> Answer:
        return json_answer({"object": "list", "data": self._catalogue.items()})

    async def _loaded(self, _: Request) -> Answer:
        return json_answer({"models": [_told(resident) for resident in self._residents if resident.serving]})

    async def _unload(self, request: Request) -> Answer:
        name = _wish(request.body).name
        if self._residents.get(name) is None:
            self._catalogue.item(name)  # says so when there is no such model
        return json_answer({"model": name, "unloaded": await self._residents.unload(name)})

    async def _metrics(self, _: Request) -> Answer:
        serving = [resident for resident in self._residents if resident.serving]
        texts = await asyncio.gather(*(_scraped(resident) for resident in serving))
        by_model = {resident.launch.name: text for resident, text in zip(serving, texts, strict=True)}
        return Answer(200, (self._meters.text() + merged(by_model)).encode(), TEXT)


async def _scraped(resident: Resident) -> str:
    """llama.cpp's own metrics; empty when it is in the middle of a long step and does not answer."""
    try:
        return await fetch(_address(resident), "/metrics", _SCRAPE_LIMIT_S)
    except (OSError, TimeoutError):
        return ""


def _told(resident: Resident) -> dict[str, object]:
    launch = resident.launch
    return {
        "id": launch.name,
        "size": resident.identity.size,
        "expires_at": resident.expires_at,
        "context_length": launch.slot_context,
        "slots": launch.slots,
        "busy": resident.busy,
    }


def _address(resident: Resident) -> str:
    assert resident.worker is not None
    return resident.worker.address


def _wish(body: bytes | bytearray) -> _Wish:
    """Look into a body for the model. Raises ApiError (400)."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    name = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ApiError(400, "the body must be a JSON object with the field `model`")
    try:
        return _Wish(_checked_name(name), keep_alive.seconds(fields.get("keep_alive")))
    except ValueError as error:
        raise ApiError(400, str(error)) from None


@lru_cache(maxsize=256)
def _checked_name(name: str) -> str:
    """The model's one spelling. Raises ApiError (404) for what no name can be."""
    if len(name) > _LONGEST_NAME:
        raise ApiError(404, "there is no model with so long a name", "not_found_error")
    return canonical(name)
