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
        unfinished = ""
        for line in deque(file, maxlen=lines):
            if follow and not line.endswith("\n"):
                unfinished = line
            else:
                yield line.rstrip("\n")
        while follow:
            if part := file.readline():
                unfinished += part
                # A writer may be in the middle of a line; half of one is not news yet.
                if unfinished.endswith("\n"):
                    yield unfinished.rstrip("\n")
                    unfinished = ""
            else:
                if path.stat().st_size < file.tell():
                    file.seek(0)
                time.sleep(0.2)
