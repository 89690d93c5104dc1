"""`aistack move`: the same stack on another runtime, with all that people have put into it.

What the old one had is left as it was: copied when the new one keeps its data elsewhere, and copied aside when it
keeps them in the same place. `confirm_move` removes it, `move_back` returns to it.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tomlkit

from aistack.config.paths import Paths
from aistack.errors import UserError
from aistack.operations.down import down
from aistack.operations.fetch_models import ModelNews
from aistack.operations.stack import Stack
from aistack.operations.up import bring_up, up
from aistack.runtimes.base import MOVED, Progress, Report
from aistack.system import files


@dataclass(frozen=True)
class Note:
    """What a move that is not confirmed left behind, as kept on disk.

    `old` are the folders to remove when it is confirmed; `aside` maps folders that both runtimes use to the
    copies that were made of them.
    """

    config: str
    data: str
    was: str
    is_now: str
    old: list[str]
    aside: dict[str, str]


@dataclass(frozen=True)
class Copy:
    """A folder of a service that is copied."""

    service: str
    source: Path
    target: Path


def move_stack(old: Stack, new: Stack, report: Report, news: ModelNews) -> tuple[str, ...]:
    """Bring `new` up with the data of `old`, which is stopped; returns notes. Raises UserError.

    When the copies differ from what was copied, or `new` does not come up, all is as before: `old` runs again.
    Another user's stack must be down already and is only read: root runs nothing of his.
    """
    _refuse_unconfirmed(new)
    new.runtime.admit()
    foreign = old.paths != new.paths
    if foreign:
        _refuse_foreign(old, new)
    planned = list(copies(old, new))
    _need_room(planned)
    new.runtime.install(new.programs, report)
    made = [copy for copy in planned if not copy.target.exists()]
    if not foreign:
        down(old, report)
    try:
        # Before anything is copied: whoever is killed on the way can still go back.
        files.write(_place(new), json.dumps(asdict(_plan_note(old, new, planned)), indent=2) + "\n", 0o600)
        _take_along(old, new, planned, report)
        return bring_up(new, report, news).notes
    except BaseException:
        _undo(old, new, made, report)
        if not foreign:
            up(old, report, news)
        raise


def _undo(old: Stack, new: Stack, made: list[Copy], report: Report) -> None:
    """As it was before: every step is tried, whatever became of the others."""
    steps: list[Callable[[], object]] = [
        lambda: down(new, report),
        lambda: (
            files.remove(new.paths.stack_toml)
            if old.paths != new.paths
            else _write_runtime(old.paths, old.config.runtime)
        ),
        *(lambda copy=copy: files.remove(copy.target) for copy in made),
        lambda: files.remove(_place(new)),
    ]
    for step in steps:
        with contextlib.suppress(UserError):
            step()


def confirm_move(stack: Stack, *, dry_run: bool) -> tuple[str, ...]:
    """Remove what the last move kept of the old stack; returns the folders. Raises UserError."""
    note = unconfirmed(stack)
    if stack.config.runtime != note.is_now:
        raise UserError(
            f"the stack is on {stack.config.runtime}, and the move was to {note.is_now}: nothing was removed",
            "`aistack move --back` returns to the old stack in good order",
        )
    removed = (*note.old, *((str(_aside(stack)),) if note.aside else ()))
    if not dry_run:
        for folder in removed:
            files.remove(Path(folder))
        files.remove(_place(stack))
    return removed


def move_back(stack: Stack, old: Stack, report: Report, news: ModelNews) -> None:
    """Return to the stack as it was before the last move; what was written since is lost.

    May be ended at any moment and called again.
    """
    note = unconfirmed(stack)
    down(stack, report)
    for folder, copy in note.aside.items():
        if Path(copy).exists():  # else the move ended before it, and the folder is as it was
            files.copy_tree(Path(copy), Path(folder))
    if old.paths == stack.paths:
        _write_runtime(old.paths, note.was)
    else:
        files.remove(stack.paths.stack_toml)
    files.remove(_place(stack))
    files.remove(_aside(stack))
    if old.paths == stack.paths:
        up(old, report, news)


def old_paths(note: Note) -> Paths:
    """Where the old stack lies."""
    return Paths(Path(note.config), Path(note.data))


def unconfirmed(stack: Stack) -> Note:
    """The note of the last move. Raises UserError when that was confirmed or taken back."""
    if note := _note(stack):
        return note
    raise UserError("there is no move to confirm or to take back", "`aistack move --to RUNTIME` makes one")


def _note(stack: Stack) -> Note | None:
    try:
        return Note(**json.loads(_place(stack).read_text()))
    except FileNotFoundError:
        return None


def _plan_note(old: Stack, new: Stack, planned: list[Copy]) -> Note:
    shared = {str(copy.source): str(copy.target) for copy in planned if copy.target.is_relative_to(_aside(new))}
    mine = [str(copy.source) for copy in planned if str(copy.source) not in shared] if old.paths == new.paths else []
    return Note(str(old.paths.config), str(old.paths.data), old.config.runtime, new.config.runtime, mine, shared)


def _take_along(old: Stack, new: Stack, planned: list[Copy], report: Report) -> None:
    for copy in planned:
        report(Progress(copy.service, "copying", f"{copy.source} to {copy.target}"))
        files.copy_tree(copy.source, copy.target)
        if wrong := files.tree_difference(copy.source, copy.target):
            raise UserError(f"the copy of {copy.source} is not the same: {wrong}", "look for errors of the disk: dmesg")
    if old.paths != new.paths:
        for name in ("secrets", "tls", "stack.toml"):
            files.copy_tree(old.paths.config / name, new.paths.config / name)
    _write_runtime(new.paths, new.config.runtime)


def _refuse_foreign(old: Stack, new: Stack) -> None:
    """Raise UserError unless another user's stack is down and there is none here yet."""
    if new.paths.stack_toml.exists():
        raise UserError(f"there is a {new.paths.stack_toml} already", "move it away if it is not a stack in use")
    if any(seen.pid for seen in old.runtime.observe().values()):
        raise UserError(f"the stack in {old.paths.data} runs", "let its user stop it first: `aistack down`")


def copies(old: Stack, new: Stack) -> Iterator[Copy]:
    """What a move copies."""
    for service in old.plan.services:
        for state in service.states:
            source, target = old.runtime.state(service.name, state.name), new.runtime.state(service.name, state.name)
            if not source.exists():
                continue
            # Two runtimes that share a folder: the old one's last state is kept aside, in case.
            shared = target == source
            yield Copy(service.name, source, _aside(new) / service.name / state.name if shared else target)
    if old.runtime.models != new.runtime.models and old.runtime.models.exists():
        yield Copy("models", old.runtime.models, new.runtime.models)


def _need_room(planned: list[Copy]) -> None:
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


def _write_runtime(paths: Paths, runtime: str) -> None:
    """Change the one key of stack.toml, leaving what people wrote around it."""
    document = tomlkit.parse(paths.stack_toml.read_text())
    if "runtime" in document:
        document["runtime"] = runtime
        text = tomlkit.dumps(document)
    else:
        text = f'runtime = "{runtime}"\n\n{tomlkit.dumps(document)}'
    files.write(paths.stack_toml, text, paths.stack_toml.stat().st_mode & 0o777)


def _refuse_unconfirmed(stack: Stack) -> None:
    if note := _note(stack):
        raise UserError(
            f"the move from {note.was} to {note.is_now} is not confirmed yet",
            "`aistack move --confirm` removes what it kept of the old stack, `aistack move --back` returns to it",
        )


def _place(stack: Stack) -> Path:
    return stack.paths.data / MOVED


def _aside(stack: Stack) -> Path:
    return stack.paths.data / "before-move"
