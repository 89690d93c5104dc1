"""What every runtime can do, and the decision that they share: what must change, and how gently."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from aistack.components.base import Port, Program, Service
from aistack.render import Placement, RenderedFile, RenderedService

MOVED = "moved.json"
"""The note, in the data folder, of a move that is neither confirmed nor taken back."""

State = Literal["running", "starting", "stopped", "failed", "missing"]
Step = Literal["start", "restart", "reload", "stop", "keep"]


@dataclass(frozen=True)
class Observed:
    """What a runtime sees of one service: `pid` 0 and `since` 0.0 when it does not run.

    The hashes are those that the running process was started with and last loaded. One that is `stopped` and
    has a `pid` runs, and nothing looks after it.
    """

    state: State
    pid: int = 0
    since: float = 0.0
    restart_hash: str = ""
    reload_hash: str = ""
    note: str = ""


@dataclass(frozen=True)
class Change:
    """What must happen to one service, and why; `keep` for nothing."""

    service: str
    step: Step
    why: str


def changes(wanted: Sequence[RenderedService], observed: Mapping[str, Observed]) -> tuple[Change, ...]:
    """Compare wishes with facts: first what must go, then each wanted service in its order. Pure."""
    names = {rendered.name for rendered in wanted}
    gone = [
        Change(name, "stop", "no longer part of the stack")
        for name, seen in observed.items()
        if name not in names and seen.state != "missing"
    ]
    return (*gone, *(_change(rendered, observed.get(rendered.name)) for rendered in wanted))


def _change(rendered: RenderedService, seen: Observed | None) -> Change:
    if seen is None or seen.state == "missing" or (seen.state == "stopped" and not seen.pid):
        return Change(rendered.name, "start", "not running")
    if seen.state == "failed":
        return Change(rendered.name, "restart", seen.note or "it failed")
    if seen.restart_hash != rendered.restart_hash:
        return Change(rendered.name, "restart", "its settings changed")
    if seen.reload_hash != rendered.reload_hash:
        return Change(rendered.name, "reload", "its configuration changed")
    if seen.state == "stopped":
        return Change(rendered.name, "start", seen.note)
    return Change(rendered.name, "keep", "nothing to do")


@dataclass(frozen=True)
class Progress:
    """One piece of news while a runtime works: `state` of `service`, with `detail` for people."""

    service: str
    state: Literal[
        "installing", "copying", "waiting", "starting", "stopping", "reloading", "healthy", "stopped", "failed"
    ]
    detail: str = ""


Report = Callable[[Progress], None]


class Runtime(Protocol):
    """Keeps the services of a plan running; knows nothing of which program is which."""

    @property
    def placement(self) -> Placement:
        """Where things are for the services themselves."""
        ...

    @property
    def models(self) -> Path:
        """The model store, as this machine sees it."""
        ...

    def state(self, service: str, name: str) -> Path:
        """The folder of a StateDir, as this machine sees it."""
        ...

    def url(self, service: str, port: str = "http") -> str:
        """Where this machine reaches a running service."""
        ...

    def digest(self, path: str) -> str:
        """A file, named as the services see it, in sixteen characters that tell nothing about it; "" when not there."""
        ...

    def ports(self, service: Service) -> tuple[Port, ...]:
        """The ports of this machine that `service` takes."""
        ...

    def pids(self) -> frozenset[int]:
        """Every process of this stack, for telling its ports and memory from other people's."""
        ...

    def admit(self) -> None:
        """Raise UserError when this machine cannot carry the runtime, or something in its way is somebody else's."""
        ...

    def tree(self, wanted: Sequence[RenderedService]) -> tuple[RenderedFile, ...]:
        """Every file that `apply` writes, by its absolute path; holds no secrets."""
        ...

    def missing(self, programs: Sequence[tuple[str, Program]]) -> tuple[str, ...]:
        """What `install` would bring, in sentences."""
        ...

    def install(self, programs: Sequence[tuple[str, Program]], report: Report) -> None:
        """Make every (service, program) available. Raises ProgramError."""
        ...

    def observe(self) -> Mapping[str, Observed]:
        """The services as they are; asks, changes nothing."""
        ...

    def health(self, rendered: RenderedService) -> str | None:
        """Why a service is not well; None when it is."""
        ...

    def check(self, wanted: Sequence[RenderedService]) -> None:
        """Let each program judge its new configuration before the old one is touched. Raises ProgramError."""
        ...

    def differences(self, wanted: Sequence[RenderedService]) -> Iterator[str]:
        """The files that `apply` would change, as unified diffs; holds no secrets."""
        ...

    def apply(self, wanted: Sequence[RenderedService], steps: Sequence[Change], report: Report) -> None:
        """Carry out `steps`, each service after what it needs is healthy. Raises ServiceError.

        A changed service that does not get healthy is given its old settings again. May be ended at any
        moment and called again.
        """
        ...

    def restart(self, services: Sequence[RenderedService], report: Report) -> None:
        """Start `services` anew with the settings that they have, and wait for them. Raises ServiceError."""
        ...

    def down(self, report: Report) -> None:
        """Stop everything; data stays."""
        ...

    def leave(self) -> None:
        """Remove what `apply` wrote for this runtime alone, when all is down; data, logs and programs stay."""
        ...

    def logs(self, service: str, lines: int, follow: bool) -> Iterator[str]:
        """The last `lines` of a service's log, and with `follow` what comes after, until interrupted."""
        ...
