"""One loaded model, from the start of its loading until its process is gone."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aistack.engine.keep_alive import FOR_EVER
from aistack.engine.launch import FileIdentity, Launch
from aistack.engine.worker import Worker

_DYING_S = 2.0  # a process with gigabytes of memory takes a while to be taken apart


@dataclass(eq=False)
class Resident:
    """A model that is loading, serving or leaving.

    `busy` counts the requests that hold it, waiting ones too; `leaving` means that no further request
    may join; `places` lets in as many at once as llama.cpp has room for; `gone` is set when its memory
    is free again. `changed` is called when it became idle and when it is gone.
    """

    launch: Launch
    identity: FileIdentity
    keep_alive_s: float
    changed: Callable[["Resident"], None]
    busy: int = 0
    leaving: bool = False
    last_used: float = field(default_factory=time.monotonic)
    expires_at: float | None = None  # seconds of the epoch, None while busy or for ever
    worker: Worker | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.places = asyncio.Semaphore(self.launch.waiting_places)
        self._loading: asyncio.Task[Worker] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def serving(self) -> bool:
        """Whether requests can be sent to it now."""
        return self.worker is not None and not self.ending

    @property
    def ending(self) -> bool:
        """Whether its process is being ended on purpose, or is gone."""
        return self._ending is not None or self.gone.is_set()

    def take(self) -> None:
        """Hold it: it stays loaded until as many `give`s."""
        self.busy += 1
        self.last_used = time.monotonic()
        self._stop_alarm()

    def give(self) -> None:
        """Let go; the last one starts the time to its unloading."""
        self.busy -= 1
        self.last_used = time.monotonic()
        if self.busy or self.ending:
            return
        if self.leaving or self.keep_alive_s == 0:
            self.end()
        elif self.keep_alive_s != FOR_EVER:
            self.expires_at = time.time() + self.keep_alive_s
            self._alarm = asyncio.get_running_loop().call_later(self.keep_alive_s, self.end)
        self.changed(self)

    @contextmanager
    def closed_to_others(self) -> Iterator[None]:
        """No request may join meanwhile; if it is idle, or becomes so, it is unloaded."""
        before, self.leaving = self.leaving, True
        if not self.busy:
            self.end()
        try:
            yield
        finally:
            self.leaving = before or self.ending

    def retire(self) -> None:
        """Let nobody join any more and unload when those who hold it are done."""
        self.leaving = True
        if not self.busy:
            self.end()

    def end(self) -> None:
        """Begin to unload at once, whoever still holds it. `gone` tells when it is done."""
        self.leaving = True
        self._stop_alarm()
        if not self.ending:
            self._ending = asyncio.create_task(self._end())

    def load(self, starting: Coroutine[object, object, Worker]) -> None:
        """Run `starting` once for everybody who waits for this model."""
        self._loading = asyncio.create_task(starting)
        self._loading.add_done_callback(self._loaded)

    async def loaded(self) -> bool:
        """Wait until it is loaded; False when it is unloaded instead. Raises LoadFailure.

        A waiter who gives up does not end the loading for the others.
        """
        assert self._loading is not None
        await asyncio.wait([self._loading])
        if self._loading.cancelled():
            return False
        self._loading.result()
        return True

    async def settled(self) -> None:
        """After llama.cpp hung up in mid-response: wait a moment until the death of its process is noticed.

        Else the next request could still be sent to the dying one.
        """
        if self.worker:
            await asyncio.wait([self.worker.exited], timeout=_DYING_S)

    async def _end(self) -> None:
        if self._loading:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self.worker:
            await self.worker.end()
        self._leave()

    def _loaded(self, loading: asyncio.Task[Worker]) -> None:
        if not loading.cancelled() and loading.exception() is None:
            self.worker = loading.result()
        elif not self.ending:
            self._leave()

    def _leave(self) -> None:
        self.leaving = True
        self._stop_alarm()
        self.gone.set()
        self.changed(self)

    def _stop_alarm(self) -> None:
        self.expires_at = None
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
