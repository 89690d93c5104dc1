"""`aistack keys`: the API keys of the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from aistack.cli.output import as_json, print_json, print_table
from aistack.gateway.keys import Key, KeyStore
from aistack.operations.stack import open_stack
from aistack.system import files


@click.group("keys")
def keys_group() -> None:
    """Create, list and revoke API keys."""


@contextmanager
def _store() -> Iterator[KeyStore]:
    database = open_stack().gateway_database
    for folder, mode in (
        (database.parents[3], 0o711),
        (database.parents[2], 0o711),
        (database.parents[1], 0o711),
    ):
        files.make_directory(folder, mode)
    files.make_directory(database.parent, 0o700)
    store = KeyStore(database)
    try:
        yield store
    finally:
        store.close()
        # The gateway may be another user, to whom the folder belongs.
        owner = database.parent.stat()
        for file in database.parent.iterdir():
            files.give(file, owner.st_uid, owner.st_gid)


@keys_group.command("create")
@click.argument("name")
@click.option("--owner", help="Whom it belongs to.")
@as_json
def create_command(name: str, owner: str | None, json_output: bool) -> None:
    """Make a key called NAME and print it, this once.

    Only a hash of it is kept.
    """
    with _store() as store:
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
def revoke_command(name_or_id: str) -> None:
    """Revoke a key by its name or id; it stops working at once."""
    with _store() as store:
        key = store.revoke(name_or_id)
    click.echo(f"revoked {key.name}")


def _shown(key: Key) -> dict[str, str | None]:
    revoked = None if key.revoked_at is None else _time(key.revoked_at)
    return {
        "id": key.id, "name": key.name, "owner": key.owner, "created": _time(key.created_at), "revoked": revoked,
    }  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


COMMANDS = (keys_group,)
