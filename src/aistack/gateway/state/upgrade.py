"""Runs the migrations on a connection, within the transaction of the caller."""

from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


@cache
def scripts() -> ScriptDirectory:
    """The migrations that are part of the package; read once."""
    config = Config()
    # Configuration files treat a % as their own.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date; those that are need nothing."""
    directory = scripts()

    def steps(revision: Any, _: Any) -> Any:
        return directory._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), directory, fn=steps) as environment:
        environment.configure(connection, transactional_ddl=True)
        environment.run_migrations()
