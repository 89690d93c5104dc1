"""`aistack move`: the same stack on another runtime, with all that people have put into it.

What the old one had is left as it was: copied when the new one keeps its data elsewhere, and copied aside when it
keeps them in the same place. `confirm_move` removes it, `move_back` returns to it.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tomlkit

from aistack.config.paths import Paths
from aistack.errors import UserError
from aistack.operations.copies import Copy, aside, need_room, plan_copies, refuse_foreign
from aistack.operations.fetch_models import ModelNews
from aistack.operations.lock import changing
from aistack.operations.stack import Stack
from aistack.operations.up import bring_up
from aistack.runtimes.base import MOVED, Progress, Report
from aistack.system import files

_OF_THE_SITE = ("secrets", "tls")


@dataclass(frozen=True)
class Note:
    """What a move that is not confirmed left behind, as kept on disk.

    `old` are the folders to remove when it is confirmed; `aside` maps folders that both runtimes use to the
    copies that were made of them; `made` is what was not there before, to remove when it is taken back.
    """

    config: str
    data: str
    was: str
    is_now: str
    old: list[str]
    aside: dict[str, str]
    made: list[str]


def move_stack(old: Stack, new: Stack, report: Report, news: ModelNews) -> tuple[str, ...]:
    """Bring `new` up with the data of `old`, which is stopped; returns notes. Raises UserError.

    When the copies differ from what was copied, or `new` does not come up, all is as before: `old` runs again.
    Another user's stack must be down already and is only read: root runs nothing of his.
    """
    planned = plan_copies(old, new)
    with _alone(old, new):
        _refuse_unconfirmed(new)
        foreign = old.paths != new.paths
        if foreign:
            refuse_foreign(old, new, planned)
        need_room(planned)
        new.runtime.install(new.programs, report)
        note = _plan_note(old, new, planned)
        if not foreign:
            old.runtime.down(report)
        try:
            # Before anything is copied: whoever is killed on the way can still go back.
            files.write(_place(new), json.dumps(asdict(note), indent=2) + "\n", 0o600)
            _take_along(old, new, planned, report)
            return bring_up(new, report, news).notes
        except BaseException:
            _undo(old, new, note, report)
            if not foreign:
                bring_up(old, report, news)
            raise


@contextlib.contextmanager
def _alone(old: Stack, new: Stack) -> Iterator[None]:
    """Nobody else changes either stack meanwhile. Raises UserError."""
    with contextlib.ExitStack() as held:
        if old.paths != new.paths:
            with files.as_owner(old.paths.data):
                held.enter_context(changing(old.paths.run))
        held.enter_context(changing(new.paths.run))
        yield


def _undo(old: Stack, new: Stack, note: Note, report: Report) -> None:
    """As it was before: every step is tried, whatever became of the others."""
    steps: list[Callable[[], object]] = [
        lambda: new.runtime.down(report),
        new.runtime.leave,
        lambda: _forget_new(old, new, note),
    ]
    for step in steps:
        with contextlib.suppress(UserError):
            step()


def _forget_new(old: Stack, new: Stack, note: Note) -> None:
    if old.paths == new.paths:
        _write_runtime(old.paths, note.was)
    for path in note.made:
        files.remove(Path(path))
    files.remove(_place(new))
    files.remove(aside(new))
    if old.paths != new.paths:
        files.remove(new.paths.stack_toml)


def confirm_move(stack: Stack, old: Stack, *, dry_run: bool) -> tuple[str, ...]:
    """Remove what the last move kept of the old stack, and what its runtime ran it by; returns the folders.

    Another user's stack is left to that user. Raises UserError.
    """
    with changing(stack.paths.run):
        note = unconfirmed(stack)
        if stack.config.runtime != note.is_now:
            raise UserError(
                f"the stack is on {stack.config.runtime}, and the move was to {note.is_now}: nothing was removed",
                "`aistack move --back` returns to the old stack in good order",
            )
        removed = (*note.old, *((str(aside(stack)),) if note.aside else ()))
        if not dry_run:
            for folder in removed:
                files.remove(Path(folder))
            if old.paths == stack.paths:
                old.runtime.leave()
            files.remove(_place(stack))
        return removed


def move_back(stack: Stack, old: Stack, report: Report, news: ModelNews) -> None:
    """Return to the stack as it was before the last move; what was written since is lost.

    May be ended at any moment and called again.
    """
    with changing(stack.paths.run):
        note = unconfirmed(stack)
        stack.runtime.down(report)
        stack.runtime.leave()
        for folder, copy in note.aside.items():
            if Path(copy).exists():  # else the move ended before it, and the folder is as it was
                files.copy_tree(Path(copy), Path(folder))
        _forget_new(old, stack, note)
        if old.paths == stack.paths:
            bring_up(old, report, news)


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
    shared = {str(copy.source): str(copy.target) for copy in planned if copy.target.is_relative_to(aside(new))}
    foreign = old.paths != new.paths
    mine = [] if foreign else [str(copy.source) for copy in planned if str(copy.source) not in shared]
    further = [new.paths.config / name for name in _OF_THE_SITE] if foreign else []
    made = [str(path) for path in (*(copy.target for copy in planned), *further) if not path.exists()]
    return Note(str(old.paths.config), str(old.paths.data), old.config.runtime, new.config.runtime, mine, shared, made)


def _take_along(old: Stack, new: Stack, planned: list[Copy], report: Report) -> None:
    for copy in planned:
        report(Progress(copy.service, "copying", f"{copy.source} to {copy.target}"))
        files.copy_tree(copy.source, copy.target)
        if wrong := files.tree_difference(copy.source, copy.target):
            raise UserError(f"the copy of {copy.source} is not the same: {wrong}", "look for errors of the disk: dmesg")
    if old.paths != new.paths:
        for name in (*_OF_THE_SITE, "stack.toml"):
            files.copy_tree(old.paths.config / name, new.paths.config / name)
    _write_runtime(new.paths, new.config.runtime)


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
