"""Before Open WebUI starts: forget the stored copies of the settings that stack.toml decides.

`python -m aistack.components.chat.release_settings DATABASE KEY...`
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path


def release(database: Path, keys: list[str]) -> int:
    """Delete the rows of `keys` from Open WebUI's `config` table; returns how many there were.

    Nothing to do, and no error, before Open WebUI's first start. Source: `open_webui/models/config.py`
    of 0.12.4 (one row a key; a missing row is seeded from the environment at start).
    """
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'config'").fetchone():
            return 0
        columns = {row[1] for row in connection.execute("PRAGMA table_info(config)")}
        if "key" not in columns:
            return 0
        return sum(connection.execute("DELETE FROM config WHERE key = ?", (key,)).rowcount for key in keys)


if __name__ == "__main__":
    release(Path(sys.argv[1]), sys.argv[2:])
