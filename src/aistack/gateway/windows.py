"""Sliding windows: what counts of what was used in this stretch of time and in the one before.

Of the stretch before that part counts which the window still covers. So whoever used all at once gets it back bit by
bit, and no hour is the one to wait for.
"""

from dataclasses import dataclass

Key = tuple[str, str]
"""Whose count of what: (`key:k1a2b3c4`, `tokens_per_day`)."""

# Seconds that each limit is for; a month is 30 days.
WINDOWS = {
    "requests_per_minute": 60,
    "tokens_per_minute": 60,
    "tokens_per_day": 86_400,
    "tokens_per_month": 30 * 86_400,
}
_SWEEP_AT = 10_000


@dataclass(slots=True)
class Count:
    """What was used in the stretch of time with the number `index`, and in the one before."""

    index: int
    current: int = 0
    before: int = 0

    def roll(self, index: int) -> None:
        """Go on to the stretch `index`."""
        if index > self.index:
            self.before = self.current if index == self.index + 1 else 0
            self.current = 0
            self.index = index

    def used(self, passed: float) -> float:
        """What counts when the part `passed` (0 to 1) of this stretch is over."""
        return self.before * (1 - passed) + self.current

    def wait(self, most: int, passed: float) -> float:
        """After how many stretches of time no more than `most` counts, when nothing is added."""
        if self.current <= most:
            return max(0.0, 1 - (most - self.current) / self.before - passed) if self.before else 0.0
        return 1 - passed + 1 - most / self.current


class Counts(dict[Key, Count]):
    """Everybody's counts, which are forgotten when nothing of them counts any more. Times are epoch seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._sweep_at = _SWEEP_AT

    def at(self, label: str, name: str, now: float) -> Count:
        """The count as it stands at `now`, to be changed by the caller."""
        index = int(now // WINDOWS[name])
        count = self.get((label, name))
        if count is None:
            if len(self) >= self._sweep_at:
                self._sweep(now)
            count = self[label, name] = Count(index)
        elif count.index != index:
            count.roll(index)
        return count

    def _sweep(self, now: float) -> None:
        for key in [key for key, count in self.items() if count.index < now // WINDOWS[key[1]] - 1]:
            del self[key]
        self._sweep_at = max(_SWEEP_AT, 2 * len(self))
