"""The words in which requests and answers are described: JSON Schema, and what an operation needs beside. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Operation:
    """One operation as people and programs are told of it.

    `request` and `answer` are schemas (None: no body), `streams` is the type of the answer's pieces when it is asked
    for as a stream, `content` the type of the answer otherwise, `example` a request that works with the demo model.
    `error` is what a refusal looks like where that is not as usual.
    `needs_request` is whether there must be a body; `parameters` are those beside the path's (see `parameter`).
    """

    summary: str
    description: str = ""
    request: Json | None = None
    answer: Json | None = None
    streams: str | None = None
    content: str = "application/json"
    example: Json | None = None
    error: Json | None = None
    needs_request: bool = True
    parameters: tuple[Json, ...] = ()


def ref(name: str) -> Json:
    """The schema that is called `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str, schema: Json, place: str = "query") -> Json:
    """Something that may stand in the query string, or in a `header`."""
    return {"name": name, "in": place, "schema": schema}


def thing(properties: Mapping[str, Json], *needed: str, about: str = "") -> Json:
    """An object with these properties, `needed` ones among them; others are taken too."""
    schema: Json = {"type": "object", "properties": dict(properties)}
    if needed:
        schema["required"] = list(needed)
    return _about(schema, about)


def listed(of: Json, about: str = "", *, least: int = 0) -> Json:
    """A list."""
    return _about({"type": "array", "items": of, **({"minItems": least} if least else {})}, about)


def text(about: str = "", *values: str, least: int = 0) -> Json:
    """A string, of the given ones if there are any, at least so long."""
    more: Json = {"enum": list(values)} if values else {}
    return _about({"type": "string", **more, **({"minLength": least} if least else {})}, about)


def count(about: str = "", least: int = 0) -> Json:
    """A whole number."""
    return _about({"type": "integer", "minimum": least, "maximum": 2147483647}, about)


def number(about: str = "", least: float = 0, most: float = 2) -> Json:
    """A number between two others."""
    return _about({"type": "number", "minimum": least, "maximum": most}, about)


def flag(about: str = "") -> Json:
    """True or false."""
    return _about({"type": "boolean"}, about)


def constant(value: str) -> Json:
    """Exactly this string."""
    return {"const": value}


def either(*schemas: Json, about: str = "") -> Json:
    """One of several."""
    return _about({"anyOf": list(schemas)}, about)


def maybe(schema: Json) -> Json:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def anything(about: str) -> Json:
    """An object that is described elsewhere."""
    return {"type": "object", "description": about}


def _about(schema: Json, about: str) -> Json:
    return {**schema, "description": about} if about else schema
