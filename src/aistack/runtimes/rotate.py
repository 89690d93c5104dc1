"""Keeps the logs of the process runtime small; supervisord runs it and tells it the time once a minute.

The services write to their files themselves (so that they outlive a supervisor), hence a log is
copied aside and cut back in place: they all append, so the next line starts the file anew.
"""

import os
import shutil
import sys
from pathlib import Path

MAX_BYTES = 10_000_000
KEEP = 5


def rotate(folder: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> list[str]:
    """Rotate every service's log in `folder` above `max_bytes`; returns their names. `.1` is the newest copy.

    supervisord's own is left alone: it rotates that itself, from a file that it holds open.
    """
    rotated = []
    for log in sorted(folder.glob("*.log")):
        if log.name == "supervisord.log" or log.stat().st_size <= max_bytes:
            continue
        for number in range(keep - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        shutil.copy(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
        rotated.append(log.name)
    return rotated


def main() -> None:
    """supervisord's event listener protocol: READY, an event's header and body, RESULT."""
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            return
        length = int(dict(part.split(":") for part in header.split())["len"])
        sys.stdin.read(length)
        rotate(Path(sys.argv[1]))
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
