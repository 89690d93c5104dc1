"""Limits that all gateways with the same Redis keep together. When it is away, each goes on for itself.

One task speaks to Redis. It takes along all requests that have come since it last did, and tells what was counted
meanwhile: tokens, and, while Redis was away, requests. What it does not get confirmed it tells again, and Redis knows
that again. Only a request that Redis let in without our hearing of it counts twice, for the minute that it counts.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice

from aistack.errors import UserError
from aistack.gateway.limits import Headers, Limiter
from aistack.gateway.principals import Principal
from aistack.gateway.redis_counts import Batch, Question, RedisCounts, RedisRefuses
from aistack.gateway.refusals import Refusal
from aistack.gateway.windows import WINDOWS, Count, Counts

# After how long tokens are told at the latest.
_TELL_S = 0.05
_PROBE_S = 1.0
# How much one round trip may bring, so that it is done in good time.
_COUNTS = 500
_QUESTIONS = 200

_log = logging.getLogger("aistack.gateway.limits")

Waiter = asyncio.Future[Headers]


class SharedLimiter(Limiter):
    """A Limiter whose counts are in `redis`; in memory are the last known ones, own ones included."""

    def __init__(self, redis: RedisCounts, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self._redis = redis
        self._untold = Counts()
        self._numbers = 0
        self._batch: Batch | None = None
        self._asking: list[tuple[Principal, Waiter]] = []
        self._wake = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failing = False
        self._reasons: set[str] = set()  # why Redis cannot be used, as far as it is in the log

    async def admit(self, principal: Principal) -> Headers:
        """Count one request of `principal`, as Limiter does; Redis is waited for only as long as it answers."""
        if self.failing or not principal.limits.any:
            return self._admit(principal)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._asking.append((principal, waiter))
        self._wake.set()
        return await waiter

    async def run(self) -> None:
        """Begin to speak to Redis. Raises RedisRefuses when it lets nobody in; one that is away may come later."""
        try:
            await self._redis.greet()
        except RedisRefuses:
            await self._redis.close()
            raise
        except UserError as error:
            self._lost(error)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Tell what is untold, once more, and end. What cannot be told is said, and lost."""
        self._ending.set()
        self._wake.set()
        if self._task is not None:
            await self._task
        try:
            await self._tell()
        except UserError as error:
            _log.error("what was counted last is lost to the limits of other gateways: %s", error.message)
        finally:
            await self._redis.close()

    def _add(self, label: str, name: str, amount: int) -> None:
        super()._add(label, name, amount)
        self._untold.at(label, name, self._now()).current += amount
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_TELL_S, self._tell_now)

    def _tell_now(self) -> None:
        self._due = None
        self._wake.set()

    async def _work(self) -> None:
        try:
            while not self._ending.is_set():
                await (self._probe() if self.failing else self._round())
        except Exception:
            _log.exception("limits are counted by each gateway for itself until it is restarted")
        finally:
            # Whatever ends this, nobody waits for it any more.
            self.failing = True
            self._answer_from_memory()

    async def _round(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        asking = self._asking[:_QUESTIONS]
        self._batch = self._batch or self._next_batch()
        if not (asking or self._batch):
            return
        now = self._now()
        try:
            questions = [self._question(principal, now) for principal, _ in asking]
            found = await self._redis.exchange(self._batch, questions)
        except UserError as error:
            self._lost(error)
            self._answer_from_memory()
            return
        self._batch = None
        for (principal, waiter), counts in zip(asking, found, strict=True):
            _settle(waiter, partial(self._learn, principal, now, counts))
        del self._asking[: len(asking)]
        if self._asking:
            self._wake.set()
        elif self._untold:
            self._tell_soon()

    async def _probe(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_S):
                await self._ending.wait()
        try:
            await self._redis.greet()
            await self._tell()
        except UserError as error:
            if error.message not in self._reasons:
                self._reasons.add(error.message)
                _log.error("limits are still not counted in Redis: %s (%s)", error.message, error.hint)
        else:
            self.failing = False
            _log.warning("limits are counted in Redis again")

    async def _tell(self) -> None:
        while batch := self._batch or self._next_batch():
            self._batch = batch
            await self._redis.exchange(batch, ())
            self._batch = None

    def _lost(self, error: UserError) -> None:
        self.failing = True
        self._reasons = {error.message}
        _log.error("limits go on as last known, each gateway for itself: %s (%s)", error.message, error.hint)

    def _answer_from_memory(self) -> None:
        for principal, waiter in self._asking:
            _settle(waiter, partial(self._admit, principal))
        self._asking.clear()

    def _next_batch(self) -> Batch | None:
        """What is to be told next; then it is no longer among what is untold."""
        amounts: dict[str, list[tuple[str, int, int]]] = {}
        for label, name in [*islice(self._untold, _COUNTS)]:
            count = self._untold.pop((label, name))
            for index, amount in ((count.index, count.current), (count.index - 1, count.before)):
                if amount:
                    amounts.setdefault(label, []).append((name, index, amount))
        if not amounts:
            return None
        self._numbers += 1
        return Batch(self._numbers, amounts)

    def _question(self, principal: Principal, now: float) -> Question:
        known = [(name, most, self._told(principal.label, name, now)) for name, most in principal.limits.named]
        return Question(principal.label, now, known)

    def _told(self, label: str, name: str, now: float) -> Count:
        """What is known to be counted, without what Redis will not have been told with the next round trip."""
        count = self._counts.at(label, name, now)
        untold = self._untold.get((label, name))
        if untold is None:
            return count
        untold.roll(count.index)
        return Count(count.index, count.current - untold.current, count.before - untold.before)

    def _learn(self, principal: Principal, now: float, found: list[int]) -> Headers:
        """Judge by what Redis has counted, as it did; then that, and what it was not told yet, is the last known."""
        counts = {
            name: Count(int(now // WINDOWS[name]), *found[2 * number : 2 * number + 2])
            for number, (name, _) in enumerate(principal.limits.named)
        }
        self._counts.update(((principal.label, name), count) for name, count in counts.items())
        try:
            headers = self._judged(principal, now)
            if principal.limits.requests_per_minute:
                counts["requests_per_minute"].current += 1
            return headers
        finally:
            for name, count in counts.items():
                if untold := self._untold.get((principal.label, name)):
                    count.roll(untold.index)
                    untold.roll(count.index)
                    count.current += untold.current
                    count.before += untold.before


def _settle(waiter: Waiter, answer: Callable[[], Headers]) -> None:
    """Give whoever waits the answer, unless they have gone."""
    if waiter.done():
        return
    try:
        waiter.set_result(answer())
    except Refusal as refusal:
        waiter.set_exception(refusal)
