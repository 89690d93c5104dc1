import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistack.gateway.allowances import Limits
from aistack.gateway.limits import Count, Limiter
from aistack.gateway.principals import Principal
from aistack.gateway.refusals import Refusal

START = 1_700_000_040.0  # the first second of a minute


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(clock)


def somebody(**limits: int) -> Principal:
    return Principal("key", "k1", "laptop", limits=Limits(**limits))


def admit(limiter: Limiter, principal: Principal) -> dict[bytes, bytes]:
    return dict(asyncio.run(limiter.admit(principal)))


def refused(limiter: Limiter, principal: Principal) -> tuple[str | None, int]:
    """The limit's name, and after how many seconds to come again."""
    with pytest.raises(Refusal) as caught:
        asyncio.run(limiter.admit(principal))
    assert caught.value.status == 429
    return caught.value.code, int(dict(caught.value.headers)[b"retry-after"])


def test_without_limits_nothing_is_told(limiter: Limiter) -> None:
    assert admit(limiter, somebody()) == {}


def test_so_many_requests_are_let_through_and_no_more(limiter: Limiter) -> None:
    remaining = [admit(limiter, somebody(requests_per_minute=3))[b"x-ratelimit-remaining-requests"] for _ in range(3)]
    assert remaining == [b"2", b"1", b"0"]
    assert refused(limiter, somebody(requests_per_minute=3))[0] == "requests_per_minute"


def test_one_principals_requests_are_not_anothers(limiter: Limiter) -> None:
    admit(limiter, somebody(requests_per_minute=1))
    admit(limiter, replace(somebody(requests_per_minute=1), id="k2"))
    admit(limiter, replace(somebody(requests_per_minute=1), kind="user"))


def test_the_turn_of_a_minute_gives_nobody_twice_as_much(limiter: Limiter, clock: Clock) -> None:
    clock.now = START + 59
    for _ in range(60):
        admit(limiter, somebody(requests_per_minute=60))
    clock.now = START + 61
    admit(limiter, somebody(requests_per_minute=60))
    assert refused(limiter, somebody(requests_per_minute=60))[0] == "requests_per_minute"


@given(
    most=st.integers(1, 50),
    arrivals=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=100),
)
def test_whoever_waits_as_long_as_told_is_let_in(most: int, arrivals: list[float]) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for gap in arrivals:
        clock.now += gap / 10
        try:
            admit(limiter, somebody(requests_per_minute=most))
        except Refusal:
            _, wait = refused(limiter, somebody(requests_per_minute=most))
            assert wait <= 121
            clock.now += wait
            admit(limiter, somebody(requests_per_minute=most))


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("tokens_per_minute", 60), ("tokens_per_day", 86_400), ("tokens_per_month", 2_592_000)],
)
def test_spent_tokens_count_until_their_window_has_passed(
    name: str, seconds: int, limiter: Limiter, clock: Clock
) -> None:
    principal = somebody(**{name: 100})
    admit(limiter, principal)
    limiter.spend(principal, 99)
    admit(limiter, principal)
    limiter.spend(principal, 1)
    code, wait = refused(limiter, principal)
    assert (code, wait <= seconds + 1) == (name, True)
    clock.now += wait
    admit(limiter, principal)


def test_a_refused_request_is_not_counted(limiter: Limiter) -> None:
    principal = somebody(requests_per_minute=2, tokens_per_day=10)
    limiter.spend(principal, 10)
    assert refused(limiter, principal)[0] == "tokens_per_day"
    assert admit(limiter, somebody(requests_per_minute=2))[b"x-ratelimit-remaining-requests"] == b"1"


def test_what_was_used_before_a_restart_counts_on(limiter: Limiter) -> None:
    limiter.prime("key:k1", "tokens_per_day", before=0, current=100)
    assert refused(limiter, somebody(tokens_per_day=100))[0] == "tokens_per_day"


def test_a_minutes_tokens_are_told_as_openai_tells_them(limiter: Limiter, clock: Clock) -> None:
    principal = somebody(tokens_per_minute=1000)
    assert admit(limiter, principal)[b"x-ratelimit-reset-tokens"] == b"0s"
    limiter.spend(principal, 400)
    clock.now += 15
    assert admit(limiter, principal) == {
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"600",
        b"x-ratelimit-reset-tokens": b"105s",
    }


def test_a_window_slides() -> None:
    count = Count(7, 100)
    count.roll(8)
    assert [count.used(passed) for passed in (0, 0.25, 1)] == [100, 75, 0]
    count.roll(10)
    assert count.used(0) == 0
