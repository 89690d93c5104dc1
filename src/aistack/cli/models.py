"""`aistack models`: what the engine can run."""

from datetime import UTC, datetime
from pathlib import Path

import click

from aistack.cli.output import as_json, dry, print_json, print_table
from aistack.cli.reporter import Reporter
from aistack.errors import ModelError
from aistack.models.names import canonical, file_stem, parse
from aistack.models.pull import import_file
from aistack.operations.fetch_models import pull_model
from aistack.operations.stack import Stack, open_stack


@click.group("models")
def models_group() -> None:
    """List, fetch, import and remove models."""


@models_group.command("ls")
@as_json
def list_command(json_output: bool) -> None:
    """List the models that are here."""
    stack = open_stack()
    models = (stack.ollama or stack.models).list()
    for broken in () if stack.ollama else stack.models.damaged():
        click.echo(f"{click.style('warning:', fg='yellow')} {broken.path} cannot be served: {broken.reason}", err=True)
    if json_output:
        print_json(models)
        return
    rows = []
    for model in models:
        changed = datetime.fromtimestamp(model.modified_at, UTC).strftime("%Y-%m-%d")
        kind = "demo" if getattr(model, "demo", False) else str(getattr(model, "kind", "-"))
        rows.append((model.name, kind, f"{model.size / 1e6:,.0f} MB", changed, (model.digest or "-")[:19]))
    print_table(("NAME", "KIND", "SIZE", "CHANGED", "DIGEST"), rows)


@models_group.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@dry
def pull_command(names: tuple[str, ...], dry_run: bool) -> None:
    """Fetch models, going on where an earlier pull broke off.

    hf.co/ORG/REPO[:QUANT] comes from Hugging Face, every other name from an Ollama registry.
    """
    stack = open_stack()
    if dry_run:
        for name in names:
            parse(name)
            click.echo(f"{name}: would be {'looked up again' if _here(stack, name) else 'fetched'}")
        return
    for name in names:
        with Reporter() as reporter:
            notes = pull_model(stack, name, reporter.model)
        for note in notes:
            click.echo(f"note: {note}", err=True)
        click.echo(f"{name} is here")


@models_group.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name", required=False)
@click.option(
    "--projector",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The GGUF file of its eyes.",
)
@dry
def import_command(file: Path, name: str | None, projector: Path | None, dry_run: bool) -> None:
    """Copy a GGUF FILE into the store as NAME (or as it is called)."""
    stack = open_stack()
    name = name or file.stem
    if stack.ollama:
        address = stack.runtime.url("engine").removeprefix("http://")
        raise ModelError(
            "importing is for the built-in engine",
            f"write a Modelfile that says FROM {file.resolve()}, then: OLLAMA_HOST={address} ollama create NAME",
        )
    if dry_run:
        file_stem(name)
        click.echo(f"{name}: would be {'replaced' if _here(stack, name) else 'imported'}")
        return
    with Reporter() as reporter:
        model = import_file(stack.models, file, name, reporter.model, projector=projector)
    click.echo(f"{model.name} is here")


@models_group.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@dry
def remove_command(names: tuple[str, ...], dry_run: bool) -> None:
    """Remove models."""
    stack = open_stack()
    for name in names:
        if dry_run:
            if not _here(stack, name):
                raise ModelError(f"there is no model {name}", "see: aistack models ls")
            click.echo(f"{name}: would be removed")
        else:
            (stack.ollama or stack.models).remove(name)
            click.echo(f"removed {name}")


def _here(stack: Stack, name: str) -> bool:
    return canonical(name) in {canonical(model.name) for model in (stack.ollama or stack.models).list()}


COMMANDS = (models_group,)
