"""`init`, `check`, `render`: how stack.toml comes to be, is it right, what comes of it; and the packages tests need."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from aistack.cli.output import as_json, dry, print_json
from aistack.cli.reporter import Reporter
from aistack.config.load import parse
from aistack.config.paths import find_paths
from aistack.config.reference import sample
from aistack.errors import ConfigError, UserError
from aistack.hardware import facts
from aistack.hardware.fit import suggest_chat_model
from aistack.operations.mistakes import missing_files, refuse_missing_keys, wrong_names
from aistack.operations.stack import open_stack
from aistack.operations.write_tree import tree, write_tree
from aistack.runtimes.programs import Installer
from aistack.system import files
from aistack.system.run import run


@click.command("init")
@click.option("--defaults", is_flag=True, help="Ask nothing.")
@click.option("--if-missing", is_flag=True, help="Leave a stack.toml that is there alone, without an error.")
@click.option("--force", is_flag=True, help="Replace a stack.toml that is there; stack.toml.bak keeps it.")
@dry
def init_command(defaults: bool, if_missing: bool, force: bool, dry_run: bool) -> None:
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
    model = values["models.chat"]
    about = f"chat model {model}" + (f" ({chosen.why})" if model == chosen.model else "")
    if dry_run:
        click.echo(f"{paths.stack_toml} would be written: {about}")
        return
    if paths.stack_toml.exists():
        kept = paths.stack_toml.with_name("stack.toml.bak")
        files.write(kept, paths.stack_toml.read_bytes(), 0o644)
        click.echo(f"kept the old one as {kept}")
    files.write(paths.stack_toml, sample(values), 0o644)
    click.echo(f"wrote {paths.stack_toml}: {about}")
    if not if_missing:
        click.echo("next: `aistack up`")


def _ask(model: str, why: str) -> dict[str, object]:
    click.echo(f"Suggested chat model: {model} ({why})", err=True)
    answers: dict[str, object] = {}
    for key, question, default, read in (
        ("site.host_names", "Names people reach this machine by, separated by spaces (empty: its own)", "", str.split),
        ("models.chat", "Chat model", model, str),
        ("proxy.https_port", "Port for HTTPS", "8443", _number),
        ("site.administrator", "The administrator's e-mail address", "admin@localhost", str),
    ):
        answers[key] = click.prompt(question, default=default, value_proc=_valid(key, read), err=True)
    return {key: value for key, value in answers.items() if value}


def _valid(key: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Reads an answer; one that stack.toml could not hold is told at once, and asked for again."""

    def valid(answer: str) -> object:
        value = read(answer)
        try:
            parse(sample({key: value}), judges=(wrong_names,))
        except ConfigError as error:
            raise click.BadParameter("; ".join(error.problems)) from error
        return value

    return valid


def _number(answer: str) -> object:
    return int(answer) if answer.isdecimal() else answer


@click.command("check")
@as_json
def check_command(json_output: bool) -> None:
    """Check stack.toml; every mistake is shown at once."""
    try:
        stack = open_stack(judges=(missing_files,))
        refuse_missing_keys(stack.config, stack.paths.secrets)
    except ConfigError as error:
        if not json_output:
            raise
        print_json({"message": error.message, "problems": error.problems})
        raise click.exceptions.Exit(1) from error
    message = f"{stack.paths.stack_toml} is right: {len(stack.plan.services)} services"
    if json_output:
        print_json({"message": message, "problems": []})
    else:
        click.echo(message)


@click.command("render")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="Folder to write them to.")
@as_json
def render_command(output: Path | None, json_output: bool) -> None:
    """Show or write the files that `up` would write.

    They hold no secrets.
    """
    stack = open_stack()
    if output is not None:
        written = [str(path) for path in write_tree(stack, output)]
        print_json(written) if json_output else click.echo("\n".join(written))
    elif json_output:
        print_json({str(place): file.content for place, file in tree(stack)})
    else:
        for place, file in tree(stack):
            click.echo(f"### {place}\n{file.content}")


@click.command("install-packages", hidden=True)
@click.argument("packages", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True)
def install_command(packages: tuple[str, ...], yes: bool) -> None:
    """Install Debian packages without leaving their services behind."""
    paths = find_paths(os.environ, os.geteuid())
    reporter = Reporter()
    installer = Installer(paths.programs, lambda question: yes or reporter.confirm(question))
    with reporter:
        installer.install_packages(packages, reporter.report)


COMMANDS = (init_command, check_command, render_command, install_command)
