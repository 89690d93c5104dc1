"""Opens the gateway's database, SQLite or PostgreSQL, and brings its tables up to date."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from aistack.errors import UserError

# The newest of migrations/versions; a test holds it so.
NEWEST = "0003"
# A newer schema than an old aistack's SQLite code knows, so that it leaves the file alone.
_USER_VERSION = 2
# Any number will do, as long as all gateways take the same: only one of them migrates.
_MIGRATION_LOCK = 0x61736B5F
_TIMEOUT_S = 5
_WITHOUT_TRANSACTION = "aistack_without_transaction"


class Database:
    """One database. Raises UserError when it cannot be opened, or belongs to a newer aistack.

    `where` is a URL without a password (`postgresql://user@host:5432/name`, `sqlite:////path`), or the path of an
    SQLite file.
    """

    def __init__(self, where: str | Path, password: str | None = None) -> None:
        self._url = _url(where, password)
        self.name = self._url.render_as_string(hide_password=True) if self.is_postgres else str(self._url.database)
        with self.explained():
            self.engine = self._engine()
            self._migrate()

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL, and not SQLite."""
        return self._url.get_backend_name() == "postgresql"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with; every statement sees what is committed by then."""
        with self.explained(), self.reader() as connection:
            yield connection

    def reader(self) -> Connection:
        """Such a connection, to be closed by the caller. Raises SQLAlchemy's errors."""
        how = {"isolation_level": "AUTOCOMMIT"} if self.is_postgres else {_WITHOUT_TRANSACTION: True}
        return self.engine.connect().execution_options(**how)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end. IntegrityError is the caller's to explain."""
        with self.explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What fails within is a UserError that names the database."""
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            hint = "see whether PostgreSQL runs and lets us in" if self.is_postgres else "check its folder and the disk"
            raise UserError(f"cannot use the gateway's database {self.name}: {cause}", hint) from error

    def close(self) -> None:
        """Close all its connections."""
        self.engine.dispose()

    def _engine(self) -> Engine:
        if self.is_postgres:
            arguments = {"connect_timeout": _TIMEOUT_S, "application_name": "aistack"}
            return create_engine(self._url, connect_args=arguments, pool_pre_ping=True, pool_size=2, max_overflow=4)
        _make_private(Path(self._url.database or ""))
        engine = create_engine(self._url, connect_args={"timeout": _TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self) -> None:
        with self.reader() as connection:
            if _version(connection) == NEWEST:
                return
        with self.engine.begin() as connection:
            if self.is_postgres:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            self._refuse_newer(connection)
            # Costs a tenth of a second to import, and is seldom needed.
            from aistack.gateway.state.upgrade import upgrade

            upgrade(connection)
            if not self.is_postgres:
                connection.exec_driver_sql(f"PRAGMA user_version = {_USER_VERSION}")

    def _refuse_newer(self, connection: Connection) -> None:
        found = _version(connection)
        if found is None and not self.is_postgres:
            number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            found = f"{number:04}"
        if found is not None and found > NEWEST:
            raise UserError(
                f"{self.name} was written by a newer aistack (schema {found})",
                "use that version, or restore a backup",
            )


def preload() -> None:
    """Import all that an SQLite database may need, for whoever cannot read our code any more when it is opened."""
    from aistack.gateway.state.upgrade import upgrade

    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


def _url(where: str | Path, password: str | None) -> URL:
    if isinstance(where, Path) or where.startswith("/"):
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise UserError(f"{where!r} is not the URL of a database", "postgresql://user@host/name") from error
    match url.get_backend_name():
        case "sqlite":
            return url
        case "postgresql":
            return url.set(drivername="postgresql+psycopg", password=password or url.password)
        case other:
            raise UserError(f"{other} is no database that the gateway can use", "SQLite or PostgreSQL")


def _make_private(database: Path) -> None:
    # SQLite gives its side files the mode of the database, so it is made private before SQLite sees it.
    database.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up(connection: Any, _: Any) -> None:
    # Transactions are begun by `_begin`, not by the driver, which would leave changes of tables out of them.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(_WITHOUT_TRANSACTION):
        return
    # The lock comes first: whoever reads before writing must not find that another has written in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
