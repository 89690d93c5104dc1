"""The source for a running Ollama: it fetches, lists and deletes by itself, this asks it to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2

from aistack.errors import ModelError, ServiceError
from aistack.models.errors import HubUnreachable
from aistack.models.names import canonical, fetched_in_clear
from aistack.models.progress import OnProgress, Progress, Step, ignore

_SILENCE_S = 900.0  # Ollama says nothing while it verifies a large model
# How Ollama words what its own network told it; the text is all that it hands on.
_NETWORK = ("dial tcp", "no such host", "connection refused", "connection reset", "i/o timeout", "timeout",
            "network is unreachable", "max retries exceeded", "tls: ", "x509: ")  # fmt: skip


@dataclass(frozen=True)
class OllamaModel:
    """A model that Ollama has. `size` in bytes, `modified_at` in seconds of the epoch."""

    name: str
    size: int
    digest: str
    modified_at: float


class OllamaServer:
    """The Ollama that listens at `url`. Every method raises ServiceError when it does not answer."""

    def __init__(self, url: str, connect_s: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = httpx2.Timeout(_SILENCE_S, connect=connect_s)

    def list(self) -> tuple[OllamaModel, ...]:
        """Every model that it has, by name."""
        found = self._ask("GET", "/api/tags").get("models") or []
        models = [
            OllamaModel(canonical(m["name"]), int(m["size"]), str(m["digest"]), _epoch(m["modified_at"])) for m in found
        ]
        return tuple(sorted(models, key=lambda model: model.name))

    def remove(self, name: str) -> None:
        """Delete a model. Raises ModelError when it has none of that name."""
        self._ask("DELETE", "/api/delete", {"model": canonical(name)})

    def pull(self, name: str, on_progress: OnProgress = ignore) -> None:
        """Have a model fetched; it goes on by itself where an earlier pull broke off.

        Raises HubUnreachable when Ollama cannot reach its registry, ModelError when there is no such model.
        """
        layers: dict[str, tuple[int, int]] = {}
        finished = False
        # "insecure" has Ollama speak plain HTTP, which is for registries on this very machine.
        wish = {"model": canonical(name), "stream": True, "insecure": fetched_in_clear(name)}
        for line in self._stream("/api/pull", wish):
            if "error" in line:
                raise _refusal(name, str(line["error"]))
            if line.get("digest") and line.get("total"):
                layers[str(line["digest"])] = (int(line.get("completed") or 0), int(line["total"]))
            status = str(line.get("status", ""))
            finished = finished or status == "success"
            done, total = (sum(layer[part] for layer in layers.values()) for part in (0, 1))
            on_progress(Progress(name, _step(status), done, total))
        if not finished:
            raise HubUnreachable(f"Ollama stopped fetching {name} without saying why", "run the same command again")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            with self._client() as client:
                response = client.request(method, self._url + path, json=body)
        except httpx2.RequestError as error:
            raise self._silent(error) from error
        answer = _parsed(response.text)
        if response.status_code >= 400:
            raise _refusal((body or {}).get("model", "this"), str(answer.get("error", response.status_code)))
        return answer

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            with (
                self._client() as client,
                client.stream("POST", self._url + path, json=body) as response,
            ):
                for line in response.iter_lines():
                    if line.strip():
                        yield _parsed(line)
        except httpx2.RequestError as error:
            raise self._silent(error) from error

    def _client(self) -> httpx2.Client:
        # Ollama is a part of the stack: a proxy for the way out must not come between.
        return httpx2.Client(timeout=self._timeout, trust_env=False)

    def _silent(self, error: httpx2.RequestError) -> ServiceError:
        why = str(error) or type(error).__name__
        return ServiceError(f"Ollama does not answer at {self._url}: {why}", "`aistack up` starts it")


def _parsed(text: str) -> dict[str, Any]:
    """The JSON object that Ollama sent; it sends an empty body for nothing, plain text for some errors."""
    try:
        answer = json.loads(text or "{}")
    except ValueError:
        return {"error": text.strip()[:300]}
    return answer if isinstance(answer, dict) else {"error": text.strip()[:300]}


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _step(status: str) -> Step:
    if status.startswith("verifying"):
        return "verifying"
    if status.startswith(("writing", "removing", "success")):
        return "installing"
    return "looking" if status == "pulling manifest" else "downloading"


def _refusal(name: str, error: str) -> ModelError:
    if any(word in error.lower() for word in _NETWORK):
        return HubUnreachable(f"Ollama cannot fetch {name}: {error}", "check the network, then try again")
    if "no space left" in error:
        return ModelError(f"Ollama cannot fetch {name}: {error}", "free some space, then try again")
    return ModelError(f"Ollama: {name}: {error}", "check the name and its tag")
