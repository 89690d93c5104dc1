"""One model as each surface lists it, whatever kind of node told of it. Pure.

The three `from_...` functions take one entry of a node's own list and give a `Model`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model that a node serves.

    `id` is what the node calls it; `openai` and `ollama` are its entries in `/v1/models` and
    `/api/tags`; `context_length` is in tokens, 0 when the node does not say; `chats` is whether it
    answers in words, as far as the node tells. `slots` is how many requests the node works on at once,
    `reads` how many tokens one of them may span, both 0 when the node does not say; `loaded` is whether
    it is in the node's memory now.
    """

    id: str
    openai: Json
    ollama: Json
    context_length: int = 0
    chats: bool = True
    slots: int = 0
    reads: int = 0
    loaded: bool = False


def canonical(name: str) -> str:
    """The name under which `x` and `x:latest` are the same model."""
    return name.removesuffix(":latest")


def tagged(name: str) -> str:
    """The name as Ollama spells it, always with a tag: `x` is `x:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def from_llamacpp(item: Json) -> Model:
    """From our own engine's `/v1/models`, whose `meta` says everything."""
    meta = item.get("meta") or {}
    entry = _tag(
        item["id"],
        modified_at=timestamp(meta.get("modified_at") or item.get("created")),
        size=meta.get("size") or 0,
        digest=meta.get("digest") or "",
        details=details(meta),
    )
    chats = "completion" in meta.get("capabilities", ["completion"])
    return Model(
        item["id"],
        item,
        entry,
        context_length=meta.get("context_length") or 0,
        chats=chats,
        slots=meta.get("slots") or 0,
        reads=meta.get("slot_context") or 0,
        loaded=bool(meta.get("loaded")),
    )


def from_openai(item: Json) -> Model:
    """From any OpenAI-compatible `/v1/models`, which says little."""
    entry = _tag(item["id"], timestamp(item.get("created")), 0, "", details({}))
    reads = item.get("max_model_len") or 0
    return Model(item["id"], item, entry, reads, reads=reads, loaded=True)


def from_ollama(tag: Json, running: Mapping[str, Json]) -> Model:
    """From Ollama's `/api/tags`, whose entry is kept as it is; `running` are those of `/api/ps` by name."""
    name = tag.get("model") or tag["name"]
    try:
        created = int(datetime.fromisoformat(tag["modified_at"]).timestamp())
    except (KeyError, TypeError, ValueError):
        created = 0
    entry = {"id": name, "object": "model", "created": created, "owned_by": "library"}
    # The list tells no capabilities; nearly all that only embed are known by their family.
    family = (tag.get("details") or {}).get("family") or ""
    chats = "bert" not in family and "embed" not in family
    reads = running.get(name, {}).get("context_length") or 0
    return Model(name, entry, tag, chats=chats, reads=reads, loaded=name in running)


def renamed(model: Model, alias: str) -> Model:
    """`model` as it is listed under the name `alias`."""
    ollama = {**model.ollama, "name": tagged(alias), "model": tagged(alias)}
    return replace(model, id=alias, openai={**model.openai, "id": alias}, ollama=ollama)


def details(meta: Mapping[str, Any]) -> Json:
    """Ollama's `details` of a model."""
    family = meta.get("architecture") or ""
    return {
        "parent_model": "",
        "format": "gguf" if family else "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": human_count(meta.get("parameter_count") or 0),
        "quantization_level": meta.get("quantization") or "",
    }


def human_count(count: int) -> str:
    """A number of parameters as Ollama writes it: 1.7B, 22.57M, 137M; empty for 0."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            value = count / size
            digits = {"B": 1, "M": 2, "K": 0}[unit]
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.{digits}f}{unit}"
    return str(count) if count else ""


def timestamp(moment: Any) -> str:
    """A moment (epoch seconds or already text) as the ISO 8601 text that Ollama gives."""
    if isinstance(moment, str) and moment:
        return moment
    seconds = moment if isinstance(moment, int | float) else 0
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _tag(name: str, modified_at: str, size: int, digest: str, details: Json) -> Json:
    return {
        "name": tagged(name),
        "model": tagged(name),
        "modified_at": modified_at,
        "size": size,
        "digest": digest.removeprefix("sha256:"),
        "details": details,
    }
