"""The time of day as logs write it, cheaply: what changes once a second is made once a second."""

import time


class Clock:
    """Moments in UTC as ISO 8601 with milliseconds: `2026-11-23T09:38:12.123Z`."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def text(self, moment: float) -> str:
        """`moment` is in epoch seconds."""
        second = int(moment)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((moment - second) * 1000):03d}Z"


CLOCK = Clock()
