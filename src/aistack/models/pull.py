"""Gets a model into the store: from the hub that its name points to, or from a file."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from aistack.errors import ModelError
from aistack.models import huggingface, registry
from aistack.models.gguf_header import read_header
from aistack.models.names import HubName, canonical, file_stem, parse
from aistack.models.partials import MeasureDisk, Partials, digest_of
from aistack.models.progress import OnProgress, Progress, Step, ignore
from aistack.models.store import Model, ModelStore, refuse_parts
from aistack.models.transfer import Patience, Resolved, fetch
from aistack.models.web import open_client
from aistack.system import files

_READ_SIZE = 4 << 20


@dataclass(frozen=True)
class Pulled:
    """What a pull came to: the model, whether anything changed, and what the user should know about it."""

    model: Model
    changed: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a pull needs from outside; tests give others. Times in seconds."""

    hub: huggingface.Hub = field(default_factory=lambda: huggingface.Hub.from_environment(os.environ))
    measure_disk: MeasureDisk = shutil.disk_usage
    patience: Patience = field(default_factory=Patience)
    connect_s: float = 10.0
    silence_s: float = 60.0


@dataclass(frozen=True)
class _Teller:
    """Tells how far the whole model is, given how far one of its files is."""

    name: str
    total: int
    on_progress: OnProgress

    def tell(self, step: Step, done: int) -> None:
        self.on_progress(Progress(self.name, step, done, self.total))

    def waiting(self) -> None:
        self.tell("waiting", 0)


def pull(
    store: ModelStore,
    name: str,
    on_progress: OnProgress = ignore,
    surroundings: Surroundings | None = None,
) -> Pulled:
    """Bring the model called `name` into the store, or bring it up to date.

    Goes on where an earlier pull broke or was killed. Raises HubUnreachable when the hub could not be
    reached, ModelError when it has no such model, sent something else, or the disk is too small.
    """
    around = surroundings or Surroundings()
    wanted, shown = parse(name), canonical(name)
    on_progress(Progress(shown, "looking", 0, 0))
    with open_client(around.connect_s, around.silence_s) as client:
        if isinstance(wanted, HubName):
            resolved = huggingface.resolve(around.hub, wanted)
        else:
            resolved = registry.resolve(client, wanted)
        teller = _Teller(shown, sum(remote.size for remote in resolved.files), on_progress)
        return _bring(client, store, resolved, teller, around)


def _bring(
    client: httpx2.Client, store: ModelStore, resolved: Resolved, teller: _Teller, around: Surroundings
) -> Pulled:
    partials = Partials(store.root, around.measure_disk)
    with contextlib.ExitStack() as locks:
        for key in sorted({remote.key for remote in resolved.files}):
            locks.enter_context(partials.lock(key, teller.waiting))
        # Looked up only now: another process may just have brought it.
        if present := _present(store, teller.name, resolved):
            return Pulled(present, False, _notes(store, present))
        missing = sum(max(0, remote.size - partials.have(remote.key)) for remote in resolved.files)
        partials.need(missing, teller.name)
        places: list[Path] = []
        done = 0
        for remote in resolved.files:
            places.append(fetch(client, remote, partials, _from(teller, done), around.patience))
            done += remote.size
        teller.tell("installing", done)
        model = _install(store, teller.name, resolved, places)
        partials.drop_abandoned(time.time())
        return Pulled(model, True, _notes(store, model))


def _from(teller: _Teller, before: int, step: Step = "downloading") -> Callable[[int], None]:
    return lambda size: teller.tell(step, before + size)


def _present(store: ModelStore, name: str, resolved: Resolved) -> Model | None:
    """The model in the store if it is what the hub has: by digest, or by revision where it gives none."""
    for model in store.list():
        digest = resolved.model.digest
        same = model.digest == digest if digest else model.source == resolved.source
        if model.name == name and same and (model.projector is None) == (resolved.projector is None):
            return model
    return None


def _install(store: ModelStore, name: str, resolved: Resolved, places: list[Path]) -> Model:
    model, projector = places[0], places[1] if len(places) > 1 else None
    try:
        digest = resolved.model.digest or digest_of(model)
        return store.install(model, name, source=resolved.source, digest=digest, projector=projector)
    except ModelError:
        # It is exactly what the server has, and no model: keeping it would only fill the disk.
        for place in places:
            files.remove(place)
        raise


def _notes(store: ModelStore, model: Model) -> tuple[str, ...]:
    if model.kind == "chat" and store.header(model).chat_template is None:
        return (f"{model.name} has no chat template of its own: llama.cpp's default (ChatML) is used",)
    return ()


def import_file(
    store: ModelStore,
    file: Path,
    name: str,
    on_progress: OnProgress = ignore,
    *,
    projector: Path | None = None,
    measure_disk: MeasureDisk = shutil.disk_usage,
) -> Model:
    """Copy a GGUF file (and its projector) that lies anywhere on this machine into the store as `name`.

    A copy, not a link: whatever happens to the original later does not reach the model that is served.
    Raises ModelError when it is not a whole GGUF model, the name cannot be one, or the disk is too small.
    """
    refuse_parts(read_header(file), file)
    if projector:
        read_header(projector)
    sources = (file, projector) if projector else (file,)
    teller = _Teller(canonical(name), sum(source.stat().st_size for source in sources), on_progress)
    partials = Partials(store.root, measure_disk)
    key = f"import-{file_stem(name)}"
    with partials.lock(key, teller.waiting):
        partials.need(teller.total, teller.name)
        copies: list[tuple[Path, str]] = []
        done = 0
        for number, source in enumerate(sources):
            copies.append(_copy(source, partials, f"{key}-{number}", _from(teller, done, "copying")))
            done += source.stat().st_size
        teller.tell("installing", done)
        (model, digest), sight = copies[0], copies[1][0] if projector else None
        return store.install(model, teller.name, source="import", digest=digest, projector=sight)


def _copy(source: Path, partials: Partials, key: str, on_bytes: Callable[[int], None]) -> tuple[Path, str]:
    """Copy `source` to `.partial`; returns where it lies and its digest."""
    with partials.grow(key) as copy:
        copy.restart()
        with source.open("rb") as file:
            while chunk := file.read(_READ_SIZE):
                copy.append(chunk)
                on_bytes(copy.size)
        return copy.finish(partials.ready(key)), copy.digest
