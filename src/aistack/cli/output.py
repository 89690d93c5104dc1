"""How results are shown: tables for people, JSON for programs; and the options that many commands share."""

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from aistack.errors import ConfigError, UserError

as_json = click.option("--json", "json_output", is_flag=True, help="Print JSON for programs.")
dry = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def print_json(value: object) -> None:
    """Print `value` (dataclasses, paths and times included) as JSON."""
    click.echo(json.dumps(_plain(value), indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table; wide content is never cut when the output is not a terminal."""
    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=200).print(table)


def show_error(error: UserError, word: str = "error", colour: str = "red") -> None:
    """Tell what is wrong on stderr, each mistake in stack.toml on a line of its own, and what to do about it."""
    click.echo(f"{click.style(f'{word}:', fg=colour, bold=True)} {error.message}", err=True)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)


def show_tolerated(error: ConfigError) -> None:
    """Tell that stack.toml is wrong, for commands that go on with what they understand of it."""
    show_error(error, "warning", "yellow")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(item) for key, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
