"""`up`, `down`, `restart`, `diff`: the commands that change what runs, and the one that says what would."""

import shutil
import sys

import click

from aistack.cli.output import as_json, dry, print_json, print_table, show_tolerated
from aistack.cli.reporter import Reporter
from aistack.errors import UserError
from aistack.operations.down import down, restart
from aistack.operations.mistakes import missing_files
from aistack.operations.stack import Stack, open_stack
from aistack.operations.up import up
from aistack.runtimes.base import Change


@click.command("up")
@click.option("--yes", "-y", is_flag=True, help="Install packages without asking.")
@dry
def up_command(yes: bool, dry_run: bool) -> None:
    """Make the stack what stack.toml says, and bring it up."""
    reporter = Reporter()
    stack = open_stack(
        confirm=lambda question: yes or reporter.confirm(question),
        judges=(missing_files,),
    )
    if dry_run:
        _show_changes(stack)
        return
    with reporter:
        outcome = up(stack, reporter.report, reporter.model)
    for note in outcome.notes:
        click.echo(f"{click.style('note:', fg='yellow')} {note}", err=True)
    click.echo("Everything is up." if outcome.changed else "Everything is up; nothing had to change.")
    _show_summary(stack)


@click.command("down")
@dry
def down_command(dry_run: bool) -> None:
    """Stop every service; the data stays."""
    stack = open_stack(tolerate=show_tolerated)
    if dry_run:
        for name, seen in stack.runtime.observe().items():
            if seen.state != "missing":
                click.echo(f"{name}: would be stopped")
        return
    with Reporter() as reporter:
        down(stack, reporter.report)
    click.echo("Everything is down; the data stays where it is.")


@click.command("restart")
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...", shell_complete=lambda *_: service_names())
@dry
def restart_command(services: tuple[str, ...], dry_run: bool) -> None:
    """Stop and start services, and wait until they are healthy."""
    stack = open_stack()
    for name in services:
        stack.plan.service(name)
    if dry_run:
        for name in services:
            click.echo(f"{name}: would be restarted")
        return
    with Reporter() as reporter:
        restart(stack, services, reporter.report)


@click.command("diff")
@as_json
def diff_command(json_output: bool) -> None:
    """Say what `up` would change."""
    stack = open_stack()
    if json_output:
        programs = stack.runtime.missing(stack.programs)
        files = list(stack.runtime.differences(stack.rendered()))
        print_json({"programs": programs, "changes": _changes(stack), "files": files})
    else:
        _show_changes(stack)


def service_names() -> list[str]:
    """The names of all services, for completion; whatever is wrong, nothing else may be said there."""
    try:
        return [service.name for service in open_stack(tolerate=lambda _: None).plan.services]
    except UserError:
        return []


def _changes(stack: Stack) -> list[Change]:
    return [change for change in stack.changes() if change.step != "keep"]


def _show_changes(stack: Stack) -> None:
    found, missing = _changes(stack), stack.runtime.missing(stack.programs)
    for sentence in missing:
        click.echo(sentence)
    if found:
        print_table(("SERVICE", "STEP", "WHY"), [(change.service, change.step, change.why) for change in found])
    for line in stack.runtime.differences(stack.rendered()):
        click.echo(line)
    if not found and not missing:
        click.echo("nothing to do", err=True)


def _show_summary(stack: Stack) -> None:
    origin, paths = stack.plan.public.origin, stack.paths
    # As it can be typed here and now: after the first `make up` it is not on the PATH yet.
    command = "aistack" if shutil.which("aistack") else sys.argv[0]
    rows = [
        ("address", f"{origin}/"),
        ("administrator", stack.config.site.administrator),
        ("password in", str(paths.secrets / "administrator-password")),
    ]
    if not stack.config.proxy.certificate:
        rows.append(("trust", f"{command} ca > ca.pem   # the root certificate, in {paths.tls / 'root.pem'}"))
    rows.append(("first key", f"{command} keys create me"))
    local = stack.plan.public.local
    rows.append(("first call", f'curl --cacert ca.pem -H "Authorization: Bearer ask_..." {local}/v1/models'))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")


COMMANDS = (up_command, down_command, restart_command, diff_command)
