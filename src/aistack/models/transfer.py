"""Brings one file from a server to `.partial`: goes on where it broke, and checks what came."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from aistack.errors import ModelError
from aistack.models.errors import HubUnreachable
from aistack.models.partials import Partial, Partials
from aistack.models.web import judge, network_errors, opened

_CHUNK = 256 << 10  # bytes; at most this much is lost when a connection breaks


@dataclass(frozen=True)
class Remote:
    """A file on a server. `size` in bytes; `digest` is `sha256:<hex>` where the protocol gives it.

    `key` is a name for it that is safe as a file name and changes when the content does.
    """

    url: str
    size: int
    digest: str | None
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """What a name stands for right now: its GGUF file, and its projector where it has one."""

    source: str
    model: Remote
    projector: Remote | None

    @property
    def files(self) -> tuple[Remote, ...]:
        """All files of the model."""
        return (self.model, self.projector) if self.projector else (self.model,)


@dataclass(frozen=True)
class Patience:
    """How often a broken transfer is taken up again without getting any further, and how long between."""

    attempts: int = 6
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, failures: int, wish_s: float | None) -> None:
        """Wait after the `failures`-th failure in a row; a server's wish counts, within bounds."""
        delay = self.first_delay_s * 2 ** (failures - 1)
        self.sleep(min(self.longest_delay_s, max(delay, wish_s or 0.0)))


def fetch(
    client: httpx2.Client,
    remote: Remote,
    partials: Partials,
    on_bytes: Callable[[int], None],
    patience: Patience,
) -> Path:
    """Bring `remote` in whole and return where it lies; the caller holds the lock on its key.

    `on_bytes` gets the number of bytes that are here. Raises HubUnreachable when the server stays away or
    the line keeps breaking (what came is kept), ModelError when the server refuses or sends something else.
    """
    ready = partials.ready(remote.key)
    if ready.is_file() and ready.stat().st_size == remote.size:
        on_bytes(remote.size)
        return ready
    with partials.grow(remote.key) as partial:
        resumed = partial.size > 0
        _complete(client, remote, partial, on_bytes, patience)
        if not _matches(partial, remote) and resumed:
            # What an earlier run left may be what is wrong (a power cut, a full disk): once more, all of it.
            partial.restart()
            _complete(client, remote, partial, on_bytes, patience)
        if not _matches(partial, remote):
            found = partial.digest
            partial.restart()
            raise ModelError(
                f"what {_host(remote)} sent is not what it promised: {found} instead of {remote.digest}",
                "try again; if it stays so, the file on the server is damaged",
            )
        return partial.finish(ready)


def _matches(partial: Partial, remote: Remote) -> bool:
    return partial.size == remote.size and remote.digest in (None, partial.digest)


def _complete(
    client: httpx2.Client,
    remote: Remote,
    partial: Partial,
    on_bytes: Callable[[int], None],
    patience: Patience,
) -> None:
    failures = 0
    while partial.size != remote.size:
        before = partial.size
        try:
            _go_on(client, remote, partial, on_bytes)
        except HubUnreachable as error:
            failures = 1 if partial.size > before else failures + 1
            if failures >= patience.attempts:
                raise HubUnreachable(
                    f"the transfer from {_host(remote)} broke at {partial.size} of {remote.size} bytes: "
                    f"{error.message}",
                    "run the same command again: it goes on from there",
                ) from error
            patience.pause(failures, error.retry_after_s)
    on_bytes(partial.size)


def _go_on(client: httpx2.Client, remote: Remote, partial: Partial, on_bytes: Callable[[int], None]) -> None:
    """One connection's worth. Returns when the file is complete, else raises."""
    if partial.size > remote.size:
        partial.restart()
    wanted = {"Range": f"bytes={partial.size}-"} if partial.size else {}
    with opened(client, remote.url, {**remote.headers, **wanted}) as response:
        if response.status_code == 416:
            partial.restart()
            raise HubUnreachable(f"{_host(remote)} does not go on at that place")
        judge(response, "this file")
        if not _continues(response, partial.size):
            partial.restart()
        with network_errors(_host(remote)):
            for chunk in response.iter_raw(_CHUNK):
                if partial.size + len(chunk) > remote.size:
                    partial.restart()
                    raise ModelError(f"{_host(remote)} sends more than the {remote.size} bytes it promised")
                partial.append(chunk)
                on_bytes(partial.size)
    if partial.size < remote.size:
        raise HubUnreachable("the server ended it early")


def _continues(response: httpx2.Response, size: int) -> bool:
    """Whether the body begins at byte `size`: servers may ignore a Range and send everything."""
    if response.status_code == 200:
        return size == 0
    return response.headers.get("content-range", "").startswith(f"bytes {size}-")


def _host(remote: Remote) -> str:
    return httpx2.URL(remote.url).host
