"""Lines of a log, written in batches so that a slow disk or reader delays nobody much."""

import asyncio
from collections.abc import Callable

# At most this much of a log is lost to kill -9.
_WAIT_S = 0.2


class Batches:
    """Collects lines and hands them to `write` together."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Note a line, with its end. Needs a running loop."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_WAIT_S, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what is waiting."""
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            self._write(text)
