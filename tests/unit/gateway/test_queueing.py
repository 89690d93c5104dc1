import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.principals import Principal
from aistack.gateway.queueing import FairQueue, Place
from aistack.gateway.refusals import Refusal
from aistack.gateway.settings import Node


class Silent:
    """A peer that is never asked: the tests say themselves what its node has."""

    def __init__(self, name: str, slots: int) -> None:
        self.node = Node(name, "openai", f"http://{name}", slots=slots)


def node(name: str, slots: int = 1, *, loaded: bool = True, model: str = "m") -> NodeState:
    state = NodeState(Silent(name, slots))  # type: ignore[arg-type]
    state.up = True
    state.models = {model: Model(model, {}, {}, loaded=loaded)}
    return state


def somebody(name: str, weight: float = 1.0) -> Principal:
    return Principal("key", name, name, weight=weight)


ANNA, BERT = somebody("anna"), somebody("bert")


def queue_over(*states: NodeState, most_waiting: int = 1000) -> FairQueue:
    return FairQueue(Nodes(states), most_waiting)


async def settled() -> None:
    """All tasks have come as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Crowd:
    """Requests that wait in a queue; `served` are the names in the order in which they got a place."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.served: list[str] = []
        self.places: list[Place] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *principals: Principal) -> None:
        for principal in principals:
            self.tasks.append(asyncio.ensure_future(self._one(principal)))
        await settled()

    async def _one(self, principal: Principal) -> None:
        place = await self.queue.enter("m", principal)
        self.served.append(principal.id)
        self.places.append(place)

    async def end(self) -> list[BaseException]:
        """Nobody goes on; returns what those that were turned away were told."""
        for task in self.tasks:
            task.cancel()
        told = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [one for one in told if isinstance(one, Refusal)]

    async def finish_one(self) -> None:
        self.queue.leave(self.places.pop(0))
        await settled()


def run(scenario: Callable[[], Awaitable[Any]]) -> None:
    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


def test_somebody_new_waits_for_one_turn_however_many_another_has_in_line() -> None:
    async def scenario() -> None:
        crowd = Crowd(queue_over(node("a")))
        await crowd.ask(*[ANNA] * 200)
        await crowd.ask(BERT)
        await crowd.finish_one()
        assert crowd.served == ["anna", "bert"]

    run(scenario)


def test_those_who_wait_take_turns() -> None:
    async def scenario() -> None:
        crowd = Crowd(queue_over(node("a")))
        await crowd.ask(*[ANNA] * 4, *[BERT] * 3)
        for _ in range(6):
            await crowd.finish_one()
        assert crowd.served == ["anna", "bert", "anna", "bert", "anna", "bert", "anna"]

    run(scenario)


def test_a_weight_of_two_gets_two_turns_for_one() -> None:
    async def scenario() -> None:
        heavy = somebody("heavy", weight=2)
        crowd = Crowd(queue_over(node("a")))
        await crowd.ask(*[heavy] * 20, *[ANNA] * 20)
        for _ in range(15):
            await crowd.finish_one()
        assert crowd.served.count("heavy") == pytest.approx(2 * crowd.served.count("anna"), abs=2)

    run(scenario)


def test_a_node_is_sent_no_more_than_it_has_slots_and_the_next_goes_as_soon_as_one_is_free() -> None:
    async def scenario() -> None:
        state = node("a", slots=3)
        crowd = Crowd(queue_over(state))
        await crowd.ask(*[ANNA] * 5)
        assert (state.in_flight, crowd.queue.waiting()) == (3, {"m": 2})
        await crowd.finish_one()
        assert (state.in_flight, crowd.queue.waiting()) == (3, {"m": 1})
        for _ in range(4):
            await crowd.finish_one()
        assert (state.in_flight, crowd.queue.waiting()) == (0, {"m": 0})

    run(scenario)


def test_the_node_with_least_to_do_is_asked_by_its_share_of_slots() -> None:
    async def scenario() -> None:
        small, large = node("small", slots=1), node("large", slots=3)
        crowd = Crowd(queue_over(small, large))
        await crowd.ask(*[ANNA] * 4)
        assert (small.in_flight, large.in_flight) == (1, 3)

    run(scenario)


def test_a_node_that_has_the_model_loaded_is_preferred_until_it_is_full() -> None:
    async def scenario() -> None:
        cold, warm = node("cold", slots=2, loaded=False), node("warm", slots=2)
        crowd = Crowd(queue_over(cold, warm))
        await crowd.ask(ANNA, ANNA)
        assert (cold.in_flight, warm.in_flight) == (0, 2)
        await crowd.ask(ANNA)
        assert cold.in_flight == 1

    run(scenario)


def test_whoever_waits_goes_to_whichever_node_is_free_first() -> None:
    async def scenario() -> None:
        first, second = node("first"), node("second")
        crowd = Crowd(queue_over(first, second))
        await crowd.ask(ANNA, ANNA, BERT)
        place = next(place for place in crowd.places if place.state is second)
        crowd.queue.leave(place)
        await settled()
        assert crowd.places[-1].state is second

    run(scenario)


def test_a_client_that_leaves_the_line_frees_its_place_in_it_and_one_that_leaves_a_slot_frees_that() -> None:
    async def scenario() -> None:
        state = node("a")
        crowd = Crowd(queue_over(state))
        await crowd.ask(ANNA, ANNA, BERT)
        crowd.tasks[1].cancel()
        await settled()
        assert crowd.queue.waiting() == {"m": 1}
        # The slot is handed to bert in the very moment in which he leaves.
        crowd.queue.leave(crowd.places.pop())
        crowd.tasks[2].cancel()
        await settled()
        assert state.in_flight == 0
        await crowd.ask(ANNA)
        assert crowd.served == ["anna", "anna"]

    run(scenario)


def test_a_full_line_turns_away_whoever_has_most_in_it() -> None:
    async def scenario() -> None:
        crowd = Crowd(queue_over(node("a"), most_waiting=3))
        await crowd.ask(*[ANNA] * 4)
        with pytest.raises(Refusal) as refused:
            await crowd.queue.enter("m", ANNA)
        assert (refused.value.status, refused.value.code) == (429, "queue_full")
        assert dict(refused.value.headers)[b"retry-after"].isdigit()
        await crowd.ask(BERT)
        assert crowd.tasks[3].exception()
        await crowd.finish_one()
        assert crowd.served == ["anna", "bert"]
        assert len(await crowd.end()) == 1

    run(scenario)


def test_when_everybody_has_as_much_in_a_full_line_the_newcomer_is_turned_away() -> None:
    async def scenario() -> None:
        crowd = Crowd(queue_over(node("a"), most_waiting=2))
        await crowd.ask(ANNA, somebody("x"), somebody("y"))
        with pytest.raises(Refusal):
            await crowd.queue.enter("m", BERT)

    run(scenario)


def test_those_who_wait_for_a_node_that_dies_are_told_and_those_who_wait_for_one_that_comes_go_on() -> None:
    async def scenario() -> None:
        first, second = node("first"), node("second")
        second.up = False
        crowd = Crowd(queue_over(first, second))
        await crowd.ask(ANNA, ANNA, ANNA)
        second.up = True
        second.changed()
        await settled()
        assert second.in_flight == 1
        first.up = second.up = False
        first.changed()
        await settled()
        (told,) = await crowd.end()
        assert isinstance(told, Refusal)
        assert told.status == 503

    run(scenario)


def test_a_node_that_was_tried_is_not_tried_again_while_there_is_another_and_holds_nobody_up() -> None:
    async def scenario() -> None:
        first, second = node("first"), node("second")
        queue = queue_over(first, second)
        place = await queue.enter("m", ANNA, [first])
        assert place.state is second
        again = asyncio.ensure_future(queue.enter("m", ANNA, [first]))
        await settled()
        assert not again.done()
        assert (await queue.enter("m", BERT)).state is first
        queue.leave(place)
        assert (await again).state is second
        second.up = False
        second.changed()
        queue.leave(await again)
        last = asyncio.ensure_future(queue.enter("m", ANNA, [first]))
        await settled()
        assert not last.done()  # there is no other any more, and this one has no slot
        last.cancel()

    run(scenario)


def test_a_drained_node_gets_nothing_new_and_its_work_is_not_disturbed() -> None:
    async def scenario() -> None:
        first, second = node("first", slots=2), node("second", slots=2)
        nodes = Nodes([first, second])
        queue = FairQueue(nodes, 10)
        place = await queue.enter("m", ANNA)
        assert place.state is first
        nodes.drain({"first"})
        assert [(await queue.enter("m", ANNA)).state.name for _ in range(2)] == ["second", "second"]
        waiting = asyncio.ensure_future(queue.enter("m", ANNA))
        await settled()
        queue.leave(place)
        await settled()
        assert not waiting.done()
        nodes.drain(set())
        assert (await waiting).state is first

    run(scenario)


def test_a_node_that_fails_request_after_request_is_spared_while_there_is_another() -> None:
    async def scenario() -> None:
        first, second = node("first", slots=9), node("second", slots=9)
        first.check = second.check = settled  # type: ignore[method-assign]
        queue = queue_over(first, second)
        for _ in range(3):
            first._failures += 1
        first._rests_until = float("inf")
        assert first.resting
        assert {(await queue.enter("m", ANNA)).state.name for _ in range(5)} == {"second"}
        second.up = False
        assert (await queue.enter("m", ANNA)).state is first

    run(scenario)
