"""`status`, `logs`, `doctor`, `ca`: the commands that look."""

import json

import click

from aistack.cli.lifecycle import service_names
from aistack.cli.output import as_json, print_json, print_table, show_tolerated
from aistack.errors import UserError
from aistack.operations.doctor import has_problem, report
from aistack.operations.examine import examine
from aistack.operations.stack import open_stack
from aistack.operations.status import status


@click.command("status")
@as_json
def status_command(json_output: bool) -> None:
    """Show every service; exit status 3 when one is unwell."""
    found = status(open_stack(tolerate=show_tolerated))
    if json_output:
        print_json(found)
    else:
        rows = [
            (
                item.service,
                item.word,
                _duration(item.uptime_s) if item.uptime_s else "-",
                str(item.pid or "-"),
                item.address,
                item.problem or item.title,
            )
            for item in found
        ]
        print_table(("SERVICE", "STATE", "UP", "PID", "ADDRESS", ""), rows)
    if any(item.problem for item in found):
        raise click.exceptions.Exit(3)


@click.command("logs")
@click.argument("service", shell_complete=lambda *_: service_names())
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--lines",
    "-n",
    default=100,
    show_default=True,
    type=click.IntRange(0),
    help="How many lines to begin with.",
)
@as_json
def logs_command(service: str, follow: bool, lines: int, json_output: bool) -> None:
    """Show the log of SERVICE; with --json an object a line."""
    stack = open_stack(tolerate=show_tolerated)
    stack.plan.service(service)
    for line in stack.runtime.logs(service, lines, follow):
        click.echo(json.dumps({"service": service, "line": line}) if json_output else line)


@click.command("doctor")
@as_json
def doctor_command(json_output: bool) -> None:
    """Look for what is wrong or soon will be.

    Each finding has its cure. Exit status 1 when there is a problem.
    """
    findings = examine(open_stack())
    if json_output:
        print_json(findings)
    else:
        click.echo(report(findings))
    if has_problem(findings):
        raise click.exceptions.Exit(1)


@click.command("ca")
@as_json
def ca_command(json_output: bool) -> None:
    """Print the root certificate to trust."""
    stack = open_stack()
    if stack.config.proxy.certificate:
        raise UserError("the stack uses your own certificate", f"it is {stack.config.proxy.certificate}")
    root = stack.paths.tls / "root.pem"
    if not root.exists():
        raise UserError("there is no certificate authority yet", "`aistack up` makes it")
    if json_output:
        print_json({"path": root, "certificate": root.read_text()})
    else:
        click.echo(root.read_text(), nl=False)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


COMMANDS = (status_command, logs_command, doctor_command, ca_command)
