"""What `aistack move` copies from the old stack to the new, and whether it can."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aistack.errors import UserError
from aistack.operations.stack import Stack
from aistack.system import files


@dataclass(frozen=True)
class Copy:
    """A folder of a service that is copied."""

    service: str
    source: Path
    target: Path


def plan_copies(old: Stack, new: Stack) -> list[Copy]:
    """What a move copies. Raises UserError where it cannot be."""
    new.runtime.admit()
    return list(_copies(old, new))


def _copies(old: Stack, new: Stack) -> Iterator[Copy]:
    for service in old.plan.services:
        for state in service.states:
            source, target = old.runtime.state(service.name, state.name), new.runtime.state(service.name, state.name)
            if not source.exists():
                continue
            # Two runtimes that share a folder: the old one's last state is kept aside, in case.
            shared = target == source
            yield Copy(service.name, source, aside(new) / service.name / state.name if shared else target)
    if old.runtime.models != new.runtime.models and old.runtime.models.exists():
        yield Copy("models", old.runtime.models, new.runtime.models)


def refuse_foreign(old: Stack, new: Stack, planned: list[Copy]) -> None:
    """Raise UserError unless another user's stack is down, there is none here yet, and it needs nothing else of his."""
    if new.paths.stack_toml.exists():
        raise UserError(f"there is a {new.paths.stack_toml} already", "move it away if it is not a stack in use")
    if taken := [copy.target for copy in planned if copy.target.exists() and any(copy.target.iterdir())]:
        raise UserError(f"{taken[0]} holds data already; nothing was changed", "move it away if nobody needs it")
    if any(seen.pid for seen in old.runtime.observe().values()):
        raise UserError(f"the stack in {old.paths.data} runs", "let its user stop it first: `aistack down`")
    for copy in planned:
        if not copy.source.resolve().is_relative_to(old.paths.data.resolve()):
            raise UserError(f"{copy.source} leads out of {old.paths.data}", "put the folder itself in its place")
    for key, folder in (("models", old.config.paths.models), ("programs", old.config.paths.programs)):
        if folder and Path(folder).exists() and Path(folder).stat().st_uid != 0:
            raise UserError(
                f"paths.{key} in {old.paths.stack_toml} is {folder}, which is not root's",
                f"take paths.{key} out of it, or let root own the folder",
            )


def need_room(planned: list[Copy]) -> None:
    """Raise UserError when the copies would not fit on a disk that they go to."""
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for copy in planned:
        there = next(folder for folder in copy.target.parents if folder.exists())
        device = there.stat().st_dev
        places[device] = there
        needed[device] = needed.get(device, 0) + files.tree_size(copy.source)
    for device, there in places.items():
        free = shutil.disk_usage(there).free
        if needed[device] > free:
            raise UserError(
                f"moving takes {needed[device] / 1e9:.1f} GB for copies, and {there} has {free / 1e9:.1f} GB free",
                "free some space; nothing was changed",
            )


def aside(stack: Stack) -> Path:
    """Where copies go of folders that both runtimes use."""
    return stack.paths.data / "before-move"
