"""One suite for both limiters: each test runs on counts in memory, and on counts in a real Redis."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aistack.gateway.allowances import Limits
from aistack.gateway.limits import Limiter
from aistack.gateway.principals import Principal
from aistack.gateway.redis_counts import RedisCounts
from aistack.gateway.refusals import Refusal
from aistack.gateway.shared_limits import SharedLimiter
from databases import PASSWORD, RedisServer, running_redis

START = 1_700_000_040.0  # the first second of a minute


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Gate:
    """A limiter, and the loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, limiter: Limiter) -> None:
        self.run = runner.run
        self.limiter = limiter

    def admit(self, principal: Principal) -> dict[bytes, bytes]:
        return dict(self.run(self.limiter.admit(principal)))

    def refused(self, principal: Principal) -> tuple[str | None, int]:
        """The limit's name, and after how many seconds to come again."""
        with pytest.raises(Refusal) as caught:
            self.admit(principal)
        assert caught.value.status == 429
        return caught.value.code, int(dict(caught.value.headers)[b"retry-after"])

    def spend(self, principal: Principal, tokens: int) -> None:
        async def spend() -> None:
            self.limiter.spend(principal, tokens)

        self.run(spend())


OpenGate = Callable[[], Gate]


def somebody(**limits: int) -> Principal:
    return Principal("key", "k1", "laptop", limits=Limits(**limits))


def shared_limiter(server: RedisServer, now: Callable[[], float], patience_s: float = 20) -> SharedLimiter:
    """With more patience than a gateway has, as the machine of the tests may be busy."""
    return SharedLimiter(RedisCounts(server.url, PASSWORD, "gateway-redis-password", patience_s), now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def lasting_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(lasting_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it."""
    with lasting_redis.client() as client:
        client.flushall()
    return lasting_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to be killed and frozen."""
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def open_gate(redis: RedisServer, clock: Clock) -> Iterator[OpenGate]:
    """Opens a gate that shares the test's Redis with the others."""
    with ExitStack() as closing:

        def open_it() -> Gate:
            runner = closing.enter_context(asyncio.Runner())
            limiter = shared_limiter(redis, clock)
            runner.run(limiter.run())
            closing.callback(lambda: runner.run(limiter.stop()))
            return Gate(runner, limiter)

        yield open_it


@pytest.fixture(params=["memory", "redis"])
def gate(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Gate]:
    if request.param == "redis":
        open_gate: OpenGate = request.getfixturevalue("open_gate")
        yield open_gate()
        return
    with asyncio.Runner() as runner:
        yield Gate(runner, Limiter(clock))
