"""`aistack usage`: who used what."""

import csv
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from aistack.cli.output import as_json, print_json, print_table
from aistack.errors import UserError
from aistack.operations.stack import gateway_database, open_stack

if TYPE_CHECKING:
    from aistack.gateway.usage_report import By

_BY = ("user", "key", "model", "day")
_COLUMNS = ("id", "name", "requests", "prompt_tokens", "completion_tokens")


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    from aistack.gateway.usage_report import moment

    return None if text is None else moment(text)


@click.command("usage")
@click.option("--by", type=click.Choice(_BY), default="user", show_default=True, help="What to add up.")
@click.option("--since", callback=_moment, help="From this day, time (UTC) or so long ago: 30d; by whole hours.")
@click.option("--until", callback=_moment, help="Up to that day or time, by whole hours.")
@click.option("--csv", "csv_output", is_flag=True, help="Print CSV for spreadsheets.")
@as_json
def usage_command(by: "By", since: float | None, until: float | None, csv_output: bool, json_output: bool) -> None:
    """Show who used how many requests and tokens."""
    from aistack.gateway.usage_report import report

    if csv_output and json_output:
        raise UserError("CSV and JSON cannot be printed at once", "give --csv or --json")
    if since is not None and until is not None and until <= since:
        raise UserError("--until is not later than --since", "the days or times may stand in each other's place")
    with gateway_database(open_stack()) as database:
        lines = [asdict(line) for line in report(database, by, since, until)]
    if json_output:
        print_json(lines)
    elif csv_output:
        writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in line.items()} for line in lines)
    else:
        rows = [[str(line[column]) for column in _COLUMNS] for line in lines]
        print_table([column.upper().replace("_", " ") for column in _COLUMNS], rows)


def _harmless(value: Any) -> Any:
    """People choose their names; a spreadsheet must not take one for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


COMMANDS = (usage_command,)
