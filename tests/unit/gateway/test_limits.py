"""The arithmetic of limits; what limiters do, in memory and in Redis: tests/contract/limits."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from aistack.gateway.allowances import Limits
from aistack.gateway.limits import Limiter
from aistack.gateway.principals import Principal
from aistack.gateway.refusals import Refusal
from aistack.gateway.windows import Count


@given(
    most=st.integers(1, 50),
    arrivals=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=100),
)
def test_whoever_waits_as_long_as_told_is_let_in(most: int, arrivals: list[float]) -> None:
    now = 1_700_000_040.0
    limiter = Limiter(lambda: now)
    principal = Principal("key", "k1", "laptop", limits=Limits(requests_per_minute=most))
    for gap in arrivals:
        now += gap / 10
        try:
            asyncio.run(limiter.admit(principal))
        except Refusal as refusal:
            wait = int(dict(refusal.headers)[b"retry-after"])
            assert wait <= 121
            now += wait
            asyncio.run(limiter.admit(principal))


def test_a_window_slides() -> None:
    count = Count(7, 100)
    count.roll(8)
    assert [count.used(passed) for passed in (0, 0.25, 1)] == [100, 75, 0]
    count.roll(10)
    assert count.used(0) == 0
