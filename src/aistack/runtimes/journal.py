"""Reading a service's log file: its end, and what is written after."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from aistack.errors import UserError


def read(path: Path, lines: int, follow: bool) -> Iterator[str]:
    """The last `lines` lines of `path`, without line ends; with `follow` also new ones, for ever.

    A log that was cut back (rotated) is read from its start again. Raises UserError when there is none.
    """
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"there is no log {path}", "the service has not been started yet: `aistack up`") from error
    with file:
        for line in deque(file, maxlen=lines):
            yield line.rstrip("\n")
        while follow:
            if line := file.readline():
                yield line.rstrip("\n")
            else:
                if path.stat().st_size < file.tell():
                    file.seek(0)
                time.sleep(0.2)
