"""The command `aistack`, and the one place where errors become words and exit statuses."""

import os
import sys

import click

from aistack import __version__
from aistack.cli import completion, configuration, keys, lifecycle, models, move, nodes, observation, usage
from aistack.cli.output import show_error
from aistack.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aistack")
def commands() -> None:
    """A private AI service on your own hardware: one file says what you want, one command makes it so."""


for module in (configuration, lifecycle, observation, models, nodes, keys, usage, move, completion):
    for command in module.COMMANDS:
        commands.add_command(command)


def main() -> None:
    """Run a command. A UserError is shown in two lines with exit status 1; a bug keeps its traceback."""
    # What must be closed to others says so itself; what services of other users read must not depend on the caller.
    os.umask(0o022)
    try:
        sys.exit(commands.main(standalone_mode=False) or 0)
    except UserError as error:
        show_error(error)
        sys.exit(1)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; nothing is lost, run the same command again to go on", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
