"""`aistack move`: to another runtime, with everything."""

import os
import pwd
from collections.abc import Callable

import click

from aistack.cli.output import dry
from aistack.cli.reporter import Reporter
from aistack.config.paths import Paths, find_paths
from aistack.errors import UserError
from aistack.operations.copies import plan_copies
from aistack.operations.move import confirm_move, move_back, move_stack, old_paths, unconfirmed
from aistack.operations.stack import Stack, open_stack, refuse
from aistack.runtimes.kinds import RUNTIMES


@click.command("move")
@click.option("--to", "runtime", type=click.Choice(sorted(RUNTIMES)), help="The runtime to move to.")
@click.option("--of", "user", metavar="USER", help="Take the stack of this user, which is down, to root's places.")
@click.option("--confirm", is_flag=True, help="Remove what the last move kept of the old stack.")
@click.option("--back", is_flag=True, help="Return to the stack as it was before the last move.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing.")
@dry
def move_command(runtime: str | None, user: str | None, confirm: bool, back: bool, yes: bool, dry_run: bool) -> None:
    """Move the stack to another runtime, with all its data.

    Accounts, chats, keys, documents and models come along. The old stack is stopped, its data are copied and
    compared, and the new one is started. What the old one had is kept until --confirm.
    """
    if [runtime is not None, confirm, back].count(True) != 1:
        raise click.UsageError("one of --to, --confirm and --back is needed")
    reporter = Reporter()

    def ask(question: str) -> bool:
        return yes or reporter.confirm(question)

    if runtime is not None:
        _move(runtime, user, ask, reporter, dry_run)
    elif confirm:
        _confirm(dry_run)
    else:
        _back(ask, reporter, dry_run)


def _move(runtime: str, user: str | None, ask: Callable[[str], bool], reporter: Reporter, dry_run: bool) -> None:
    old = open_stack(_paths_of(user) if user else None, ask)
    if old.config.runtime == runtime and not user:
        raise UserError(f"the stack is on {runtime} already", "`aistack status` shows it")
    new = open_stack(find_paths(os.environ, os.geteuid()), ask, runtime=runtime, like=old)
    if dry_run:
        for copy in plan_copies(old, new):
            click.echo(f"{copy.service}: {copy.source} would be copied to {copy.target}")
        return
    with reporter:
        notes = move_stack(old, new, reporter.report, reporter.model)
    for told in notes:
        click.echo(f"note: {told}", err=True)
    click.echo(f"The stack runs on {runtime} now, with all its data.")
    click.echo("When you have seen that all is well: `aistack move --confirm`. Else: `aistack move --back`.")


def _confirm(dry_run: bool) -> None:
    stack = open_stack()
    for folder in confirm_move(stack, _old(stack, refuse), dry_run=dry_run):
        click.echo(f"{folder} would be removed" if dry_run else f"removed {folder}")


def _back(ask: Callable[[str], bool], reporter: Reporter, dry_run: bool) -> None:
    stack = open_stack(confirm=ask)
    note = unconfirmed(stack)
    if dry_run:
        click.echo(f"would return to {note.was}")
        return
    if not ask(f"return to {note.was}? What was written since the move is lost"):
        raise click.Abort
    old = _old(stack, ask)
    with reporter:
        move_back(stack, old, reporter.report, reporter.model)
    click.echo("Everything is as it was before the move.")
    if old.paths != stack.paths:
        click.echo("Its user starts it again: `aistack up`.")


def _old(stack: Stack, ask: Callable[[str], bool]) -> Stack:
    """What the last move left, which its note describes and nobody has to keep for that."""
    note = unconfirmed(stack)
    return open_stack(old_paths(note), ask, runtime=note.was, like=stack)


def _paths_of(user: str) -> Paths:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UserError(f"there is no user {user}", "name the one whose stack is to be moved") from None
    return find_paths({"HOME": entry.pw_dir}, entry.pw_uid)


COMMANDS = (move_command,)
