"""What the engine tells about the models in its folder: the items of `/v1/models`."""

from typing import Literal

from aistack.engine.launch import launch_of
from aistack.engine.residents import Residents
from aistack.engine.settings import Settings
from aistack.models.gguf_header import GgufHeader
from aistack.models.store import Model, ModelStore

_SAMPLING = "general.sampling."
_THINKING_MARKS = ("<think>", "enable_thinking", "reasoning_content", "<|channel|>")


class Catalogue:
    """The models in the store, described; asked anew each time, so files may come and go."""

    def __init__(self, store: ModelStore, residents: Residents, settings: Settings) -> None:
        self._store = store
        self._residents = residents
        self._settings = settings

    def items(self) -> list[dict[str, object]]:
        """Every model as an item of OpenAI's list, with our `meta`."""
        return [self._item(model, self._store.header(model)) for model in self._store.list()]

    def item(self, name: str) -> dict[str, object]:
        """One model with its chat template and parameters too. Raises ModelError."""
        model = self._store.get(name)
        header = self._store.header(model)
        item = self._item(model, header)
        more = {"template": header.chat_template or "", "parameters": self._parameters(model, header)}
        return {**item, "meta": {**_mapping(item["meta"]), **more}}

    def purpose(self, name: str) -> Literal["chat", "embedding", "rerank"]:
        """What the model is for. Raises ModelError."""
        if resident := self._residents.get(name):
            launch = resident.launch
            return _purpose(launch.embedding, launch.pooling)
        model = self._store.get(name)
        return _purpose(model.kind == "embedding", self._store.header(model).pooling)

    def _item(self, model: Model, header: GgufHeader) -> dict[str, object]:
        resident = self._residents.get(model.name)
        launch = launch_of(model, header, self._settings, 0)
        meta: dict[str, object] = {
            "size": model.size,
            "digest": model.digest,
            "modified_at": model.modified_at,
            "architecture": header.architecture,
            "parameter_count": header.parameter_count,
            "quantization": header.quantization,
            "context_length": header.context_length,
            "embedding_length": header.embedding_length,
            "kind": model.kind,
            "capabilities": capabilities(model, header),
            "demo": model.demo,
            "loaded": resident is not None and resident.serving,
            "slots": launch.slots,
            "slot_context": launch.slot_context,
        }
        created = int(model.modified_at)
        return {"id": model.name, "object": "model", "created": created, "owned_by": "aistack", "meta": meta}

    def _parameters(self, model: Model, header: GgufHeader) -> dict[str, object]:
        """The context that we serve, and the sampling that the model's makers put into the file."""
        advised = {
            key.removeprefix(_SAMPLING): value for key, value in header.metadata.items() if key.startswith(_SAMPLING)
        }
        return {"num_ctx": launch_of(model, header, self._settings, 0).slot_context, **advised}


def _purpose(embedding: bool, pooling: str | None) -> Literal["chat", "embedding", "rerank"]:
    if not embedding:
        return "chat"
    return "rerank" if pooling == "rank" else "embedding"


def capabilities(model: Model, header: GgufHeader) -> list[str]:
    """What a model can do, in Ollama's words (and `rerank`, which Ollama does not know)."""
    if model.kind == "embedding":
        return ["rerank"] if header.pooling == "rank" else ["embedding"]
    template = header.chat_template or ""
    found = ["completion"]
    if "tools" in template:
        found.append("tools")
    if model.projector is not None:
        found.append("vision")
    if any(mark in template for mark in _THINKING_MARKS):
        found.append("thinking")
    return found


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value
