"""`aistack move`: the same stack on another runtime, with all that people have put into it.

What the old one had is left as it was: copied when the new one keeps its data elsewhere, and copied aside when it
keeps them in the same place. `confirm_move` removes it, `move_back` returns to it.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tomlkit

from aistack.config.paths import Paths
from aistack.errors import UserError
from aistack.operations.down import down
from aistack.operations.fetch_models import ModelNews
from aistack.operations.stack import Stack
from aistack.operations.up import bring_up, up
from aistack.runtimes.base import Progress, Report
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

    When the copies differ from what was copied, or `new` does not come up, `old` is brought up again.
    """
    _refuse_unconfirmed(new)
    new.runtime.admit()
    _need_room(old, new)
    new.runtime.install(new.programs, report)
    down(old, report)
    try:
        note = _take_along(old, new, report)
        outcome = bring_up(new, report, news)
    except BaseException:
        _write_runtime(old.paths, old.config.runtime)
        down(new, report)
        files.remove(_place(new))
        up(old, report, news)
        raise
    files.write(_place(new), json.dumps(asdict(note), indent=2) + "\n", 0o600)
    return outcome.notes


def confirm_move(stack: Stack, *, dry_run: bool) -> tuple[str, ...]:
    """Remove what the last move kept of the old stack; returns the folders. Raises UserError."""
    note = unconfirmed(stack)
    removed = (*note.old, *((str(_aside(stack)),) if note.aside else ()))
    if not dry_run:
        for folder in removed:
            files.remove(Path(folder))
        files.remove(_place(stack))
    return removed


def move_back(stack: Stack, old: Stack, report: Report, news: ModelNews) -> None:
    """Return to the stack as it was before the last move; what was written since is lost."""
    note = unconfirmed(stack)
    down(stack, report)
    for folder, copy in note.aside.items():
        files.remove(Path(folder))
        files.copy_tree(Path(copy), Path(folder))
    files.remove(_aside(stack))
    _write_runtime(old_paths(note), note.was)
    files.remove(_place(stack))
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


def _take_along(old: Stack, new: Stack, report: Report) -> Note:
    aside, gone = {}, []
    for copy in copies(old, new):
        report(Progress(copy.service, "copying", f"{copy.source} to {copy.target}"))
        files.copy_tree(copy.source, copy.target)
        if wrong := files.tree_difference(copy.source, copy.target):
            raise UserError(f"the copy of {copy.source} is not the same: {wrong}", "look for errors of the disk: dmesg")
        if copy.target.is_relative_to(_aside(new)):
            aside[str(copy.source)] = str(copy.target)
        else:
            gone.append(str(copy.source))
    if old.paths != new.paths:
        for name in ("secrets", "tls", "stack.toml"):
            files.copy_tree(old.paths.config / name, new.paths.config / name)
    _write_runtime(new.paths, new.config.runtime)
    return Note(str(old.paths.config), str(old.paths.data), old.config.runtime, new.config.runtime, gone, aside)


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


def _need_room(old: Stack, new: Stack) -> None:
    """Raise UserError when the copies would not fit."""
    needed = sum(files.tree_size(copy.source) for copy in copies(old, new))
    there = next(folder for folder in (new.paths.data, *new.paths.data.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"moving takes {needed / 1e9:.1f} GB for copies, and {there} has {free / 1e9:.1f} GB free",
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
    files.write(paths.stack_toml, text, 0o644)


def _refuse_unconfirmed(stack: Stack) -> None:
    if note := _note(stack):
        raise UserError(
            f"the move from {note.was} to {note.is_now} is not confirmed yet",
            "`aistack move --confirm` removes what it kept of the old stack, `aistack move --back` returns to it",
        )


def _place(stack: Stack) -> Path:
    return stack.paths.data / "moved.json"


def _aside(stack: Stack) -> Path:
    return stack.paths.data / "before-move"
