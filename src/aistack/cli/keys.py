"""`aistack keys`: the API keys of the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from aistack.cli.output import as_json, dry, print_json, print_table
from aistack.errors import UserError
from aistack.gateway.keys import Key, KeyStore
from aistack.operations.stack import open_stack
from aistack.system.files import as_owner


@click.group("keys")
def keys_group() -> None:
    """Create, list and revoke API keys."""


@contextmanager
def _store() -> Iterator[KeyStore]:
    database = open_stack().gateway_database
    with as_owner(database.parent) as folder:
        store = KeyStore(folder / database.name)
        try:
            yield store
        finally:
            store.close()


@keys_group.command("create")
@click.argument("name")
@click.option("--owner", help="Whom it belongs to.")
@as_json
@dry
def create_command(name: str, owner: str | None, json_output: bool, dry_run: bool) -> None:
    """Make a key called NAME and print it, this once.

    Only a hash of it is kept.
    """
    with _store() as store:
        if dry_run:
            if any(key.name == name for key in _live(store)):
                raise UserError(f"there is a key called {name!r} already", "see: aistack keys ls")
            click.echo(f"{name}: would be made")
            return
        plain, key = store.create(name, owner)
    if json_output:
        print_json({**_shown(key), "key": plain})
    else:
        click.echo("keep it: it is not shown again", err=True)
        click.echo(plain)


@keys_group.command("ls")
@as_json
def list_command(json_output: bool) -> None:
    """List keys, revoked ones too."""
    with _store() as store:
        keys = store.list()
    if json_output:
        print_json([_shown(key) for key in keys])
    else:
        rows = [[str(value or "-") for value in _shown(key).values()] for key in keys]
        print_table(("ID", "NAME", "OWNER", "CREATED", "REVOKED"), rows)


@keys_group.command("revoke")
@click.argument("name_or_id")
@dry
def revoke_command(name_or_id: str, dry_run: bool) -> None:
    """Revoke a key by its name or id; it stops working at once."""
    with _store() as store:
        if dry_run:
            if not any(name_or_id in (key.name, key.id) for key in _live(store)):
                raise UserError(f"there is no live key called {name_or_id!r}", "see: aistack keys ls")
            click.echo(f"{name_or_id}: would be revoked")
            return
        key = store.revoke(name_or_id)
    click.echo(f"revoked {key.name}")


def _live(store: KeyStore) -> list[Key]:
    return [key for key in store.list() if key.revoked_at is None]


def _shown(key: Key) -> dict[str, str | None]:
    revoked = None if key.revoked_at is None else _time(key.revoked_at)
    return {
        "id": key.id, "name": key.name, "owner": key.owner, "created": _time(key.created_at), "revoked": revoked,
    }  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


COMMANDS = (keys_group,)
