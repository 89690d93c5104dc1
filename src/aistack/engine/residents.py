"""Which models are loaded: a request leases one here, which loads it when needed and makes room first."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aistack.engine import worker
from aistack.engine.answers import ApiError
from aistack.engine.launch import FileIdentity, identity, launch_of
from aistack.engine.metrics import Meters
from aistack.engine.resident import Resident
from aistack.engine.settings import Settings
from aistack.models.store import Model, ModelStore

_MOST_WAITING = 512  # requests that wait for room or for a slot, all models together
_LONGEST_WAIT_S = 600.0
_FAILURE_KEPT_S = 15.0  # a model that cannot be loaded is not tried again by each of a storm of requests


class Residents:
    """The loaded models. `log` gets one line for each that comes, goes or dies."""

    def __init__(self, store: ModelStore, settings: Settings, meters: Meters, log: Callable[[str], None]) -> None:
        self._store = store
        self._settings = settings
        self._meters = meters
        self._log = log
        self._loaded: dict[str, Resident] = {}
        self._failures: dict[str, tuple[FileIdentity, float, str]] = {}
        self._turn = asyncio.Lock()  # whoever makes room does so alone, first come first served
        self._change = asyncio.Event()
        self._waiting = 0
        self._numbers = itertools.count(1)
        self._directory = os.open(settings.run_dir, os.O_PATH | os.O_DIRECTORY)
        meters.loaded.set_function(lambda: len(self._loaded))

    def __iter__(self) -> Iterator[Resident]:
        return iter(tuple(self._loaded.values()))

    def get(self, name: str) -> Resident | None:
        """The resident of the model with exactly this name, loading ones too."""
        return self._loaded.get(name)

    @asynccontextmanager
    async def lease(self, name: str, keep_alive_s: float | None = None) -> AsyncIterator[Resident]:
        """Hold the model `name` loaded, with a place in llama.cpp; loads it first when it is not.

        `keep_alive_s` sets this model's time to unloading, None leaves it. Raises ModelError when there
        is no such model, ApiError when it cannot be loaded or too many wait.
        """
        with self._counted_waiting():
            resident = await self._joined(name)
        try:
            if keep_alive_s is not None:
                resident.keep_alive_s = keep_alive_s
            with self._counted_waiting():
                await self._served(resident)
                await resident.places.acquire()
            try:
                yield resident
            finally:
                resident.places.release()
        finally:
            resident.give()

    async def unload(self, name: str) -> bool:
        """Unload `name` as soon as nobody uses it; returns whether it is unloaded already."""
        resident = self._loaded.get(name)
        if resident is None:
            return True
        resident.keep_alive_s = 0
        if resident.busy:
            return False
        resident.end()
        await resident.gone.wait()
        return True

    def drop_changed(self) -> None:
        """Let go of the models whose file was removed or replaced."""
        for resident in self:
            if identity(resident.identity.path) != resident.identity:
                resident.retire()

    async def close(self) -> None:
        """Unload everything."""
        for resident in self:
            resident.end()
        for resident in self:
            await resident.gone.wait()
        os.close(self._directory)

    @contextmanager
    def _counted_waiting(self) -> Iterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise ApiError(503, "too many requests wait for a model", "overloaded_error", retry_after_s=5)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _joined(self, name: str) -> Resident:
        resident = self._open(name)
        if resident is None:
            model = self._store.get(name)
            try:
                async with asyncio.timeout(_LONGEST_WAIT_S), self._turn:
                    resident = self._open(name) or await self._started(model)
            except TimeoutError:
                message = f"all models in memory were busy for {_LONGEST_WAIT_S:.0f} s"
                raise ApiError(503, message, "overloaded_error", retry_after_s=30) from None
        resident.take()
        return resident

    def _open(self, name: str) -> Resident | None:
        """The resident that a request for `name` may join."""
        resident = self._loaded.get(name)
        if resident is None or resident.leaving:
            return None
        if identity(resident.identity.path) != resident.identity:
            resident.retire()
            return None
        return resident

    async def _started(self, model: Model) -> Resident:
        file = identity(model.path)
        if file is None:
            raise ApiError(404, f"the model {model.name} was removed", "not_found_error")
        self._refuse_failed(model.name, file)
        await self._make_room(model.name)
        launch = launch_of(model, self._store.header(model), self._settings, _memory_bytes())
        resident = Resident(launch, file, self._settings.keep_alive_s, self._changed)
        self._loaded[model.name] = resident
        resident.load(self._load(resident))
        return resident

    def _refuse_failed(self, name: str, file: FileIdentity) -> None:
        known, until, reason = self._failures.get(name, (None, 0.0, ""))
        if known == file and time.monotonic() < until:
            raise _cannot_load(name, reason)
        self._failures.pop(name, None)

    async def _make_room(self, name: str) -> None:
        """Wait until `name` may be loaded; unloads the least recently used, idle ones first.

        A busy one that must go takes no new requests meanwhile: else a model under steady load would
        never let another one in. It stays after all when whoever wanted its room gives up.
        """
        while victim := self._victim(name):
            with victim.closed_to_others():
                self._change.clear()
                await self._change.wait()

    def _victim(self, name: str) -> Resident | None:
        if name in self._loaded:
            return self._loaded[name]
        if len(self._loaded) < self._settings.max_loaded_models:
            return None
        return min(self, key=lambda resident: (not resident.ending, resident.busy > 0, resident.last_used))

    def _changed(self, resident: Resident) -> None:
        name = resident.launch.name
        if resident.gone.is_set() and self._loaded.get(name) is resident:
            del self._loaded[name]
        self._change.set()

    async def _load(self, resident: Resident) -> worker.Worker:
        name, began = resident.launch.name, time.monotonic()
        self._meters.loads.labels(model=name).inc()
        try:
            process = await worker.start(resident.launch, self._settings.run_dir, self._directory, next(self._numbers))
        except worker.LoadFailure as failure:
            self._failures[name] = (resident.identity, time.monotonic() + _FAILURE_KEPT_S, str(failure))
            self._meters.load_failures.labels(model=name).inc()
            self._log(f"cannot load {name}: {failure}")
            raise
        took = time.monotonic() - began
        self._meters.load_seconds.labels(model=name).observe(took)
        self._log(f"loaded {name} in {took:.1f} s (process {process.pid})")
        process.exited.add_done_callback(lambda _: self._exited(resident, process))
        return process

    def _exited(self, resident: Resident, process: worker.Worker) -> None:
        name = resident.launch.name
        if resident.ending:
            self._meters.unloads.labels(model=name).inc()
            self._log(f"unloaded {name}")
        else:
            self._meters.deaths.labels(model=name).inc()
            self._log(f"died: {name}: {process.reason()}")
            resident.end()

    async def _served(self, resident: Resident) -> None:
        try:
            loaded = await resident.loaded()
        except worker.LoadFailure as failure:
            raise _cannot_load(resident.launch.name, str(failure)) from failure
        if not loaded:
            raise ApiError(
                503,
                f"the model {resident.launch.name} is being unloaded",
                "overloaded_error",
                retry_after_s=1,
            )


def _cannot_load(name: str, reason: str) -> ApiError:
    return ApiError(500, f"the model {name} cannot be loaded: {reason}", "server_error")


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
