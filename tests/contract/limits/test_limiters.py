"""Limits, wherever they are counted: as many as allowed, no more, and told as OpenAI tells them."""

import asyncio
from dataclasses import replace

import pytest

from .conftest import START, Clock, Gate, somebody


def test_without_limits_nothing_is_told(gate: Gate) -> None:
    assert gate.admit(somebody()) == {}


def test_so_many_requests_are_let_through_and_no_more(gate: Gate) -> None:
    somebody_with_three = somebody(requests_per_minute=3)
    remaining = [gate.admit(somebody_with_three)[b"x-ratelimit-remaining-requests"] for _ in range(3)]
    assert remaining == [b"2", b"1", b"0"]
    assert gate.refused(somebody_with_three)[0] == "requests_per_minute"


def test_a_hundred_at_once_get_no_more_than_one_after_the_other(gate: Gate) -> None:
    async def at_once() -> list[object]:
        requests = [gate.limiter.admit(somebody(requests_per_minute=60, tokens_per_day=5)) for _ in range(100)]
        return await asyncio.gather(*requests, return_exceptions=True)

    assert sum(isinstance(answer, tuple) for answer in gate.run(at_once())) == 60


def test_one_principals_requests_are_not_anothers(gate: Gate) -> None:
    gate.admit(somebody(requests_per_minute=1))
    gate.admit(replace(somebody(requests_per_minute=1), id="k2"))
    gate.admit(replace(somebody(requests_per_minute=1), kind="user"))


def test_the_turn_of_a_minute_gives_nobody_twice_as_much(gate: Gate, clock: Clock) -> None:
    clock.now = START + 59
    for _ in range(60):
        gate.admit(somebody(requests_per_minute=60))
    clock.now = START + 61
    gate.admit(somebody(requests_per_minute=60))
    assert gate.refused(somebody(requests_per_minute=60))[0] == "requests_per_minute"


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("tokens_per_minute", 60), ("tokens_per_day", 86_400), ("tokens_per_month", 2_592_000)],
)
def test_spent_tokens_count_until_their_window_has_passed(name: str, seconds: int, gate: Gate, clock: Clock) -> None:
    principal = somebody(**{name: 100})
    gate.admit(principal)
    gate.spend(principal, 99)
    gate.admit(principal)
    gate.spend(principal, 1)
    code, wait = gate.refused(principal)
    assert (code, wait <= seconds + 1) == (name, True)
    clock.now += wait
    gate.admit(principal)


def test_a_refused_request_is_not_counted(gate: Gate) -> None:
    principal = somebody(requests_per_minute=2, tokens_per_day=10)
    gate.spend(principal, 10)
    assert gate.refused(principal)[0] == "tokens_per_day"
    assert gate.admit(somebody(requests_per_minute=2))[b"x-ratelimit-remaining-requests"] == b"1"


def test_what_was_used_before_a_restart_counts_on(gate: Gate) -> None:
    gate.limiter.prime("key:k1", "tokens_per_day", before=0, current=100)
    assert gate.refused(somebody(tokens_per_day=100))[0] == "tokens_per_day"


def test_a_minutes_tokens_are_told_as_openai_tells_them(gate: Gate, clock: Clock) -> None:
    principal = somebody(tokens_per_minute=1000)
    assert gate.admit(principal)[b"x-ratelimit-reset-tokens"] == b"0s"
    gate.spend(principal, 400)
    clock.now += 15
    assert gate.admit(principal) == {
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"600",
        b"x-ratelimit-reset-tokens": b"105s",
    }
