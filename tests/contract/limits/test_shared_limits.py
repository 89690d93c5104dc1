"""Limits in a real Redis: of all gateways together, also after it was away, slow, or lost what it had."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from aistack import certificates
from aistack.errors import UserError
from aistack.gateway.limits import Limiter
from aistack.gateway.principals import Principal
from aistack.gateway.redis_counts import Batch, Question, RedisCounts, RedisRefuses
from aistack.gateway.refusals import Refusal
from aistack.gateway.shared_limits import SharedLimiter
from databases import PASSWORD, RedisServer, free_port, running_redis

from .conftest import START, Clock, Gate, OpenGate, shared_limiter, somebody

DAILY = somebody(tokens_per_day=10**6)
BUSY = somebody(requests_per_minute=60)
AWAY = "limits go on as last known, each gateway for itself"
STILL = "limits are still not counted in Redis"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)


async def let_in(limiter: Limiter, principal: Principal, times: int) -> int:
    """How many of so many requests at once."""
    answers = await asyncio.gather(*(limiter.admit(principal) for _ in range(times)), return_exceptions=True)
    assert all(isinstance(answer, tuple | Refusal) for answer in answers), answers
    return sum(isinstance(answer, tuple) for answer in answers)


def counted(server: RedisServer, name: str) -> int:
    """What the Redis has of `k1` in this stretch of time, by the tests' clock."""
    seconds = {"tokens_per_day": 86_400, "requests_per_minute": 60}[name]
    with server.client() as client:
        return int(client.get(f"aistack:{{key:k1}}:{name}:{int(START // seconds)}") or 0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message.partition(":")[0] for message in said_in_full(caplog)]


def said_in_full(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "aistack.gateway.limits"]


def test_two_gateways_let_in_as_many_as_one(redis: RedisServer, clock: Clock) -> None:
    async def use() -> int:
        limiters = [shared_limiter(redis, clock) for _ in range(2)]
        for limiter in limiters:
            await limiter.run()
        found = await asyncio.gather(*(let_in(limiter, BUSY, 100) for limiter in limiters))
        for limiter in limiters:
            await limiter.stop()
        return sum(found)

    assert asyncio.run(use()) == 60


def test_tokens_that_one_gateway_counts_are_known_to_the_other(open_gate: OpenGate, redis: RedisServer) -> None:
    one, other = open_gate(), open_gate()
    one.spend(somebody(tokens_per_day=100), 100)
    one.run(until(lambda: counted(redis, "tokens_per_day") == 100))
    assert other.refused(somebody(tokens_per_day=100))[0] == "tokens_per_day"


def test_a_gateway_that_starts_anew_goes_on_with_the_minute(open_gate: OpenGate) -> None:
    open_gate().admit(somebody(requests_per_minute=1))
    assert open_gate().refused(somebody(requests_per_minute=1))[0] == "requests_per_minute"


@pytest.mark.parametrize("name", ["tokens_per_day", "requests_per_minute"])
def test_a_redis_that_has_lost_all_learns_what_gateways_know(
    name: str, open_gate: OpenGate, redis: RedisServer
) -> None:
    one, other = open_gate(), open_gate()
    somebody_with_two = somebody(**{name: 2})
    if name == "tokens_per_day":
        one.limiter.prime("key:k1", name, before=0, current=2)
    else:
        one.admit(somebody_with_two)
        one.admit(somebody_with_two)
    with redis.client() as client:
        client.flushall()
    other.admit(somebody_with_two)
    assert one.refused(somebody_with_two)[0] == name
    assert other.refused(somebody_with_two)[0] == name


def test_counts_of_a_principal_lie_in_one_slot_and_go_away_by_themselves(
    open_gate: OpenGate, redis: RedisServer
) -> None:
    gate = open_gate()
    everything = somebody(requests_per_minute=9, tokens_per_minute=9, tokens_per_day=9, tokens_per_month=9)
    gate.admit(everything)
    gate.spend(everything, 5)
    gate.admit(everything)
    with redis.client() as client:
        keys = client.keys("*{key:k1}*")
        assert len(keys) == 5  # four counts, and which batch was the last
        assert len({key_slot(key.encode()) for key in keys}) == 1
        left = {key.split(":")[3]: client.ttl(key) for key in keys}
    assert 100 < left["requests_per_minute"] <= 120
    assert 5_000_000 < left["tokens_per_month"] <= 5_184_000
    assert min(left.values()) > 0


@given(
    most=st.integers(1, 9),
    tokens=st.integers(0, 30),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(0, 9)), min_size=1, max_size=40),
)
def test_redis_decides_as_memory_does(
    lasting_redis: RedisServer, most: int, tokens: int, steps: list[tuple[float, int]]
) -> None:
    principal = somebody(requests_per_minute=most, tokens_per_minute=tokens)
    clock = Clock()
    with lasting_redis.client() as client:
        client.flushall()
    with asyncio.Runner() as runner:
        shared = shared_limiter(lasting_redis, clock)
        runner.run(shared.run())
        gates = [Gate(runner, limiter) for limiter in (Limiter(clock), shared)]
        for seconds, used in steps:
            clock.now += seconds
            answers = []
            for gate in gates:
                try:
                    answers.append(str(gate.admit(principal)))
                    gate.spend(principal, used)
                except Refusal as refusal:
                    answers.append(f"{refusal.code} {refusal.headers}")
            assert answers[0] == answers[1]
        runner.run(shared.stop())


def test_requests_go_on_when_redis_is_killed_and_are_counted_when_it_is_back(
    own_redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        limiter = shared_limiter(own_redis, clock)
        await limiter.run()
        assert await let_in(limiter, BUSY, 20) == 20
        own_redis.kill()
        assert await let_in(limiter, BUSY, 20) == 20
        assert limiter.failing
        assert await let_in(limiter, BUSY, 30) == 20
        limiter.spend(DAILY, 1000)
        await asyncio.to_thread(own_redis.start)
        await until(lambda: not limiter.failing)
        # It had forgotten the twenty before, which a question brings back.
        assert counted(own_redis, "requests_per_minute") == 40
        assert await let_in(limiter, BUSY, 1) == 0
        assert counted(own_redis, "requests_per_minute") == 60
        assert counted(own_redis, "tokens_per_day") == 1000
        await limiter.stop()

    asyncio.run(use())
    assert [word for word in said(caplog) if word != STILL] == [AWAY, "limits are counted in Redis again"]


def test_a_redis_that_stalls_is_waited_for_once_and_what_it_did_not_confirm_counts_once(
    own_redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        limiter = shared_limiter(own_redis, clock, 0.5)
        await limiter.run()
        await limiter.admit(DAILY)
        own_redis.send(signal.SIGSTOP)
        limiter.spend(DAILY, 1000)
        assert await let_in(limiter, DAILY, 100) == 100
        assert limiter.failing
        limiter.spend(DAILY, 500)
        assert await let_in(limiter, DAILY, 100) == 100
        # Both what was sent before and what is sent again lie before it when it goes on.
        own_redis.send(signal.SIGCONT)
        await until(lambda: not limiter.failing)
        assert counted(own_redis, "tokens_per_day") == 1500
        await limiter.admit(DAILY)
        assert counted(own_redis, "tokens_per_day") == 1500
        await limiter.stop()

    asyncio.run(use())
    assert [word for word in said(caplog) if word != STILL] == [AWAY, "limits are counted in Redis again"]


def test_every_reason_why_redis_does_not_come_back_is_told_once(
    own_redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        limiter = shared_limiter(own_redis, clock)
        await limiter.run()
        with own_redis.client() as client:
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=True)
        assert await let_in(limiter, BUSY, 1) == 1
        await until(lambda: "secrets/gateway-redis-password" in caplog.text)
        own_redis.kill()
        await until(lambda: "see whether Redis runs and can be reached" in said_in_full(caplog)[-1])
        await asyncio.sleep(2.5)
        await limiter.stop()

    asyncio.run(use())
    reasons = [message.partition(":")[2] for message in said_in_full(caplog) if message.startswith((AWAY, STILL))]
    assert len(reasons) == len(set(reasons)) >= 2


def test_a_gateway_starts_without_redis_and_finds_it_later(own_redis: RedisServer, clock: Clock) -> None:
    async def use() -> None:
        own_redis.kill()
        limiter = shared_limiter(own_redis, clock)
        await limiter.run()
        assert limiter.failing
        assert await let_in(limiter, BUSY, 61) == 60
        await asyncio.to_thread(own_redis.start)
        await until(lambda: not limiter.failing)
        assert counted(own_redis, "requests_per_minute") == 60
        await limiter.stop()

    asyncio.run(use())


def test_what_is_untold_at_the_end_is_told_or_said_to_be_lost(
    own_redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> SharedLimiter:
        limiter = shared_limiter(own_redis, clock)
        await limiter.run()
        limiter.spend(DAILY, 7)
        return limiter

    async def use_and_stop() -> None:
        await (await use()).stop()

    async def use_and_stop_without_redis() -> None:
        limiter = await use()
        own_redis.kill()
        await limiter.stop()

    asyncio.run(use_and_stop())
    assert (counted(own_redis, "tokens_per_day"), said(caplog)) == (7, [])
    asyncio.run(use_and_stop_without_redis())
    assert said(caplog)[-1] == "what was counted last is lost to the limits of other gateways"


def test_many_counts_are_told_in_several_round_trips(redis: RedisServer, clock: Clock) -> None:
    async def use() -> None:
        limiter = shared_limiter(redis, clock)
        await limiter.run()
        for number in range(1200):
            limiter.spend(replace(DAILY, id=f"k{number}"), 1)
        assert await let_in(limiter, DAILY, 500) == 500
        with redis.client() as client:
            await until(lambda: len(client.keys("*tokens_per_day*")) == 1200)
        await limiter.stop()

    asyncio.run(use())


class Broken(RedisCounts):
    """Has a mistake of ours in it."""

    async def exchange(self, batch: Batch | None, questions: Sequence[Question]) -> list[list[int]]:
        raise ValueError("ours")


def test_a_mistake_of_ours_leaves_nobody_waiting_and_its_traceback_in_the_log(
    redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        limiter = SharedLimiter(Broken(redis.url, PASSWORD, "x", 20), clock)
        await limiter.run()
        assert await let_in(limiter, BUSY, 61) == 60
        assert limiter.failing
        with pytest.raises(ValueError, match="ours"):
            await limiter.stop()

    asyncio.run(use())
    assert caplog.text.count("ValueError: ours") == 1


def refusal_of(url: str, password: str = PASSWORD) -> RedisRefuses:
    async def try_it() -> None:
        await SharedLimiter(RedisCounts(url, password, "gateway-redis-password", 20)).run()

    with pytest.raises(RedisRefuses) as caught:
        asyncio.run(try_it())
    return caught.value


def test_a_wrong_password_is_told_with_its_file(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    refusal = refusal_of(redis.url, "wrong")
    assert redis.url in refusal.message
    assert "secrets/gateway-redis-password" in refusal.hint
    assert "wrong" not in refusal.message + refusal.hint + caplog.text


def test_a_number_of_a_database_that_is_not_there_is_told(redis: RedisServer) -> None:
    assert "DB index is out of range" in refusal_of(redis.url[:-1] + "99").message


def test_a_user_needs_what_the_guide_says_and_no_more(redis: RedisServer, clock: Clock) -> None:
    url = f"redis://limits@127.0.0.1:{redis.port}/1"

    async def use() -> int:
        limiter = SharedLimiter(RedisCounts(url, PASSWORD, "x", 20), clock)
        await limiter.run()
        limiter.spend(BUSY, 1)
        found = await let_in(limiter, BUSY, 61)
        await limiter.stop()
        return found

    needed = ["~aistack:*", "+select", "+evalsha", "+script|load", "+get", "+set", "+incrby", "+expire"]
    with redis.client() as client:
        for missing in needed[1:]:
            rules = [rule for rule in needed if rule != missing]
            client.execute_command("ACL", "SETUSER", "limits", "reset", "on", f">{PASSWORD}", *rules)
            assert refusal_of(url)
        client.execute_command("ACL", "SETUSER", "limits", "reset", "on", f">{PASSWORD}", *needed)
    assert asyncio.run(use()) == 60


def test_with_tls_only_a_certificate_that_the_machine_trusts_will_do(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, ("localhost",), ("127.0.0.1",), datetime.now(UTC))
    files = {"cert": "server.pem", "key": "server.key", "ca-cert": "root.pem"}
    options = [part for name, file in files.items() for part in (f"--tls-{name}-file", str(tmp_path / file))]
    port = free_port()
    url = f"rediss://127.0.0.1:{port}/0"
    greet = (
        "import asyncio, sys\nfrom aistack.gateway.redis_counts import RedisCounts\n"
        "async def greet():\n    counts = RedisCounts(*sys.argv[1:], 'x', 20)\n"
        "    await counts.greet()\n    await counts.close()\nasyncio.run(greet())"
    )

    async def greet_untrusting() -> None:
        counts = RedisCounts(url, PASSWORD, "x", 20)
        with pytest.raises(UserError, match="certificate verify failed"):
            await counts.greet()
        await counts.close()

    with running_redis(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *options):
        asyncio.run(greet_untrusting())
        trusting = {**os.environ, "SSL_CERT_FILE": str(tmp_path / "root.pem")}
        subprocess.run([sys.executable, "-c", greet, url, PASSWORD], env=trusting, check=True)
