"""A model's description from our engine as Ollama's `show`, and loaded models as its `ps`. Pure."""

from collections.abc import Mapping
from typing import Any

from aistack.gateway.listing import Model, details, tagged, timestamp

Json = dict[str, Any]

# Ollama's clients read a date even from a model that is never unloaded.
_NEVER = "9999-12-31T23:59:59Z"


def shown(item: Json) -> Json:
    """`/api/show` for an item of our engine's `/engine/models/{name}` (or of any `/v1/models`)."""
    meta: Json = item.get("meta") or {}
    template = meta.get("template") or ""
    parameters = _parameters(meta.get("parameters"))
    return {
        "modelfile": _modelfile(item["id"], template, parameters),
        "parameters": parameters,
        "template": template,
        "details": details(meta),
        "model_info": _model_info(meta),
        "capabilities": meta.get("capabilities") or ["completion"],
        "modified_at": timestamp(meta.get("modified_at") or item.get("created")),
    }


def running(loaded: Json, models: Mapping[str, Model]) -> list[Json]:
    """The entries of `/api/ps` for our engine's `/engine/loaded`; `models` are those known, by name."""
    return [_entry(item, models.get(item["id"])) for item in loaded["models"]]


def _entry(item: Json, model: Model | None) -> Json:
    known = model.ollama if model else {}
    expires_at = item.get("expires_at")
    return {
        "name": tagged(item["id"]),
        "model": tagged(item["id"]),
        "size": item.get("size") or 0,
        "digest": known.get("digest", ""),
        "details": known.get("details", details({})),
        "expires_at": _NEVER if expires_at is None else timestamp(expires_at),
        "size_vram": item.get("size_vram") or 0,
        "context_length": item.get("context_length") or 0,
    }


def _parameters(parameters: Any) -> str:
    """One `name value` a line, as in a Modelfile."""
    if not isinstance(parameters, dict):
        return ""
    return "\n".join(f"{name:<30} {value}" for name, value in parameters.items())


def _modelfile(name: str, template: str, parameters: str) -> str:
    lines = [f"FROM {name}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    lines += [f"PARAMETER {line}" for line in parameters.splitlines()]
    return "\n".join(lines) + "\n"


def _model_info(meta: Json) -> Json:
    """The model's facts under the names that GGUF gives them."""
    architecture = meta.get("architecture")
    if not architecture:
        return {}
    named = {
        "general.architecture": architecture,
        "general.parameter_count": meta.get("parameter_count"),
        f"{architecture}.context_length": meta.get("context_length"),
        f"{architecture}.embedding_length": meta.get("embedding_length"),
    }
    return {name: value for name, value in named.items() if value is not None}
