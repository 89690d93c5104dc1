"""Pure: a model and the settings -> the parameters with which its llama.cpp server starts."""

import os
from dataclasses import dataclass
from pathlib import Path

from aistack.engine.settings import Settings
from aistack.models.gguf_header import GgufHeader
from aistack.models.store import Model

# A model made for 128k tokens would take gigabytes for a context that few requests need. 8192 holds
# a long chat or a dozen retrieved passages; whoever needs more says so in `context_length`.
_CONTEXT_UNLESS_SET = 8192
_MIB = 1 << 20


@dataclass(frozen=True)
class Launch:
    """How one llama.cpp server starts. Lengths are in tokens; `slot_context` is what one request may use.

    `waiting_places` is how many requests may be inside llama.cpp at once: enough that a slot never
    stands empty, few enough that its HTTP threads always have one left for /metrics.
    """

    name: str
    path: str
    projector: str
    embedding: bool
    pooling: str
    slots: int
    slot_context: int
    batch: int
    threads: int
    gpu_layers: int
    cache_mib: int
    waiting_places: int


def launch_of(model: Model, header: GgufHeader, settings: Settings, memory_bytes: int) -> Launch:
    """What `model` needs under `settings` on a machine with `memory_bytes` of memory."""
    own = header.context_length or _CONTEXT_UNLESS_SET
    slot_context = min(own, settings.context_length or _CONTEXT_UNLESS_SET)
    embedding = model.kind == "embedding"
    pooling = header.pooling if header.pooling not in (None, "none") else "mean"
    return Launch(
        name=model.name,
        path=str(model.path),
        projector=str(model.projector or ""),
        embedding=embedding,
        pooling=pooling if embedding and pooling else "none",
        slots=settings.num_parallel,
        slot_context=slot_context,
        # An embedding is made in one piece: a text longer than the batch would be refused.
        batch=max(slot_context, 512) if embedding else 2048,
        threads=settings.threads or os.cpu_count() or 1,
        gpu_layers=settings.gpu_layers,
        # llama.cpp would keep up to 8 GiB of old prompts a model, whatever the machine has.
        cache_mib=0 if embedding else min(2048, memory_bytes // 16 // _MIB),
        waiting_places=2 * settings.num_parallel + 4,
    )


@dataclass(frozen=True)
class FileIdentity:
    """Which file was loaded: another size or time at the same path is another model."""

    path: Path
    size: int
    modified_ns: int


def identity(path: Path) -> FileIdentity | None:
    """The identity of the file at `path` now; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity(path, status.st_size, status.st_mtime_ns)
