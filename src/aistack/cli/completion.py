"""`aistack completion`: the script that lets a shell complete our commands."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the script that lets a shell complete our commands.

    For example: aistack completion bash >> ~/.bashrc
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "aistack", "_AISTACK_COMPLETE").source())


COMMANDS = (completion_command,)
