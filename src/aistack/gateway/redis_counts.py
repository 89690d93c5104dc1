"""The counts of limits in a Redis: what gateways ask it and tell it, in one round trip for many requests.

All counts of one principal lie in one hash slot, and go away by themselves when nothing of them counts any more:
`aistack:{key:k1a2b3c4}:tokens_per_day:19675`, where the number is that of the stretch of time.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from aistack.errors import UserError
from aistack.gateway.windows import WINDOWS, Count

# How long after a failure a batch may be told again and still be known as one that was added.
_REMEMBERED_S = 86_400
# By these words Redis refuses what will not go better in a moment.
_FOR_GOOD = frozenset({"ERR", "NOPERM", "MOVED"})

# KEYS: the number of this gateway's last batch, then counts. ARGV: this batch's number, how long to remember it, then
# for each count what to add and how long to keep it. A batch is added once, however often it comes.
_ADD = """
if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then return end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for number = 2, #KEYS do
  redis.call('INCRBY', KEYS[number], ARGV[2 * number - 1])
  redis.call('EXPIRE', KEYS[number], ARGV[2 * number])
end
"""
# KEYS: for each limit the count of this stretch of time, and that of the one before. ARGV: what a request adds to the
# first; then for each limit its most, the part of the stretch before that counts, how long to keep counts, and both
# counts as far as the gateway knows them, which is more than there is when Redis has lost some. Returns the counts.
# Whether there is room is decided as in limits.py, which tells the rest.
_ADMIT = """
local counts, room = {}, true
for key = 1, #KEYS, 2 do
  local first = (key - 1) / 2 * 5 + 2
  local most, part, seconds = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), ARGV[first + 2]
  for which = 0, 1 do
    local count, known = tonumber(redis.call('GET', KEYS[key + which]) or 0), ARGV[first + 3 + which]
    if tonumber(known) > count then
      redis.call('SET', KEYS[key + which], known, 'EX', seconds)
      count = tonumber(known)
    end
    counts[key + which] = count
  end
  if most - (counts[key + 1] * part + counts[key]) < 1 then room = false end
end
if room and ARGV[1] ~= '0' then
  redis.call('INCRBY', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return counts
"""
_ADD_SHA, _ADMIT_SHA = (sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_ADD, _ADMIT))


class RedisRefuses(UserError):
    """Redis answers, and will not do what we want until somebody changes something."""


@dataclass(frozen=True)
class Batch:
    """What one gateway has counted: for each label the limit's name, the number of the stretch, and the amount."""

    number: int
    amounts: Mapping[str, Sequence[tuple[str, int, int]]]


@dataclass(frozen=True, slots=True)
class Question:
    """Whether one more request may be let in at `now` (epoch seconds): of each limit, in the order of WINDOWS, the
    name, the most, and the count as far as it is known."""

    label: str
    now: float
    limits: Sequence[tuple[str, int, Count]]


class RedisCounts:
    """A connection to a Redis at `url`, which holds no password. All raise UserError when it cannot be used.

    A round trip, connecting included, may take `patience_s`: a request waits for no more, and then not again.
    """

    def __init__(self, url: str, password: str, secret_name: str, patience_s: float = 0.5) -> None:
        self._name = url
        self._hint = f"secrets/{secret_name} beside stack.toml must hold the password of its user, who must have one"
        # Whoever asks decides what comes after a failure, so nothing is tried twice in here.
        self._redis = Redis.from_url(
            url, password=password, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None
        )
        self._patience_s = patience_s
        self._writer = secrets.token_hex(8)
        self._greetings = 0

    async def greet(self) -> None:
        """Leave our scripts with it, and see that it lets us count. Raises RedisRefuses when it does not."""
        self._greetings += 1
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.script_load(_ADD)
        pipeline.script_load(_ADMIT)
        nobody = f"gateway:{self._writer}"
        self._add(pipeline, self._greetings, nobody, [("requests_per_minute", 0, 1)])
        await self._execute(pipeline)

    async def exchange(self, batch: Batch | None, questions: Sequence[Question]) -> list[list[int]]:
        """Add what `batch` counts, once, and then ask. Returns for each question the counts before its request:
        of each limit that of this stretch of time, and that of the one before."""
        pipeline = self._redis.pipeline(transaction=False)
        if batch:
            for label, counted in batch.amounts.items():
                self._add(pipeline, batch.number, label, counted)
        told = len(pipeline)
        for question in questions:
            _ask(pipeline, question)
        return (await self._execute(pipeline))[told:]

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    def _add(self, pipeline: Pipeline, number: int, label: str, counted: Sequence[tuple[str, int, int]]) -> None:
        keys = [f"aistack:{{{label}}}:{self._writer}"]
        arguments = [number, _REMEMBERED_S]
        for name, index, amount in counted:
            keys.append(_key(label, name, index))
            arguments += (amount, 2 * WINDOWS[name])
        pipeline.evalsha(_ADD_SHA, len(keys), *keys, *arguments)

    async def _execute(self, pipeline: Pipeline) -> list[list[int]]:
        async with self._explained(), asyncio.timeout(self._patience_s):
            found: list[list[int]] = await pipeline.execute()
            return found

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            cause = str(error).strip().partition("\n")[0] or f"no answer within {self._patience_s} s"
            message = f"cannot use the Redis of the limits {self._name}: {cause}"
            if isinstance(error, AuthenticationError):
                raise RedisRefuses(message, self._hint) from error
            if isinstance(error, ResponseError) and error.status_code in _FOR_GOOD:
                raise RedisRefuses(message, "see gateway.redis, and what its user may do") from error
            raise UserError(message, "see whether Redis runs and can be reached") from error


def _ask(pipeline: Pipeline, question: Question) -> None:
    keys: list[str] = []
    arguments: list[float] = [int(question.limits[0][0] == "requests_per_minute")]
    for name, most, known in question.limits:
        seconds = WINDOWS[name]
        index = int(question.now // seconds)
        keys += (_key(question.label, name, index), _key(question.label, name, index - 1))
        part = 1 - question.now % seconds / seconds
        arguments += (most, part, 2 * seconds, known.current, known.before)
    pipeline.evalsha(_ADMIT_SHA, len(keys), *keys, *arguments)


def _key(label: str, name: str, index: int) -> str:
    return f"aistack:{{{label}}}:{name}:{index}"
