"""The OpenAPI document: every route of the table with its description. Fails when a route has none."""

import json
import shlex
from collections.abc import Iterable

from aistack import __version__
from aistack.gateway.description import admin, anthropic, ollama, openai, responses, service
from aistack.gateway.description.schema import Json, Operation, ref
from aistack.gateway.routes import Route, Surface

OPERATIONS: dict[tuple[Surface, str], Operation] = {
    **{(Surface.OPENAI, name): found for name, found in {**openai.OPERATIONS, **responses.OPERATIONS}.items()},
    **{(Surface.ANTHROPIC, name): found for name, found in anthropic.OPERATIONS.items()},
    **{(Surface.OLLAMA, name): found for name, found in ollama.OPERATIONS.items()},
    **{(Surface.ADMIN, name): found for name, found in admin.OPERATIONS.items()},
    **{(Surface.SERVICE, name): found for name, found in service.OPERATIONS.items()},
}
SCHEMAS: dict[str, Json] = {
    **openai.SCHEMAS,
    **responses.SCHEMAS,
    **anthropic.SCHEMAS,
    **ollama.SCHEMAS,
    **admin.SCHEMAS,
}
# The title of each surface, and what it is.
TAGS = {
    Surface.OPENAI: ("OpenAI", "OpenAI's API. The same lies below `/api/v1`, with a key, and below `/ollama/v1`."),
    Surface.ANTHROPIC: (
        "Anthropic",
        "Anthropic's API, below the same roots. Its clients want the host, without `/v1`.",
    ),
    Surface.OLLAMA: ("Ollama", "Ollama's API. The address that its clients want is the host with `/ollama`."),
    Surface.ADMIN: (
        "Administration",
        "For keys with the scope `admin` alone: what `aistack keys` and others do. Below `/v1` only; Basic "
        "credentials, which browsers keep, are refused.",
    ),
    Surface.SERVICE: ("The gateway", "What is the gateway's own."),
}
# What stands for a name in the paths of examples.
_EXAMPLES = {Surface.OPENAI: "demo", Surface.ADMIN: "nightly"}
_ERRORS = {Surface.ANTHROPIC: "MessageError", Surface.OLLAMA: "OllamaError"}
_ABOUT = """\
A private AI service. A key (`aistack keys create NAME`) goes into `Authorization: Bearer ask_...`, into `x-api-key`, or
is the password of Basic authentication with any user name (not for administration). Models are named as the list of
models has them; `x` and `x:latest` are the same.

Errors come in the shape of each API: 400 for a mistake in the request, 401 without a valid key, 403 for what the key
may not do, 404 for a model that is not there, 409 for a name that is taken, 413 for a body that is too large, 429 when
there is too much to do (with `Retry-After`), 501 for what the engine behind a model cannot do, 502 to 504 when it
fails."""


def document(routes: Iterable[tuple[str, Route]]) -> Json:
    """The OpenAPI document for these paths. Raises KeyError for a route that is not described."""
    paths: dict[str, Json] = {}
    for path, route in routes:
        operations = paths.setdefault(path, {})
        if "{" in path:
            operations["parameters"] = [_parameter(path)]
        # What answers GET answers HEAD too; that goes without saying.
        for method in route.methods:
            if method != "HEAD" or "GET" not in route.methods:
                operations[method.lower()] = _operation(path, method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "aistack", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": title, "description": about} for title, about in TAGS.values()],
        "security": [{"bearer": []}, {"key": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "schemas": SCHEMAS,
        },
    }


def described_as(route: Route, method: str) -> tuple[Surface, str]:
    """Under which key of OPERATIONS this operation is described."""
    return route.surface, f"{method} {route.name}" if route.surface is Surface.ADMIN else route.name


def _operation(path: str, method: str, route: Route) -> Json:
    described = OPERATIONS[described_as(route, method)]
    refusal = described.error or ref(_ERRORS.get(route.surface, "Error"))
    error = {"content": {"application/json": {"schema": refusal}}}
    if method == "HEAD":
        error = {}
    told: Json = {
        "tags": [TAGS[route.surface][0]],
        "operationId": f"{route.surface.value}-{route.name}-{method.lower()}",
        "summary": described.summary,
        "responses": {
            **_good(described),
            "4XX": {"description": "The request is refused.", **error},
            "5XX": {"description": "The engine, or the gateway, cannot do it.", **error},
        },
        "x-codeSamples": [{"lang": "Shell", "label": "curl", "source": _curl(path, method, route, described)}],
    }
    if described.description:
        told["description"] = described.description
    if described.request is not None:
        content: Json = {"schema": described.request}
        if described.example is not None:
            content["example"] = described.example
        told["requestBody"] = {"required": described.needs_request, "content": {"application/json": content}}
    if described.parameters:
        told["parameters"] = list(described.parameters)
    if route.surface is Surface.SERVICE:
        told["security"] = []
    if route.surface is Surface.ADMIN:
        told["security"] = [{"bearer": []}, {"key": []}]
    return told


def _good(described: Operation) -> Json:
    if described.answer is None and described.streams is None:
        return {"2XX": {"description": "It is done."}}
    content: Json = {}
    if described.answer is not None:
        content[described.content] = {"schema": described.answer}
    if described.streams is not None:
        content[described.streams] = {}  # OpenAPI 3.1 has no words for what is in a stream
    return {"200": {"description": described.summary, "content": content}}


def _parameter(path: str) -> Json:
    name = path[path.index("{") + 1 : path.index("}")]
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _curl(path: str, method: str, route: Route, described: Operation) -> str:
    """A command that people can try, with the address of the site and a key to fill in."""
    ways = {"GET": "curl", "POST": "curl", "HEAD": "curl --head"}
    words = [
        f'{ways.get(method, f"curl -X {method}")} "https://$HOST{path}"'.replace(
            "{id}", _EXAMPLES.get(route.surface, "")
        ).replace("{name}", "local")
    ]
    if route.surface is Surface.ANTHROPIC:
        words.append('-H "x-api-key: $KEY"')
    elif route.surface is not Surface.SERVICE:
        words.append('-H "Authorization: Bearer $KEY"')
    if described.request is not None:
        words += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(described.example or {}))}"]
    return " \\\n  ".join(words)
