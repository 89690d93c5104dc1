"""Databases for tests: SQLite files, and a PostgreSQL of the tests' own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

PASSWORD = "pass%word of:the@tests"


class Postgres:
    """A PostgreSQL server in `folder`, run by an ordinary user, with password logins over TCP only, at `address`."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        for path in (folder, secret):
            shutil.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", f"{folder}/data", "-U", "aistack", "--auth=scram-sha-256", f"--pwfile={secret}",
                  "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = [
            "-c",
            f"listen_addresses={self.address}",
            "-c",
            f"unix_socket_directories={self.folder}",
            "-c",
            "fsync=off",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *options],
                **self._as_user(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        ready = [self.programs / "pg_isready", "-q", "-h", self.address, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(2)  # ends the sessions, and is not waiting for clients
            self._process.wait(30)
            self._process = None

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://aistack@{self.address}:{self.port}/{name}"

    def new(self, name: str) -> str:
        """The URL of a new database."""
        whole = make_url(self.url()).set(drivername="postgresql+psycopg", password=PASSWORD)
        engine = create_engine(whole, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self.programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, **self._as_user())

    def _as_user(self) -> dict[str, Any]:
        if os.getuid():
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": "/"}


@contextmanager
def running_postgres(address: str = "127.0.0.1") -> Iterator[Postgres]:
    # pytest's own folders let no other user in.
    with tempfile.TemporaryDirectory(prefix="aistack-postgres-") as folder:
        server = Postgres(Path(folder), address)
        server.start()
        try:
            yield server
        finally:
            server.stop()
