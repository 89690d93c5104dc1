import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aistack.components.chat.component import SETTINGS_OF_THE_STACK
from aistack.components.chat.release_settings import release


def execute(database: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection, connection:
        found: list[tuple[object, ...]] = []
        for statement in statements:
            found = connection.execute(statement).fetchall()
        return found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Open WebUI's table of settings, with two of the stack's and one of the administrator's."""
    path = tmp_path / "webui.db"
    execute(
        path,
        "CREATE TABLE config (key TEXT PRIMARY KEY, value JSON, updated_at BIGINT)",
        "INSERT INTO config VALUES ('ollama.base_urls', '[\"http://old\"]', 1)",
        "INSERT INTO config VALUES ('webui.url', '\"https://old\"', 1)",
        "INSERT INTO config VALUES ('ui.banners', '[]', 1)",
    )
    return path


def keys(database: Path) -> list[object]:
    return [row[0] for row in execute(database, "SELECT key FROM config ORDER BY key")]


def test_the_stacks_settings_are_forgotten_and_the_administrators_stay(database: Path) -> None:
    assert release(database, list(SETTINGS_OF_THE_STACK)) == 2
    assert keys(database) == ["ui.banners"]


def test_a_second_time_there_is_nothing_left_to_forget(database: Path) -> None:
    release(database, ["webui.url"])
    assert release(database, ["webui.url"]) == 0


def test_before_the_first_start_there_is_nothing_to_do_and_nothing_is_made(tmp_path: Path) -> None:
    assert release(tmp_path / "webui.db", ["webui.url"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("statement", ["CREATE TABLE users (id TEXT)", "CREATE TABLE config (id INTEGER, data JSON)"])
def test_a_database_of_another_shape_is_left_alone(tmp_path: Path, statement: str) -> None:
    execute(tmp_path / "webui.db", statement)
    before = (tmp_path / "webui.db").read_bytes()
    assert release(tmp_path / "webui.db", ["webui.url"]) == 0
    assert (tmp_path / "webui.db").read_bytes() == before


def test_it_runs_as_the_step_before_a_start(database: Path) -> None:
    command = [sys.executable, "-m", "aistack.components.chat.release_settings", str(database)]
    subprocess.run([*command, "webui.url", "ui.banners"], check=True, timeout=30)
    assert keys(database) == ["ollama.base_urls"]
