"""Which chat model a machine can serve well, and what the stack needs with one: pure arithmetic on the facts."""

from dataclasses import dataclass

from aistack.hardware.host import Gpu, Host
from aistack.hardware.sizes import GIB, KIB, MIB, readable

# What the rest of the stack keeps resident: Open WebUI 0.8 GiB, the embedding model, Chroma,
# Prometheus, nginx, the gateway, and some page cache for the databases.
_REST_OF_THE_STACK = 2 * GIB + 512 * MIB
# llama.cpp's compute buffers, and the CUDA or ROCm context on a card.
_OVERHEAD = 512 * MIB
# A dense model reads all its weights for each token; with this few cores more would be a crawl.
_CORES_FOR_LARGER = 4


@dataclass(frozen=True)
class ChatModel:
    """A model in the table. `weights_bytes` is the size of its GGUF file; the other three describe its
    attention, as in the `config.json` beside the original weights."""

    name: str
    weights_bytes: int
    layers: int
    kv_heads: int
    head_width: int

    def memory_bytes(self, context_length: int, slots: int) -> int:
        """Weights + KV cache + compute buffers.

        KV cache = 2 (keys, values) x layers x kv_heads x head_width x 2 bytes (f16) a token, for
        `slots` x `context_length` tokens. Source: grouped-query attention, Ainslie et al. 2023
        (arXiv:2305.13245): query heads share key-value heads, so only the latter are kept.
        """
        per_token = 2 * self.layers * self.kv_heads * self.head_width * 2
        return self.weights_bytes + per_token * context_length * slots + _OVERHEAD


@dataclass(frozen=True)
class Suggestion:
    """A model's name and, for the person who decides, why this one."""

    model: str
    why: str


# One family, all under Apache-2.0, published as GGUF by its own makers, so that the built-in engine
# and Ollama take the same name. From small to large.
MODELS = (
    ChatModel("hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0", 639_446_688, 28, 8, 128),
    ChatModel("hf.co/Qwen/Qwen3-1.7B-GGUF:Q8_0", 1_834_426_016, 28, 8, 128),
    ChatModel("hf.co/Qwen/Qwen3-4B-GGUF:Q4_K_M", 2_497_280_256, 36, 8, 128),
    ChatModel("hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M", 5_027_783_488, 36, 8, 128),
    ChatModel("hf.co/Qwen/Qwen3-14B-GGUF:Q4_K_M", 9_001_752_960, 40, 8, 128),
    ChatModel("hf.co/Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M", 18_556_686_912, 48, 4, 128),
)
_LARGEST_ON_CPU = {False: MODELS[1], True: MODELS[2]}  # by whether there are _CORES_FOR_LARGER


def suggest_chat_model(host: Host, *, engine_uses_gpu: bool, context_length: int = 8192, slots: int = 4) -> Suggestion:
    """The best model of the table that `host` serves at a pace one can read along with.

    `engine_uses_gpu` says whether the engine can compute on the cards that `host` found usable.
    Of several cards the memory of one vendor's is added up, since engines split a model by layers.
    """
    card_memory = _card_memory(host) if engine_uses_gpu else 0
    smallest = MODELS[0].memory_bytes(context_length, slots)
    if card_memory >= smallest:
        return _largest(MODELS, card_memory, "of GPU memory", context_length, slots)
    memory = max(host.memory_available_bytes - _REST_OF_THE_STACK, 0)
    limit = _LARGEST_ON_CPU[host.cpu.cores >= _CORES_FOR_LARGER]
    candidates = MODELS[: MODELS.index(limit) + 1]
    where = f"of memory beside the rest of the stack, {host.cpu.cores} cores and no GPU to use"
    return _largest(candidates, memory, where, context_length, slots)


def stack_memory_bytes(
    host: Host, model: str, *, file_bytes: int, context_length: int, slots: int, engine_uses_gpu: bool
) -> int:
    """Bytes of the host's memory that the stack keeps with the chat model `model` loaded.

    Of one that is not in the table, the size of its file is all that is counted: `file_bytes`, 0 when unknown.
    """
    known = next((one for one in MODELS if one.name == model), None)
    own = known.memory_bytes(context_length, slots) if known else file_bytes + _OVERHEAD
    return _REST_OF_THE_STACK + (0 if engine_uses_gpu and _card_memory(host) >= own else own)


def _card_memory(host: Host) -> int:
    """The memory of the usable cards of the vendor that has most; a chip without its own uses the host's."""

    def memory(gpu: Gpu) -> int:
        return host.memory_available_bytes if gpu.memory_bytes is None else gpu.memory_bytes

    totals: dict[str, int] = {}
    for gpu in host.gpus:
        if gpu.usable:
            totals[gpu.vendor] = totals.get(gpu.vendor, 0) + memory(gpu)
    return max(totals.values(), default=0)


def _largest(candidates: tuple[ChatModel, ...], memory: int, where: str, context_length: int, slots: int) -> Suggestion:
    fitting = [model for model in candidates if model.memory_bytes(context_length, slots) <= memory]
    chosen = fitting[-1] if fitting else candidates[0]
    needs = readable(chosen.memory_bytes(context_length, slots))
    tokens = f"{slots} x {context_length // KIB}k tokens of context"
    if not fitting:
        why = f"the smallest there is; with {tokens} it wants {needs}, and there is {readable(memory)} {where}"
        return Suggestion(chosen.name, f"{why}: lower engine.num_parallel or engine.context_length")
    return Suggestion(chosen.name, f"needs {needs} with {tokens}; there is {readable(memory)} {where}")
