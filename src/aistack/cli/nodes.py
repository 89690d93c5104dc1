"""`aistack nodes`: the engine nodes, and sparing one for maintenance."""

from typing import Any

import click

from aistack.cli.output import as_json, dry, print_json, print_table, show_error, show_tolerated
from aistack.errors import ServiceError, UserError
from aistack.operations.nodes import drain, drained_nodes, node_names, nodes, require_node, resume, wait_until_idle
from aistack.operations.stack import Stack, open_stack


@click.group("nodes")
def nodes_group() -> None:
    """Show the engine nodes; drain one, and resume it."""


def _names(*_: Any) -> list[str]:
    """For completion, where nothing else may be said."""
    try:
        return list(node_names(open_stack(tolerate=lambda _: None)))
    except UserError:
        return []


@nodes_group.command("ls")
@as_json
def list_command(json_output: bool) -> None:
    """List the nodes as the gateway sees them."""
    found = nodes(open_stack(tolerate=show_tolerated))
    if json_output:
        print_json(found)
        return
    rows = [
        (
            node.name,
            node.kind or "-",
            node.url or "-",
            node.state,
            str(node.slots),
            str(node.in_flight),
            ", ".join(node.models) or "-",
            node.problem,
        )
        for node in found
    ]
    print_table(("NAME", "KIND", "URL", "STATE", "SLOTS", "IN-FLIGHT", "MODELS", ""), rows)


@nodes_group.command("drain")
@click.argument("name", shell_complete=_names)
@click.option("--wait", is_flag=True, help="Return when it has finished what it was sent.")
@click.option("--timeout", type=click.FloatRange(0), help="Wait, so many seconds at most.")
@dry
def drain_command(name: str, wait: bool, timeout: float | None, dry_run: bool) -> None:
    """Have node NAME sent nothing new, until it is resumed."""
    stack = open_stack()
    require_node(stack, name)
    if dry_run:
        click.echo(f"{name}: would be drained")
        _warn_of_models(stack, name)
        return
    click.echo(f"{name}: drained" if drain(stack, name) else f"{name}: was drained already")
    _warn_of_models(stack, name)
    if wait or timeout is not None:
        wait_until_idle(stack, name, timeout)
        click.echo(f"{name}: has nothing to do any more")


@nodes_group.command("resume")
@click.argument("name", shell_complete=_names)
@dry
def resume_command(name: str, dry_run: bool) -> None:
    """Have node NAME sent requests again."""
    stack = open_stack()
    drained = name in drained_nodes(stack)
    if not drained:
        require_node(stack, name)  # one that is drained may be resumed when it is not in stack.toml any more
    if dry_run:
        click.echo(f"{name}: would be resumed" if drained else f"{name}: is not drained")
    else:
        click.echo(f"{name}: resumed" if resume(stack, name) else f"{name}: was not drained")


def _warn_of_models(stack: Stack, name: str) -> None:
    """Say which models nobody else could answer for; no gateway, nobody who asks for them."""
    try:
        lonely = [model for node in nodes(stack) if node.name == name for model in node.only_here]
    except ServiceError as error:
        show_error(ServiceError(f"the gateway, which heeds it, does not answer: {error.message}"), "note", "yellow")
        return
    if lonely:
        message = f"no other node answers for {', '.join(lonely)}: requests get 503, or go to the fallback"
        show_error(UserError(message), "warning", "yellow")


COMMANDS = (nodes_group,)
