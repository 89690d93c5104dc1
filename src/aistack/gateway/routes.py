"""Which path is which operation of which surface: data only, no code is chosen here.

Paths arrive percent-decoded once and are matched as they are: no folding of case, slashes or dots.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from urllib.parse import unquote


class Surface(StrEnum):
    """Whose manners an answer follows."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    ADMIN = "admin"
    SERVICE = "service"


@dataclass(frozen=True)
class Route:
    """One operation: its surface, its name (also the label in metrics), and the methods it takes."""

    surface: Surface
    name: str
    methods: tuple[str, ...]
    management: bool = False

    @cached_property
    def scope(self) -> str:
        """What a key must be allowed to do: `chat`, `embed` or `admin`; "" for what every key may, such as listing
        models."""
        if self.surface is Surface.ADMIN:
            return "admin"
        if self.methods != _WRITE or self.name in _FOR_ALL:
            return ""
        return "embed" if self.name in _EMBEDDING else "chat"


@dataclass(frozen=True)
class Match:
    """A route and what its path names: a model for `models/{id}`, a digest for `blobs/{digest}`, a key, a node."""

    route: Route
    argument: str = ""


# `/ollama/v1` is there because Ollama itself serves OpenAI's surface below its own root.
_ROOTS = ("/v1", "/api/v1", "/ollama/v1")
_OLLAMA_ROOT = "/ollama/api"
_READ = ("GET", "HEAD")
_WRITE = ("POST",)
_FOR_ALL = {"show"}
_EMBEDDING = {"embed", "embeddings", "rerank"}

_OPENAI = {
    "models": _READ,
    "chat/completions": _WRITE,
    "completions": _WRITE,
    "embeddings": _WRITE,
    "responses": _WRITE,
    "rerank": _WRITE,
}
# Below the same roots.
_ANTHROPIC = {
    "messages": _WRITE,
    "messages/count_tokens": _WRITE,
}
_ADMIN_ROOT = "/v1/admin"
_ADMIN = {
    "keys": (*_READ, *_WRITE),
    "usage": _READ,
    "nodes": _READ,
}
_OLLAMA = {
    "version": _READ,
    "tags": _READ,
    "ps": _READ,
    "show": _WRITE,
    "chat": _WRITE,
    "generate": _WRITE,
    "embed": _WRITE,
    "embeddings": _WRITE,
}
_MANAGEMENT = {
    "pull": _WRITE,
    "push": _WRITE,
    "create": _WRITE,
    "copy": _WRITE,
    "delete": ("DELETE",),
}
_SERVICE = {
    "/openapi.json": Route(Surface.SERVICE, "openapi", _READ),
    "/docs": Route(Surface.SERVICE, "docs", _READ),
    "/health": Route(Surface.SERVICE, "health", _READ),
    "/health/live": Route(Surface.SERVICE, "live", _READ),
    "/metrics": Route(Surface.SERVICE, "metrics", _READ),
    "/internal/nodes": Route(Surface.SERVICE, "nodes", _READ),
    "/internal/authorize-admin": Route(Surface.SERVICE, "authorize-admin", _READ),
}

_MODEL = Route(Surface.OPENAI, "models/{id}", _READ)
# What stands before and after a name that may have slashes in it; the first that fits counts.
_ADMIN_NAMED = (
    (f"{_ADMIN_ROOT}/keys/", "/rotate", Route(Surface.ADMIN, "keys/{id}/rotate", _WRITE)),
    (f"{_ADMIN_ROOT}/keys/", "", Route(Surface.ADMIN, "keys/{id}", (*_READ, "PATCH", "DELETE"))),
    (f"{_ADMIN_ROOT}/nodes/", "/drain", Route(Surface.ADMIN, "nodes/{name}/drain", _WRITE)),
    (f"{_ADMIN_ROOT}/nodes/", "/resume", Route(Surface.ADMIN, "nodes/{name}/resume", _WRITE)),
)
_NAMED = (*((f"{root}/models/", "", _MODEL) for root in _ROOTS), *_ADMIN_NAMED)
_BLOB = Route(Surface.OLLAMA, "blobs", ("HEAD", "POST"), management=True)
_RUNNING = Route(Surface.OLLAMA, "root", _READ)
# Stands for every spelling of a management path that is not the plain one: never served, only refused.
_DISGUISED = Route(Surface.OLLAMA, "management", (), management=True)


def _table() -> dict[str, Match]:
    table = {path: Match(route) for path, route in _SERVICE.items()}
    for root in _ROOTS:
        for name, methods in _OPENAI.items():
            table[f"{root}/{name}"] = Match(Route(Surface.OPENAI, name, methods))
        for name, methods in _ANTHROPIC.items():
            table[f"{root}/{name}"] = Match(Route(Surface.ANTHROPIC, name, methods))
    for name, methods in _ADMIN.items():
        table[f"{_ADMIN_ROOT}/{name}"] = Match(Route(Surface.ADMIN, name, methods))
    for name, methods in _OLLAMA.items():
        table[f"{_OLLAMA_ROOT}/{name}"] = Match(Route(Surface.OLLAMA, name, methods))
    for name, methods in _MANAGEMENT.items():
        table[f"{_OLLAMA_ROOT}/{name}"] = Match(Route(Surface.OLLAMA, name, methods, management=True))
    table["/ollama"] = table["/ollama/"] = Match(_RUNNING)
    return table


_TABLE = _table()
# Every path that is served, with its route; of two paths that are the same only the first.
PATHS: tuple[tuple[str, Route], ...] = (
    *((path, match.route) for path, match in _TABLE.items() if not path.startswith(_ROOTS[1:]) and path != "/ollama/"),
    (f"{_ROOTS[0]}/models/{{id}}", _MODEL),
    *((f"{_ADMIN_ROOT}/{route.name}", route) for _, _, route in _ADMIN_NAMED),
    (f"{_OLLAMA_ROOT}/blobs/{{digest}}", _BLOB),
)


def find(path: str) -> Match | None:
    """The route of a path, or None. Takes any string."""
    if match := _TABLE.get(path):
        return match
    if match := _named(path):
        return match
    prefix = f"{_OLLAMA_ROOT}/blobs/"
    if path.startswith(prefix) and len(path) > len(prefix):
        return Match(_BLOB, path[len(prefix) :])
    return Match(_DISGUISED) if _means_management(path) else None


def _named(path: str) -> Match | None:
    for before, after, route in _NAMED:
        if path.startswith(before) and path.endswith(after) and len(path) > len(before) + len(after):
            return Match(route, path[len(before) : len(path) - len(after)])
    return None


def surface_of(path: str) -> Surface:
    """In whose shape to refuse a path that is no route."""
    ours = path == "/ollama" or path.startswith("/ollama/")
    return Surface.OLLAMA if ours and not path.startswith("/ollama/v1/") else Surface.OPENAI


def _means_management(path: str) -> bool:
    """Whether some server, more lenient than we are, would take `path` for model management."""
    while (decoded := unquote(path)) != path:
        path = decoded
    segments: list[str] = []
    for segment in path.replace("\\", "/").casefold().split("/"):
        name = segment.partition(";")[0].strip()
        if name == "..":
            del segments[-1:]
        elif name not in ("", "."):
            segments.append(name)
    return segments[:2] == ["ollama", "api"] and any(
        segment in _MANAGEMENT or segment == "blobs" for segment in segments[2:3]
    )
