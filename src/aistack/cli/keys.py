"""`aistack keys`: the API keys of the gateway."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from aistack.cli.output import as_json, dry, print_json, print_table
from aistack.errors import UserError
from aistack.operations.stack import gateway_database, open_stack

if TYPE_CHECKING:  # the database's library takes longer to import than most commands to run
    from aistack.gateway.keys import Key, KeyStore

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.group("keys")
def keys_group() -> None:
    """Create, change, list and revoke API keys."""


@contextmanager
def _store() -> Iterator["KeyStore"]:
    from aistack.gateway.keys import KeyStore

    with gateway_database(open_stack()) as database:
        yield KeyStore(database)


class _Limit(click.ParamType["int | None"]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A whole number, 0 without a limit, or `site` for the site's own."""
        if value == "site":
            return None
        return int(value) if str(value).isdecimal() else self.fail("a whole number, 0 for none, or site", param, ctx)


def _with_terms(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a key may do. What is not given is not in the parameters."""
    for name, about in (
        ("month", "Tokens in 30 days."),
        ("day", "Tokens in 24 hours."),
        ("minute", "Tokens a minute."),
    ):
        command = click.option(f"--tokens-per-{name}", type=_Limit(), help=about)(command)
    about = "Requests a minute; 0: no limit; site: that of stack.toml. So for tokens."
    command = click.option("--requests-per-minute", type=_Limit(), help=about)(command)
    command = click.option("--weight", type=float, help="Its share when there is a queue; usually 1.")(command)
    command = click.option("--expires", help="When it ends: 90d, 12h, an ISO time, or never.")(command)
    about = "A model it may use; may be given again. Without: all; all: all again."
    command = click.option("--model", "models", multiple=True, help=about)(command)
    about = "What it may do: chat, embed, documents, admin; may be given again."
    command = click.option("--scope", "scopes", multiple=True, help=about)(command)
    return click.option("--owner", help="Whom it belongs to.")(command)


def _terms(given: dict[str, Any]) -> dict[str, Any]:
    """What the options of `_with_terms` ask for, as key_terms.py takes it."""
    context = click.get_current_context()
    terms = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if "models" in terms and terms["models"] == ("all",):
        terms["models"] = None
    if "expires" in terms:
        terms["expires_at"] = _expiry(terms.pop("expires"))
    return terms


def _expiry(text: str) -> str | None:
    if text == "never":
        return None
    if found := re.fullmatch(r"([0-9]{1,5})([mhdw])", text):
        return (datetime.now(UTC) + timedelta(**{_UNITS[found[2]]: int(found[1])})).isoformat()
    return text


@keys_group.command("create")
@click.argument("name")
@_with_terms
@as_json
@dry
def create_command(name: str, owner: str | None, json_output: bool, dry_run: bool, **given: Any) -> None:
    """Make a key called NAME and print it, this once.

    Only a hash of it is kept.
    """
    from aistack.gateway.key_terms import checked

    terms = _terms(given)
    with _store() as store:
        if dry_run:
            checked({"name": name, "owner": owner, **terms})
            if any(key.name == name for key in _live(store)):
                raise UserError(f"there is a key called {name!r} already", "see: aistack keys ls")
            click.echo(f"{name}: would be made")
            return
        plain, key = store.create(name, owner, terms)
    _show_plain(plain, key, json_output)


@keys_group.command("ls")
@as_json
def list_command(json_output: bool) -> None:
    """List keys, revoked ones too."""
    from aistack.gateway.keys import told

    with _store() as store:
        keys = [told(key) for key in store.list()]
    if json_output:
        print_json(keys)
        return
    columns = ("id", "name", "owner", "created", "expires", "revoked")
    rows = [[str(key[column] or "-") for column in columns] for key in keys]
    print_table([column.upper() for column in columns], rows)


@keys_group.command("show")
@click.argument("name_or_id")
@as_json
def show_command(name_or_id: str, json_output: bool) -> None:
    """Show all that is known of a key."""
    with _store() as store:
        _show(store.find(name_or_id), json_output)


@keys_group.command("update")
@click.argument("name_or_id")
@click.option("--name", help="A new name.")
@_with_terms
@as_json
@dry
def update_command(name_or_id: str, json_output: bool, dry_run: bool, **given: Any) -> None:
    """Change what a key may do, at once."""
    from aistack.gateway.key_terms import checked

    terms = _terms(given)
    if not terms:
        raise UserError("nothing to change was given", "see: aistack keys update --help")
    with _store() as store:
        if dry_run:
            checked(terms)
            click.echo(f"{store.find(name_or_id).name}: would be changed: {', '.join(sorted(terms))}")
            return
        _show(store.update(name_or_id, terms), json_output)


@keys_group.command("rotate")
@click.argument("name_or_id")
@click.option("--overlap", default="0m", show_default=True, help="How long the old one still works: 30m, 12h, 7d.")
@as_json
@dry
def rotate_command(name_or_id: str, overlap: str, json_output: bool, dry_run: bool) -> None:
    """Give a key a new secret and print it, this once."""
    found = re.fullmatch(r"([0-9]{1,5})([mhdw])", overlap)
    if not found:
        raise UserError(f"{overlap!r} is no length of time", "for instance: --overlap 12h")
    seconds = timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()
    with _store() as store:
        if dry_run:
            click.echo(f"{store.find(name_or_id).name}: would be given a new secret")
            return
        plain, key = store.rotate(name_or_id, seconds)
    _show_plain(plain, key, json_output)


@keys_group.command("revoke")
@click.argument("name_or_id")
@dry
def revoke_command(name_or_id: str, dry_run: bool) -> None:
    """Revoke a key by its name or id; it stops working at once."""
    with _store() as store:
        if dry_run:
            store.find(name_or_id)
            click.echo(f"{name_or_id}: would be revoked")
            return
        key = store.revoke(name_or_id)
    click.echo(f"revoked {key.name}")


def _live(store: "KeyStore") -> list["Key"]:
    return [key for key in store.list() if key.revoked_at is None]


def _show_plain(plain: str, key: "Key", json_output: bool) -> None:
    from aistack.gateway.keys import told

    if json_output:
        print_json({**told(key), "key": plain})
    else:
        click.echo("keep it: it is not shown again", err=True)
        click.echo(plain)


def _show(key: "Key", json_output: bool) -> None:
    from aistack.gateway.keys import told

    shown = told(key)
    if json_output:
        print_json(shown)
        return
    limits = {f"{name} (own)": most for name, most in shown.pop("limits").items()}
    rows = [[name, _text(value)] for name, value in {**shown, **limits}.items()]
    print_table(("", ""), rows)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "-" if value is None else str(value)


COMMANDS = (keys_group,)
