"""`init`, `check`, `render`: how stack.toml comes to be, is it right, what comes of it; and the packages tests need."""

import os
from pathlib import Path

import click

from aistack.cli.progress import Reporter
from aistack.config.load import parse
from aistack.config.paths import find_paths
from aistack.config.reference import sample
from aistack.errors import UserError
from aistack.hardware import facts
from aistack.hardware.fit import suggest_chat_model
from aistack.operations.stack import open_stack
from aistack.operations.write_tree import tree, write_tree
from aistack.runtimes.programs import Installer
from aistack.system import files
from aistack.system.run import run


@click.command("init")
@click.option("--defaults", is_flag=True, help="Ask nothing.")
@click.option("--if-missing", is_flag=True, help="Leave a stack.toml that is there alone, without an error.")
@click.option("--force", is_flag=True, help="Replace a stack.toml that is there.")
def init_command(defaults: bool, if_missing: bool, force: bool) -> None:
    """Look at this machine and write a commented stack.toml for it."""
    paths = find_paths(os.environ, os.geteuid())
    if paths.stack_toml.exists() and not force:
        if if_missing:
            return
        raise UserError(f"there is a {paths.stack_toml} already", "edit it, or use --force to write a new one")
    host = facts.gather(run)
    chosen = suggest_chat_model(host, engine_uses_gpu=False)
    values: dict[str, object] = {"models.chat": chosen.model}
    if not defaults:
        values |= _ask(chosen.model, chosen.why)
    text = sample(values)
    parse(text, str(paths.stack_toml))
    files.write(paths.stack_toml, text, 0o644)
    click.echo(f"wrote {paths.stack_toml}: chat model {values['models.chat']} ({chosen.why})")
    if not if_missing:
        click.echo("next: `aistack up`")


def _ask(model: str, why: str) -> dict[str, object]:
    click.echo(f"Suggested chat model: {model} ({why})", err=True)
    names = click.prompt(
        "Names people reach this machine by, separated by spaces (empty: its own)", default="", err=True
    )
    answers: dict[str, object] = {
        "models.chat": click.prompt("Chat model", default=model, err=True),
        "proxy.https_port": click.prompt("Port for HTTPS", default=8443, type=click.IntRange(1, 65535), err=True),
        "site.administrator": click.prompt("The administrator's e-mail address", default="admin@localhost", err=True),
    }
    return answers | ({"site.host_names": names.split()} if names.split() else {})


@click.command("check")
def check_command() -> None:
    """Check stack.toml; every mistake is shown at once."""
    stack = open_stack()
    click.echo(f"{stack.paths.stack_toml} is right: {len(stack.plan.services)} services")


@click.command("render")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="Folder to write them to.")
def render_command(output: Path | None) -> None:
    """Show or write the files that `up` would write.

    They hold no secrets.
    """
    stack = open_stack()
    if output is None:
        for place, file in tree(stack):
            click.echo(f"### {place}\n{file.content}")
    else:
        for path in write_tree(stack, output):
            click.echo(str(path))


@click.command("install-packages", hidden=True)
@click.argument("packages", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True)
def install_command(packages: tuple[str, ...], yes: bool) -> None:
    """Install Debian packages without leaving their services behind."""
    paths = find_paths(os.environ, os.geteuid())
    installer = Installer(paths.programs, lambda question: yes or click.confirm(question, err=True))
    with Reporter() as reporter:
        installer.install_packages(packages, reporter.report)


COMMANDS = (init_command, check_command, render_command, install_command)
