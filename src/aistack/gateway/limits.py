"""How much somebody may use: requests a minute, tokens a minute, a day and a month, each in a sliding window.

A window slides over two counts, of this stretch of time and of the one before, of which that part counts which the
window still covers. So whoever used all at once gets it back bit by bit, and no hour is the one to wait for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from aistack.gateway.principals import Principal
from aistack.gateway.refusals import Refusal

Headers = tuple[tuple[bytes, bytes], ...]
Key = tuple[str, str]
"""Whose count of what: (`key:k1a2b3c4`, `tokens_per_day`)."""

# Seconds that each limit is for; a month is 30 days.
WINDOWS = {
    "requests_per_minute": 60,
    "tokens_per_minute": 60,
    "tokens_per_day": 86_400,
    "tokens_per_month": 30 * 86_400,
}
_MINUTE_S = 60
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


class Limiter:
    """Counts in memory; `now` gives epoch seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._counts: dict[Key, Count] = {}
        self._sweep_at = _SWEEP_AT

    async def admit(self, principal: Principal) -> Headers:
        """Count one request of `principal`, and return the headers that tell how much is left.

        Raises Refusal 429, with the limit's name as its code, when one is used up; then nothing is counted.
        """
        return self._admit(principal)

    def spend(self, principal: Principal, tokens: int) -> None:
        """Count the tokens of a request that is done."""
        limits = principal.limits
        for name, most in (
            ("tokens_per_minute", limits.tokens_per_minute),
            ("tokens_per_day", limits.tokens_per_day),
            ("tokens_per_month", limits.tokens_per_month),
        ):
            if most:
                self._add(principal.label, name, tokens)

    def prime(self, label: str, name: str, before: int, current: int) -> None:
        """Begin with what was used in this stretch of time, and in the one before it."""
        index = int(self._now() // WINDOWS[name])
        self._counts[label, name] = Count(index, current, before)

    def _admit(self, principal: Principal) -> Headers:
        if not principal.limits.any:
            return ()
        now = self._now()
        headers: Headers = ()
        for name, most in principal.limits.named:
            seconds = WINDOWS[name]
            count = self._count(principal.label, name, now)
            passed = now % seconds / seconds
            left = most - count.used(passed)
            # This request, or its first token: how many it takes nobody knows yet.
            if left < 1:
                raise _refusal(name, most, count.wait(most - 1, passed) * seconds)
            if seconds == _MINUTE_S:
                headers += _headers(name, most, left, count, passed)
        if principal.limits.requests_per_minute:
            self._add(principal.label, "requests_per_minute", 1)
        return headers

    def _add(self, label: str, name: str, amount: int) -> None:
        self._count(label, name, self._now()).current += amount

    def _count(self, label: str, name: str, now: float) -> Count:
        index = int(now // WINDOWS[name])
        count = self._counts.get((label, name))
        if count is None:
            if len(self._counts) >= self._sweep_at:
                self._sweep(now)
            count = self._counts[label, name] = Count(index)
        elif count.index != index:
            count.roll(index)
        return count

    def _sweep(self, now: float) -> None:
        """Forget those of whom nothing counts any more."""
        alive = {key: count for key, count in self._counts.items() if count.index >= now // WINDOWS[key[1]] - 1}
        self._counts = alive
        self._sweep_at = max(_SWEEP_AT, 2 * len(alive))


def _headers(name: str, most: int, left: float, count: Count, passed: float) -> Headers:
    """As OpenAI calls them; this request is counted in, and the reset is when nothing counts any more."""
    kind = name.partition("_")[0].encode()
    now = kind == b"requests"
    if count.current or now:
        passed -= 1
    reset_s = _MINUTE_S * (1 - passed) if count.current or count.before or now else 0
    return (
        (b"x-ratelimit-limit-" + kind, b"%d" % most),
        (b"x-ratelimit-remaining-" + kind, b"%d" % (left - now)),
        (b"x-ratelimit-reset-" + kind, b"%ds" % ceil(reset_s)),
    )


def _refusal(name: str, most: int, seconds: float) -> Refusal:
    wait = int(seconds) + 1
    what = name.replace("_per_", " a ")
    message = f"the limit of {most} {what} is reached; try again in {wait} s"
    return Refusal(429, message, name, ((b"retry-after", b"%d" % wait),))
