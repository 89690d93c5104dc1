"""How much somebody may use: requests a minute, tokens a minute, a day and a month, each in a sliding window."""

import time
from collections.abc import Callable
from math import ceil

from aistack.gateway.principals import Principal
from aistack.gateway.refusals import Refusal
from aistack.gateway.windows import WINDOWS, Count, Counts

Headers = tuple[tuple[bytes, bytes], ...]
_MINUTE_S = 60


class Limiter:
    """Counts in memory; `now` gives epoch seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._counts = Counts()

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
        headers = self._judged(principal, self._now())
        if principal.limits.requests_per_minute:
            self._add(principal.label, "requests_per_minute", 1)
        return headers

    def _judged(self, principal: Principal, now: float) -> Headers:
        """The headers for one more request, which is not counted yet, or Refusal."""
        headers: Headers = ()
        for name, most in principal.limits.named:
            seconds = WINDOWS[name]
            count = self._counts.at(principal.label, name, now)
            passed = now % seconds / seconds
            left = most - count.used(passed)
            # This request, or its first token: how many it takes nobody knows yet.
            if left < 1:
                raise _refusal(name, most, count.wait(most - 1, passed) * seconds)
            if seconds == _MINUTE_S:
                headers += _headers(name, most, left, count, passed)
        return headers

    def _add(self, label: str, name: str, amount: int) -> None:
        self._counts.at(label, name, self._now()).current += amount


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
