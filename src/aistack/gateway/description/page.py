"""The OpenAPI document as a page that can be read: one file of HTML, no script, nothing from elsewhere."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from aistack.gateway.description.schema import Json

_TEMPLATE = Path(__file__).parent / "templates" / "page.html.j2"
_METHODS = ("get", "head", "post", "patch", "delete")


def page(document: Json) -> bytes:
    """The page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    groups = [{**tag, "operations": _operations(document, tag["name"])} for tag in document["tags"]]
    schemas = document["components"]["schemas"]
    tables = {name: _fields(schema) for name, schema in schemas.items()}
    return template.render(document=document, groups=groups, schemas=schemas, tables=tables, kind=kind).encode()


def kind(schema: Json) -> str:
    """A schema in a few words: `list of ChatMessage`, `string or null`, `"low", "high"`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(option) for option in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return ", ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {kind(schema['items'])}"
    if schema["type"] == "object" and schema.get("properties"):
        return "{" + ", ".join(schema["properties"]) + "}"
    return str(schema["type"])


def _operations(document: Json, tag: str) -> list[dict[str, Any]]:
    found = []
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations and tag in operations[method]["tags"]:
                found.append({"path": path, "method": method.upper(), **operations[method]})
    return found


def _fields(schema: Json) -> list[tuple[str, Json, bool]]:
    """Name, schema and whether it is needed, of every property; those of all the kinds it may be of."""
    if "anyOf" in schema:
        return [field for option in schema["anyOf"] for field in _fields(option)]
    needed = schema.get("required", ())
    return [(name, field, name in needed) for name, field in schema.get("properties", {}).items()]
